"""Scripts that run inside images, with the image's own Python: the standard library alone, nothing of this tool."""
