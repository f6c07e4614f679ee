"""Where the elements of a tensor are moved, and how to move them less."""

from passes.layout.merge_slices import MergeSlices
from passes.layout.merge_views import MergeViews
from passes.layout.move_transposes import MoveTransposes
from passes.layout.move_transposes_rounding import MoveTransposesRounding
from passes.layout.reshapes_around_matmul import ReshapesAroundMatmul

PASSES = (MergeSlices, MergeViews, MoveTransposes, MoveTransposesRounding, ReshapesAroundMatmul)
