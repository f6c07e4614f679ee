"""Fewer bits for weights: integers and a scale in place of floating-point numbers."""

PASSES = {
    "dequantize-as-cast": "passes.quantize.dequantize_as_cast:DequantizeAsCast",
    "weight-codebook": "passes.quantize.weight_codebook:WeightCodebook",
    "weight-int16": "passes.quantize.weight_int16:WeightInt16",
    "weight-int8": "passes.quantize.weight_int8:WeightInt8",
    "weight-fixed-point": "passes.quantize.weight_fixed_point:WeightFixedPoint",
}
"""By name, imported when a pipeline asks for it."""
