"""What a run is told: settings, folders, and words of the command line that several rooms read."""
