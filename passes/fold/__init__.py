"""What can be computed once, ahead of every run: constants, branches and loops, sequences that are known."""

from passes.fold.constants import FoldConstants
from passes.fold.inline_branches import InlineBranches
from passes.fold.resolve_sequences import ResolveSequences
from passes.fold.unroll_loops import UnrollLoops

PASSES = (FoldConstants, InlineBranches, ResolveSequences, UnrollLoops)
