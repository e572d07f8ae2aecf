"""A stand-in for a vLLM base image: the same places, names and API, no torch, up in a moment.

It can be told to be broken in one way: ``STANDIN_FAULT`` names a fault of :mod:`tests.standin.faults`.
"""
