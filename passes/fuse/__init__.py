"""Several nodes become one."""

from graphopt.pipeline.protocol import Pass
from passes.fuse import onnxruntime
from passes.fuse.gelu import Gelu
from passes.fuse.hard_swish import HardSwish
from passes.fuse.instance_normalization import InstanceNormalization
from passes.fuse.layer_normalization import LayerNormalization
from passes.fuse.log_softmax import LogSoftmax
from passes.fuse.matmul_add_to_gemm import MatmulAddToGemm
from passes.fuse.merge_parallel_linears import MergeParallelLinears
from passes.fuse.mish import Mish
from passes.fuse.nested_concat import NestedConcat
from passes.fuse.one_hot_cast import OneHotCast
from passes.fuse.rms_normalization import RmsNormalization
from passes.fuse.split_gather_concat import SplitGatherConcat

PASSES: tuple[type[Pass], ...] = (
    Gelu,
    HardSwish,
    InstanceNormalization,
    LayerNormalization,
    LogSoftmax,
    MatmulAddToGemm,
    MergeParallelLinears,
    Mish,
    NestedConcat,
    OneHotCast,
    RmsNormalization,
    SplitGatherConcat,
    *onnxruntime.PASSES,
)
