"""Where the elements of a tensor are moved, and how to move them less."""

PASSES = {
    "merge-slices": "passes.layout.merge_slices:MergeSlices",
    "merge-views": "passes.layout.merge_views:MergeViews",
    "move-transposes": "passes.layout.move_transposes:MoveTransposes",
    "move-transposes-rounding": "passes.layout.move_transposes_rounding:MoveTransposesRounding",
    "reshapes-around-matmul": "passes.layout.reshapes_around_matmul:ReshapesAroundMatmul",
}
"""By name, imported when a pipeline asks for it."""
