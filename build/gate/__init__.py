"""Verdicts, the smoke run that gives them, and the push that asks for them."""
