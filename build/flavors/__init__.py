"""The flavors of bases: cpu from released parts, cuda from llm-d's tree."""
