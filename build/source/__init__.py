"""Commits of vLLM from local repositories, GitHub, releases and working trees. No other room runs git."""
