"""What the suite is told, and a run of it against an image or an address."""
