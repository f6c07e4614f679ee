"""Where the elements of a tensor are moved, and how to move them less."""

from graphopt.pipeline.protocol import Pass

PASSES: tuple[type[Pass], ...] = ()
