"""Fewer bits for weights: integers and a scale in place of floating-point numbers."""

PASSES = {
    "bias-correction": "passes.quantize.bias_correction:BiasCorrection",
    "half-precision": "passes.quantize.half_precision:HalfPrecision",
    "ort-gather-block-quantized": "passes.quantize.ort_gather_block_quantized:OrtGatherBlockQuantized",
    "ort-matmul-nbits": "passes.quantize.ort_matmul_nbits:OrtMatMulNBits",
    "integer-hard-swish": "passes.quantize.integer_hard_swish:IntegerHardSwish",
    "refit": "passes.quantize.refit:Refit",
    "scalars-into-grids": "passes.quantize.scalars_into_grids:ScalarsIntoGrids",
    "packed-tables": "passes.quantize.packed_tables:PackedTables",
    "static-int8": "passes.quantize.static_int8:StaticInt8",
    "weight-half": "passes.quantize.weight_half:WeightHalf",
    "adaround": "passes.quantize.adaround:AdaRound",
    "dequantize-as-cast": "passes.quantize.dequantize_as_cast:DequantizeAsCast",
    "dynamic-int8": "passes.quantize.dynamic_int8:DynamicInt8",
    "gptq": "passes.quantize.gptq:Gptq",
    "hqq": "passes.quantize.hqq:Hqq",
    "smooth": "passes.quantize.smooth:Smooth",
    "weight-codebook": "passes.quantize.weight_codebook:WeightCodebook",
    "weight-fixed-point": "passes.quantize.weight_fixed_point:WeightFixedPoint",
    "weight-fp8": "passes.quantize.weight_fp8:WeightFp8",
    "weight-int16": "passes.quantize.weight_int16:WeightInt16",
    "weight-int2": "passes.quantize.weight_int2:WeightInt2",
    "weight-int4": "passes.quantize.weight_int4:WeightInt4",
    "weight-mx": "passes.quantize.weight_mx:WeightMx",
    "weight-int8": "passes.quantize.weight_int8:WeightInt8",
}
"""By name, imported when a pipeline asks for it."""
