"""What an image holds, looked at without starting its server."""
