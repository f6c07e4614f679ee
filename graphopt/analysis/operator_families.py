"""Operators of ONNX's default domain by what they do with axes. Source: the ONNX operator specifications."""

from __future__ import annotations


def _named(*lines: str) -> frozenset[str]:
    return frozenset(name for line in lines for name in line.split())


UNARY = _named(
    "Abs Acos Asin Atan Cast Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity",
    "IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt",
    "Tan Tanh ThresholdedRelu",
)
"""Every output has the shape of the first input, and each element depends on one of it."""

BROADCAST = _named(
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum"
)
BROADCAST |= _named("Where Xor")
"""Inputs are broadcast together, and each element of the output depends on one of each."""

SAMPLES_FIRST = _named(
    "AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool GlobalMaxPool",
    "InstanceNormalization LRN LpPool MaxPool SpaceToDepth",
)
"""The first axis of input and output counts samples."""

REDUCTIONS = _named("ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd")
REDUCTIONS |= _named("ReduceSum ReduceSumSquare")
"""Some axes, an attribute or the second input, are reduced."""

SOFTMAXES = _named("Hardmax LogSoftmax Softmax")
"""One axis is normalized; before opset 13 all from one on, as if they were one."""
