"""Zeros in place of the weights that matter least."""

PASSES = {
    "channels": "passes.prune.channels:Channels",
    "magnitude": "passes.prune.magnitude:Magnitude",
    "neurons": "passes.prune.neurons:Neurons",
    "repair": "passes.prune.repair:Repair",
    "blocks": "passes.prune.blocks:Blocks",
    "operators": "passes.prune.operators:Operators",
}
"""By name, imported when a pipeline asks for it."""
