"""How fast and how small: ratios of one run, for people; no test asserts a time."""
