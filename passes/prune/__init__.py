"""Zeros in place of the weights that matter least."""

PASSES = {
    "influence": "passes.prune.influence:Influence",
    "magnitude": "passes.prune.magnitude:Magnitude",
}
"""By name, imported when a pipeline asks for it."""
