"""Which GPUs a run gets, whether the driver will do, and what an image sees of them."""
