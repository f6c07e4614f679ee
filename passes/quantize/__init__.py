"""Fewer bits for weights: integers and a scale in place of floating-point numbers."""

PASSES = {
    "static-int8": "passes.quantize.static_int8:StaticInt8",
    "weight-int8": "passes.quantize.weight_int8:WeightInt8",
    "weight-fixed-point": "passes.quantize.weight_fixed_point:WeightFixedPoint",
}
"""By name, imported when a pipeline asks for it."""
