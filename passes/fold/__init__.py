"""What can be computed once, ahead of every run: constants."""

from passes.fold.batchnorm import FoldBatchnorm
from passes.fold.constants import FoldConstants
from passes.fold.merge_linear import MergeLinear
from passes.fold.pads import FoldPad
from passes.fold.reassociate import Reassociate
from passes.fold.scale_bias import FoldScaleBias

PASSES = (FoldBatchnorm, FoldConstants, FoldPad, FoldScaleBias, MergeLinear, Reassociate)
