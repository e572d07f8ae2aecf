"""Judges images: ``pytest smoke --image IMAGE`` starts one image for real and talks to it.

The checks are in ``test_<tier>_*.py``, cheapest tier first; a tier that fails keeps the later ones from
running. A check's docstring is its contract.
"""
