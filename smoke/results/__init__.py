"""Findings, the summary, and the report."""
