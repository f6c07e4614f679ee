"""Zeros in place of the weights that matter least."""

from passes.prune.magnitude import Magnitude

PASSES = (Magnitude,)
