"""What can be computed once, ahead of every run: constants."""

from passes.fold.batchnorm import FoldBatchnorm
from passes.fold.constants import FoldConstants
from passes.fold.pads import FoldPad
from passes.fold.reassociate import Reassociate
from passes.fold.scale_bias import FoldScaleBias
from passes.fold.shape_arithmetic import ShapeArithmetic

PASSES = (
    FoldBatchnorm,
    FoldConstants,
    FoldPad,
    FoldScaleBias,
    Reassociate,
    ShapeArithmetic,
)
