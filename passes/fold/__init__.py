"""What can be computed once, ahead of every run: constants, branches and loops, sequences that are known."""

PASSES = {
    "fold-batchnorm": "passes.fold.batchnorm:FoldBatchnorm",
    "fold-constants": "passes.fold.constants:FoldConstants",
    "fold-pad": "passes.fold.pads:FoldPad",
    "fold-scale-bias": "passes.fold.scale_bias:FoldScaleBias",
    "inline-branches": "passes.fold.inline_branches:InlineBranches",
    "merge-linear": "passes.fold.merge_linear:MergeLinear",
    "reassociate": "passes.fold.reassociate:Reassociate",
    "resolve-sequences": "passes.fold.resolve_sequences:ResolveSequences",
    "scale-after-sum": "passes.fold.scale_after_sum:ScaleAfterSum",
    "shape-arithmetic": "passes.fold.shape_arithmetic:ShapeArithmetic",
    "unroll-loops": "passes.fold.unroll_loops:UnrollLoops",
}
"""By name, imported when a pipeline asks for it."""
