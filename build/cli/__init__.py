"""The command line: one module per verb, and the errors' text and exit codes. No other room parses arguments."""
