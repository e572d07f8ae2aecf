"""The package index: listings, downloads, and access from builds."""
