# An image with one label more, which says what it holds (build/identity.py): no step, no layer.

ARG BASE
# hadolint ignore=DL3006
FROM ${BASE}
