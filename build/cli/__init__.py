"""Words in, words and exit codes out: one module a verb. No other room reads the command line."""
