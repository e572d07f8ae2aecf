"""The way from a base and a target to an overlay image: delta, choice, plan, layer."""
