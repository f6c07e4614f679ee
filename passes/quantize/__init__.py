"""Fewer bits for weights: integers and a scale in place of floating-point numbers."""

PASSES = {
    "dynamic-int8": "passes.quantize.dynamic_int8:DynamicInt8",
    "smooth": "passes.quantize.smooth:Smooth",
    "weight-int8": "passes.quantize.weight_int8:WeightInt8",
    "weight-fixed-point": "passes.quantize.weight_fixed_point:WeightFixedPoint",
}
"""By name, imported when a pipeline asks for it."""
