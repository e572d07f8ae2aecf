"""A nightly from start to end, its record and log, and what is removed afterwards."""
