"""Facts about vLLM's source tree, each with its version and file. Look here when vLLM changes."""
