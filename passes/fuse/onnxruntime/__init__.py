"""Operators of onnxruntime take the place of several nodes of ONNX: for `--target onnxruntime`."""

from graphopt.pipeline.protocol import Pass
from passes.fuse.onnxruntime.conv import OrtConv
from passes.fuse.onnxruntime.dynamic_quantization import OrtDynamicQuantization
from passes.fuse.onnxruntime.gelu import OrtGelu
from passes.fuse.onnxruntime.gemm import OrtGemm
from passes.fuse.onnxruntime.layer_normalization import OrtSkipLayerNormalization
from passes.fuse.onnxruntime.matmul import OrtMatmul
from passes.fuse.onnxruntime.qlinear import OrtQlinear
from passes.fuse.onnxruntime.quantized_moves import QuantizedMoves

PASSES: tuple[type[Pass], ...] = (
    OrtConv,
    OrtDynamicQuantization,
    OrtGelu,
    OrtGemm,
    OrtMatmul,
    OrtQlinear,
    OrtSkipLayerNormalization,
    QuantizedMoves,
)
