"""Verdicts, the smoke runs that give them, and the push that requires them."""
