"""Noise on weights, to learn what they tolerate."""

PASSES: dict[str, str] = {}
"""By name, imported when a pipeline asks for it."""
