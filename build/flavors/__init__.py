"""How bases are built: cpu from released parts, cuda from llm-d's tree."""
