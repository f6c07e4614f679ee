"""Several nodes become one."""

from graphopt.pipeline.protocol import Pass

PASSES: tuple[type[Pass], ...] = ()
