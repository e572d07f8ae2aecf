"""Sealed base images: what they hold, how they are sealed, which flavor is meant. `inside` runs in images."""
