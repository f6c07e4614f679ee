"""Fewer bits for weights: integers and a scale in place of floating-point numbers."""

from passes.quantize.weight_fixed_point import WeightFixedPoint
from passes.quantize.weight_int8 import WeightInt8

PASSES = (WeightInt8, WeightFixedPoint)
