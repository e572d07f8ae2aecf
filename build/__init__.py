"""The builder of images: bases, and overlays of a vLLM commit on top of them."""
