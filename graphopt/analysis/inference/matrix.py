"""Matrix products, reductions, recurrent layers."""

from __future__ import annotations

from onnx import TensorProto

from graphopt.analysis.dim_functions import broadcast, divide
from graphopt.analysis.dims import Dim
from graphopt.analysis.inference.elementwise import joined
from graphopt.analysis.inference.fact import Call, Dims, Fact, Rule, Unknown, axis_of

_AXES_INPUT_SINCE = 18  # ReduceSum takes its axes as an input from 13 on
REDUCTIONS = frozenset(["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"])


def product_dims(a: Dims, b: Dims) -> Dims:
    """The shape of a MatMul. Raises Unknown."""
    if not a or not b:
        raise Unknown
    left, right = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    batch = joined(left[:-2], right[:-2])
    rows = () if len(a) == 1 else (left[-2],)
    columns = () if len(b) == 1 else (right[-1],)
    return (*batch, *rows, *columns)


def _matmul(call: Call) -> Fact:
    return Fact(call.dtype(0) or call.dtype(1), product_dims(call.dims(0), call.dims(1)))


def _matmul_integer(call: Call) -> Fact:
    return Fact(TensorProto.INT32, product_dims(call.dims(0), call.dims(1)))


def _qlinear_matmul(call: Call) -> Fact:
    return Fact(call.dtype(7), product_dims(call.dims(0), call.dims(3)))


def _gemm(call: Call) -> Fact:
    dtype = call.dtype(0) or call.dtype(1)
    a, b = call.fact(0).dims, call.fact(1).dims
    rows = call.fresh() if a is None else a[1 if call.integer("transA", 0) else 0]
    columns = call.fresh() if b is None else b[0 if call.integer("transB", 0) else 1]
    return Fact(dtype, (rows, columns))


def _einsum(call: Call) -> Fact:
    text = call.text("equation", "").replace(" ", "")
    if "." in text:
        raise Unknown
    left, arrow, right = text.partition("->")
    sizes: dict[str, Dim] = {}
    for slot, labels in enumerate(left.split(",")):
        for label, dim in zip(labels, call.dims(slot), strict=True):
            found = broadcast(sizes.get(label, 1), dim)
            if found is None:
                raise Unknown
            sizes[label] = found
    if not arrow:
        letters = left.replace(",", "")
        right = "".join(sorted(one for one in sizes if letters.count(one) == 1))
    return Fact(call.dtype(0), tuple(sizes[label] for label in right))


def _reduce(call: Call) -> Fact:
    return _reduced(call, call.dtype(0))


def _reduced(call: Call, dtype: int) -> Fact:
    dims = call.dims(0)
    keep = bool(call.integer("keepdims", 1))
    as_input = call.opset >= (13 if call.op == "ReduceSum" else _AXES_INPUT_SINCE)
    if as_input and call.given(1) and call.fact(1).value is None:
        return Fact(dtype, tuple(call.fresh() for _ in dims)) if keep else Fact(dtype)
    axes = call.numbers("" if as_input else "axes", 1)
    if not axes:
        if as_input and call.integer("noop_with_empty_axes", 0):
            return Fact(dtype, dims)
        axes = list(range(len(dims)))
    gone = {axis_of(axis, len(dims)) for axis in axes}
    if keep:
        return Fact(dtype, tuple(1 if axis in gone else one for axis, one in enumerate(dims)))
    return Fact(dtype, tuple(one for axis, one in enumerate(dims) if axis not in gone))


def _arg(call: Call) -> Fact:
    dims = call.dims(0)
    gone = axis_of(call.integer("axis", 0), len(dims))
    one: Dims = (1,) if call.integer("keepdims", 1) else ()
    return Fact(TensorProto.INT64, (*dims[:gone], *one, *dims[gone + 1 :]))


def _recurrent(call: Call) -> list[Fact]:
    dtype, x = call.dtype(0), call.dims(0)
    if len(x) != 3:
        raise Unknown
    hidden: Dim | None = call.attrs.get("hidden_size")
    again = call.fact(2).dims
    if not isinstance(hidden, int):
        hidden = again[2] if again is not None else call.fresh()
    two = 2 if call.text("direction", "forward") == "bidirectional" else 1
    if call.integer("layout", 0):
        last = Fact(dtype, (x[0], two, hidden))
        return [Fact(dtype, (x[0], x[1], two, hidden)), last, last]
    last = Fact(dtype, (two, x[1], hidden))
    return [Fact(dtype, (x[0], two, x[1], hidden)), last, last]


