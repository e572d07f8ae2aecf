"""Sealed base images: contents, sealing, choice of flavor. The scripts in `inside` run in images."""
