"""Commits of vLLM: local repositories, GitHub, releases, working trees. No other room runs git."""
