"""Several nodes become one."""

PASSES = {
    "attention": "passes.fuse.attention:Attention",
    "ort-attention": "passes.fuse.onnxruntime.attention:OrtAttention",
    "ort-attention-projections": "passes.fuse.onnxruntime.attention_projections:OrtAttentionProjections",
    "ort-conv": "passes.fuse.onnxruntime.conv:OrtConv",
    "ort-dynamic-quantization": "passes.fuse.onnxruntime.dynamic_quantization:OrtDynamicQuantization",
    "ort-gelu": "passes.fuse.onnxruntime.gelu:OrtGelu",
    "ort-gemm": "passes.fuse.onnxruntime.gemm:OrtGemm",
    "ort-matmul": "passes.fuse.onnxruntime.matmul:OrtMatmul",
    "ort-qlinear": "passes.fuse.onnxruntime.qlinear:OrtQlinear",
    "ort-skip-layer-normalization": "passes.fuse.onnxruntime.layer_normalization:OrtSkipLayerNormalization",
    "quantized-moves": "passes.fuse.onnxruntime.quantized_moves:QuantizedMoves",
    "gelu": "passes.fuse.gelu:Gelu",
    "hard-swish": "passes.fuse.hard_swish:HardSwish",
    "instance-normalization": "passes.fuse.instance_normalization:InstanceNormalization",
    "layer-normalization": "passes.fuse.layer_normalization:LayerNormalization",
    "log-softmax": "passes.fuse.log_softmax:LogSoftmax",
    "matmul-add-to-gemm": "passes.fuse.matmul_add_to_gemm:MatmulAddToGemm",
    "merge-parallel-linears": "passes.fuse.merge_parallel_linears:MergeParallelLinears",
    "mish": "passes.fuse.mish:Mish",
    "nested-concat": "passes.fuse.nested_concat:NestedConcat",
    "one-hot-cast": "passes.fuse.one_hot_cast:OneHotCast",
    "rms-normalization": "passes.fuse.rms_normalization:RmsNormalization",
    "split-gather-concat": "passes.fuse.split_gather_concat:SplitGatherConcat",
}
"""By name, imported when a pipeline asks for it."""
