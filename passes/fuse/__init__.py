"""Several nodes become one."""

from passes.fuse import onnxruntime
from passes.fuse.gelu import Gelu
from passes.fuse.hard_swish import HardSwish
from passes.fuse.layer_normalization import LayerNormalization
from passes.fuse.matmul_add_to_gemm import MatmulAddToGemm
from passes.fuse.merge_parallel_linears import MergeParallelLinears
from passes.fuse.split_gather_concat import SplitGatherConcat

PASSES = (
    *onnxruntime.PASSES,
    Gelu,
    HardSwish,
    LayerNormalization,
    MatmulAddToGemm,
    MergeParallelLinears,
    SplitGatherConcat,
)
