"""Weights fitted to what the original model computes."""

PASSES: dict[str, str] = {}
"""By name, imported when a pipeline asks for it."""
