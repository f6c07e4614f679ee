"""Zeros in place of the weights that matter least, and less to compute: channels, neurons, operators, blocks, rows."""

PASSES = {
    "blocks": "passes.prune.blocks:Blocks",
    "channels": "passes.prune.channels:Channels",
    "heads": "passes.prune.heads:Heads",
    "influence": "passes.prune.influence:Influence",
    "embedding-rows": "passes.prune.embedding_rows:EmbeddingRows",
    "kernels": "passes.prune.kernels:Kernels",
    "low-rank": "passes.prune.low_rank:LowRank",
    "magnitude": "passes.prune.magnitude:Magnitude",
    "neurons": "passes.prune.neurons:Neurons",
    "operators": "passes.prune.operators:Operators",
}
"""By name, imported when a pipeline asks for it."""
