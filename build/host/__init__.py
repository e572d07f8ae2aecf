"""This machine: programs, locks, files, time, packages. No other room starts a program."""
