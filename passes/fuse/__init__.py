"""Several nodes become one."""

from passes.fuse.hard_swish import HardSwish
from passes.fuse.matmul_add_to_gemm import MatmulAddToGemm

PASSES = (HardSwish, MatmulAddToGemm)
