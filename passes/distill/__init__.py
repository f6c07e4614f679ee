"""Weights fitted to what the original model computes."""

PASSES = {
    "distill": "passes.distill.distill:Distill",
}
"""By name, imported when a pipeline asks for it."""
