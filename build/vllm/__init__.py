"""Facts about vLLM's source tree, each with its version and file. Check them when vLLM changes."""
