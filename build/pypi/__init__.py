"""The package index: what it lists, downloads, and how builds reach it."""
