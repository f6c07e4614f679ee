"""Weights fitted to what the original model computes."""

PASSES = {
    "distill": "passes.distill.distill:Distill",
    "reconstruct": "passes.distill.reconstruct:Reconstruct",
}
"""By name, imported when a pipeline asks for it."""
