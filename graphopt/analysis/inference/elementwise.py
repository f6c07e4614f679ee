"""Operators that keep the shape of an input, or broadcast several."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

from onnx import TensorProto

from graphopt.analysis.dim_functions import broadcast
from graphopt.analysis.dims import Dim
from graphopt.analysis.inference.fact import Call, Dims, Fact, Rule, Unknown

_BROADCASTS_SINCE = 7  # before that one operand may only be spread over the other
_VARIADIC_BROADCASTS_SINCE = 8

_SAME = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Affine Celu Ceil Clip Cos Cosh Elu Erf Exp Floor Gelu "
    "HardSigmoid HardSwish Hardmax Identity ImageScaler LRN LeakyRelu Log LogSoftmax LpNormalization "
    "MeanVarianceNormalization Mish Neg Not PRelu ParametricSoftplus Reciprocal Relu Round ScaledTanh Selu "
    "Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu "
    "InstanceNormalization GroupNormalization CumSum CumProd Trilu ReverseSequence Scatter ScatterElements "
    "ScatterND BitwiseNot RMSNormalization TensorScatter "
)
_MATH = "Add Sub Mul Div Pow Mod BitShift BitwiseAnd BitwiseOr BitwiseXor And Or Xor"
_COMPARE = "Equal Greater GreaterOrEqual Less LessOrEqual"
_VARIADIC = "Max Min Mean Sum"


def joined(*shapes: Dims) -> Dims:
    """The shape of operands that are broadcast together. Raises Unknown where they cannot be."""
    first = shapes[0]
    if all(one == first for one in shapes[1:]):
        return first
    for other in shapes[1:]:
        pairs = zip_longest(reversed(first), reversed(other), fillvalue=1)
        first = tuple(reversed([_joined(one, two) for one, two in pairs]))
    return first


def _joined(one: Dim, two: Dim) -> Dim:
    found = broadcast(one, two)
    if found is None:
        raise Unknown
    return found


def same(call: Call) -> Fact:
    """Dtype and dims of the first input."""
    first = call.fact(0)
    return Fact(first.dtype, first.dims)


def _typed(dtype: int) -> Rule:
    return lambda call: Fact(dtype, call.fact(0).dims)


def _spread(call: Call, dtype: int, slots: range | tuple[int, ...]) -> Fact:
    facts = [call.fact(slot) for slot in slots]
    if any(one.dims is None for one in facts):
        return Fact(dtype)
    try:
        return Fact(dtype, joined(*(one.dims for one in facts if one.dims is not None)))
    except Unknown:
        return Fact(dtype)


def _math(call: Call) -> Fact:
    if call.opset < _BROADCASTS_SINCE:
        return same(call)
    return _spread(call, call.dtype(0) or (call.dtype(1) if call.op != "Pow" else 0), (0, 1))


def _compare(call: Call) -> Fact:
    if call.opset < _BROADCASTS_SINCE:
        return Fact(TensorProto.BOOL, call.fact(0).dims)
    return _spread(call, TensorProto.BOOL, (0, 1))


def _variadic(call: Call) -> Fact:
    dtype = next((one.dtype for one in call.inputs if one is not None and one.dtype), 0)
    if call.opset < _VARIADIC_BROADCASTS_SINCE:
        return Fact(dtype, call.fact(0).dims)
    return _spread(call, dtype, range(len(call.inputs)))


def _where(call: Call) -> Fact:
    return _spread(call, call.dtype(1) or call.dtype(2), (0, 1, 2))


def _cast(call: Call) -> Fact:
    to = call.attrs.get("to", 0)
    if isinstance(to, str | bytes):  # opset 1 names the type
        to = TensorProto.DataType.Value(to.decode() if isinstance(to, bytes) else to)
    return Fact(to if isinstance(to, int) else 0, call.fact(0).dims)


def _like(call: Call) -> Fact:
    dtype = call.attrs.get("dtype", 0)
    return Fact(dtype if isinstance(dtype, int) and dtype else call.dtype(0), call.fact(0).dims)


def _dropout(call: Call) -> list[Fact]:
    first = same(call)
    return [first, Fact(TensorProto.BOOL if call.opset >= 10 else first.dtype, first.dims)]


def _batch_normalization(call: Call) -> list[Fact]:
    found = [same(call)]
    if call.count == 3 and call.opset >= 14:
        found += [Fact(call.dtype(slot), call.fact(slot).dims) for slot in (3, 4)]
    return found


def _layer_normalization(call: Call) -> list[Fact]:
    first, stash = same(call), call.integer("stash_type", 1)
    if first.dims is None or call.count == 1:
        return [first]
    axis = call.integer("axis", -1) % max(len(first.dims), 1)
    left = Fact(stash, (*first.dims[:axis], *(1 for _ in first.dims[axis:])))
    return [first, left, left]


def _quantize(call: Call) -> Fact:
    dtype = call.integer("output_dtype", 0) or (call.dtype(2) if call.given(2) else TensorProto.UINT8)
    return Fact(dtype, call.fact(0).dims)


def _dequantize(call: Call) -> Fact:
    dtype = call.integer("output_dtype", 0) or (TensorProto.FLOAT if call.opset < 19 else call.dtype(1))
    return Fact(dtype, call.fact(0).dims)


def _dynamic_quantize(call: Call) -> list[Fact]:
    return [
        Fact(TensorProto.UINT8, call.fact(0).dims),
        Fact(TensorProto.FLOAT, ()),
        Fact(TensorProto.UINT8, ()),
    ]


def _typed_like(call: Call) -> Fact:
    return Fact(call.dtype(1), call.fact(0).dims)


def _quantized_math(call: Call) -> Fact:
    """QLinearAdd and QLinearMul: operand, scale, zero point of each."""
    return _spread(call, call.dtype(0), (0, 3))


def _skip_normalization(call: Call) -> list[Fact]:
    """The fourth output is the sum that is normalized."""
    made = Fact(call.dtype(0), call.dims(0))
    return [made, Fact(), Fact(), made]


_Table = dict[str, Callable[[Call], "Fact | list[Fact]"]]

RULES: _Table = {
    **dict.fromkeys(_SAME.split(), same),
    **dict.fromkeys(_MATH.split(), _math),
    **dict.fromkeys(_COMPARE.split(), _compare),
    **dict.fromkeys(_VARIADIC.split(), _variadic),
    **dict.fromkeys(("IsNaN", "IsInf"), _typed(TensorProto.BOOL)),
    **dict.fromkeys(("RandomNormalLike", "RandomUniformLike", "EyeLike", "Bernoulli"), _like),
    "Where": _where,
    "Cast": _cast,
    "CastLike": _typed_like,
    "Dropout": _dropout,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic_quantize,
}
"""Of ONNX's default domain."""

CONTRIB: _Table = {
    **dict.fromkeys(("FastGelu", "Gelu", "BiasGelu", "QuickGelu"), same),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), same),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), _quantized_math),
    "QuantizeLinear": lambda call: Fact(call.dtype(2) if call.given(2) else TensorProto.UINT8, call.fact(0).dims),
    "DequantizeLinear": _typed_like,
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_normalization),
    "SimplifiedLayerNormalization": same,
}
"""Of onnxruntime's domain com.microsoft, where the rule is plain."""
