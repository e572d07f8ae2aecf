"""The inputs of a run: settings, folders, and command-line values that several rooms read."""
