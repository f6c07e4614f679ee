"""What can be computed once, ahead of every run: constants, branches and loops, sequences that are known."""

from passes.fold.batchnorm import FoldBatchnorm
from passes.fold.constants import FoldConstants
from passes.fold.inline_branches import InlineBranches
from passes.fold.merge_linear import MergeLinear
from passes.fold.pads import FoldPad
from passes.fold.reassociate import Reassociate
from passes.fold.resolve_sequences import ResolveSequences
from passes.fold.scale_bias import FoldScaleBias
from passes.fold.shape_arithmetic import ShapeArithmetic
from passes.fold.unroll_loops import UnrollLoops

PASSES = (
    FoldBatchnorm,
    FoldConstants,
    FoldPad,
    FoldScaleBias,
    InlineBranches,
    MergeLinear,
    Reassociate,
    ResolveSequences,
    ShapeArithmetic,
    UnrollLoops,
)
