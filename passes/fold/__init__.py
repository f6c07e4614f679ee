"""What can be computed once, ahead of every run: constants."""

from passes.fold.constants import FoldConstants
from passes.fold.shape_arithmetic import ShapeArithmetic

PASSES = (FoldConstants, ShapeArithmetic)
