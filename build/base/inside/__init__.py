"""Scripts that run inside images, with the image's own Python: standard library only, no import of ours."""
