"""A stand-in for a vLLM base image: the same places, names and API, no torch, up in a moment.

It can be told to be broken: ``STANDIN_FAULT`` names faults of :mod:`tests.standin.faults`, by commas.
"""
