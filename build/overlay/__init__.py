"""From a base and a target to an overlay image: delta, choice, plan, layer."""
