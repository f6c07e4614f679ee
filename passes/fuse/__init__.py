"""Several nodes become one."""

from graphopt.pipeline.protocol import Pass
from passes.fuse import onnxruntime

PASSES: tuple[type[Pass], ...] = (*onnxruntime.PASSES,)
