"""Fewer bits for weights: integers and a scale in place of floating-point numbers."""

PASSES = {
    "adaround": "passes.quantize.adaround:AdaRound",
    "dynamic-int8": "passes.quantize.dynamic_int8:DynamicInt8",
    "gptq": "passes.quantize.gptq:Gptq",
    "half-precision": "passes.quantize.half_precision:HalfPrecision",
    "hqq": "passes.quantize.hqq:Hqq",
    "static-int8": "passes.quantize.static_int8:StaticInt8",
    "weight-fixed-point": "passes.quantize.weight_fixed_point:WeightFixedPoint",
    "weight-half": "passes.quantize.weight_half:WeightHalf",
    "weight-int16": "passes.quantize.weight_int16:WeightInt16",
    "weight-int2": "passes.quantize.weight_int2:WeightInt2",
    "weight-int4": "passes.quantize.weight_int4:WeightInt4",
    "weight-int8": "passes.quantize.weight_int8:WeightInt8",
}
"""By name, imported when a pipeline asks for it."""
