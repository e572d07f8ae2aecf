"""Scripts that run inside images, with the image's own Python: importing the standard library only."""
