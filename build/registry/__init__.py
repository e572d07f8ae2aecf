"""Image registries over HTTP, and the embedded registry. No other room contacts a registry."""
