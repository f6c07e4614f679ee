"""What can be computed once, ahead of every run: constants."""

from passes.fold.constants import FoldConstants

PASSES = (FoldConstants,)
