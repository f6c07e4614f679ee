"""What can be computed once, ahead of every run: constants, and the branches that are always taken."""

from passes.fold.constants import FoldConstants
from passes.fold.inline_branches import InlineBranches

PASSES = (FoldConstants, InlineBranches)