def _fused_matmul(call: Call) -> Fact:
    a, b = call.dims(0), call.dims(1)
    if call.integer("transBatchA", 0) or call.integer("transBatchB", 0):
        raise Unknown
    if call.integer("transA", 0) and len(a) > 1:
        a = (*a[:-2], a[-1], a[-2])
    if call.integer("transB", 0) and len(b) > 1:
        b = (*b[:-2], b[-1], b[-2])
    return Fact(call.dtype(0), product_dims(a, b))


def _heads(call: Call) -> list[Fact]:
    """MultiHeadAttention: as many positions as the query has, as wide as the value. Raises Unknown."""
    query, value = call.dims(0), call.dims(2)
    if len(query) != 3 or len(value) not in (3, 4):
        raise Unknown
    width = value[2] if len(value) == 3 else value[1] * value[3]
    return [Fact(call.dtype(0), (query[0], query[1], width)), Fact(), Fact(), Fact()]


def _projected_heads(call: Call) -> list[Fact]:
    """Attention: as many positions as the input has, a third as wide as the weights. Raises Unknown."""
    value, weight = call.dims(0), call.dims(1)
    width = divide(weight[-1], 3) if len(weight) == 2 else None
    if len(value) != 3 or width is None or call.attrs.get("qkv_hidden_sizes"):
        raise Unknown
    return [Fact(call.dtype(0), (value[0], value[1], width)), Fact()]


def _grouped_heads(call: Call) -> list[Fact]:
    """GroupQueryAttention with queries, keys and values apart: as wide as the queries. Raises Unknown."""
    query, key = call.fact(0), call.fact(1)
    if query.dims is None or len(query.dims) != 3 or key.dims is None:
        raise Unknown
    return [Fact(query.dtype, query.dims), Fact(query.dtype), Fact(query.dtype)]


def _attention(call: Call) -> list[Fact]:
    """Attention of ONNX, on heads or on all heads side by side. Raises Unknown."""
    query, value = call.dims(0), call.dims(2)
    if len(query) == len(value) == 4:
        made: tuple[Dim, ...] = (*query[:3], value[3])
    elif len(query) == len(value) == 3:
        heads, groups = call.integer("q_num_heads", 0), call.integer("kv_num_heads", 0)
        size = divide(value[2], groups) if heads and groups else None
        if size is None:
            raise Unknown
        made = (query[0], query[1], size * heads)
    else:
        raise Unknown
    return [Fact(call.dtype(0), made), *[Fact(call.dtype(0))] * 3]


def _embedded(call: Call) -> list[Fact]:
    """EmbedLayerNormalization: a row of the table for each word. Raises Unknown."""
    words, table = call.dims(0), call.dims(2)
    made = Fact(call.dtype(2), (*words, table[-1]))
    return [made, Fact(), made]


def _to_float(call: Call) -> Fact:
    """MatMulIntegerToFloat and DynamicQuantizeMatMul."""
    return Fact(TensorProto.FLOAT, product_dims(call.dims(0), call.dims(1)))


def _stored_matrix(call: Call) -> Fact:
    """MatMulNBits and MatMulBnb4, whose matrix has N columns. Raises Unknown."""
    left, columns = call.dims(0), call.integer("N", 0)
    if not left or columns <= 0 or call.integer("transB", 1) != 1:
        raise Unknown
    return Fact(call.dtype(0), (*left[:-1], columns))


RULES: dict[str, Rule] = {
    "MatMul": _matmul,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _qlinear_matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Attention": _attention,
    **dict.fromkeys((f"Reduce{kind}" for kind in REDUCTIONS), _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
}

CONTRIB: dict[str, Rule] = {
    "FusedMatMul": _fused_matmul,
    "FusedGemm": _gemm,
    "Attention": _projected_heads,
    "EmbedLayerNormalization": _embedded,
    "GroupQueryAttention": _grouped_heads,
    "MultiHeadAttention": _heads,
    **dict.fromkeys(("MatMulNBits", "MatMulBnb4"), _stored_matrix),
    **dict.fromkeys(("MatMulIntegerToFloat", "DynamicQuantizeMatMul"), _to_float),
}
