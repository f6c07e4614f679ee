"""What changes how a model is written, not what it computes."""

from graphopt.pipeline.protocol import Pass

PASSES: tuple[type[Pass], ...] = ()
