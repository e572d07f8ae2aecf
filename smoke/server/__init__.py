"""The server under test: how it is started, spoken to, and which model it serves."""
