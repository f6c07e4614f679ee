"""Fewer bits for weights: integers and a scale in place of floating-point numbers."""

PASSES = {
    "half-precision": "passes.quantize.half_precision:HalfPrecision",
    "ort-gather-block-quantized": "passes.quantize.ort_gather_block_quantized:OrtGatherBlockQuantized",
    "ort-matmul-nbits": "passes.quantize.ort_matmul_nbits:OrtMatMulNBits",
    "integer-hard-swish": "passes.quantize.integer_hard_swish:IntegerHardSwish",
    "scalars-into-grids": "passes.quantize.scalars_into_grids:ScalarsIntoGrids",
    "static-int8": "passes.quantize.static_int8:StaticInt8",
    "weight-half": "passes.quantize.weight_half:WeightHalf",
    "dequantize-as-cast": "passes.quantize.dequantize_as_cast:DequantizeAsCast",
    "dynamic-int8": "passes.quantize.dynamic_int8:DynamicInt8",
    "smooth": "passes.quantize.smooth:Smooth",
    "weight-int8": "passes.quantize.weight_int8:WeightInt8",
    "adaround": "passes.quantize.adaround:AdaRound",
    "gptq": "passes.quantize.gptq:Gptq",
    "hqq": "passes.quantize.hqq:Hqq",
    "weight-codebook": "passes.quantize.weight_codebook:WeightCodebook",
    "weight-fixed-point": "passes.quantize.weight_fixed_point:WeightFixedPoint",
    "weight-int16": "passes.quantize.weight_int16:WeightInt16",
    "weight-int2": "passes.quantize.weight_int2:WeightInt2",
    "weight-int4": "passes.quantize.weight_int4:WeightInt4",
}
"""By name, imported when a pipeline asks for it."""
