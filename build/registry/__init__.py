"""Image registries over HTTP, and the embedded one. No other room speaks to a registry."""
