"""Zeros in place of the weights that matter least."""

PASSES = {
    "blocks": "passes.prune.blocks:Blocks",
    "embedding-rows": "passes.prune.embedding_rows:EmbeddingRows",
    "magnitude": "passes.prune.magnitude:Magnitude",
    "operators": "passes.prune.operators:Operators",
}
"""By name, imported when a pipeline asks for it."""
