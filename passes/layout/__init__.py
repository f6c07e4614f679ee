"""Where the elements of a tensor are moved, and how to move them less."""

from passes.layout.merge_views import MergeViews

PASSES = (MergeViews,)
