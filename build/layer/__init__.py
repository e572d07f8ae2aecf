"""The bytes of a layer: archives and git directories. Nothing here knows an engine."""
