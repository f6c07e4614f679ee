"""Fewer bits for weights: integers and a scale in place of floating-point numbers."""

PASSES = {
    "bias-correction": "passes.quantize.bias_correction:BiasCorrection",
    "half-precision": "passes.quantize.half_precision:HalfPrecision",
    "static-int8": "passes.quantize.static_int8:StaticInt8",
    "weight-half": "passes.quantize.weight_half:WeightHalf",
    "weight-int8": "passes.quantize.weight_int8:WeightInt8",
    "weight-fixed-point": "passes.quantize.weight_fixed_point:WeightFixedPoint",
}
"""By name, imported when a pipeline asks for it."""
