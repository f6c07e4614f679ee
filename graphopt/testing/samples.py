"""Small models with what real ones hold and passes get wrong, to try any pass on."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from onnx import ModelProto, SparseTensorProto, TensorAnnotation, helper, numpy_helper

from graphopt.ir.tensors import to_tensor_proto
from graphopt.testing.text import model


@dataclass(frozen=True)
class Sample:
    """A valid model. `runs` says whether onnxruntime can run it."""

    name: str
    proto: ModelProto
    runs: bool = True


def samples() -> tuple[Sample, ...]:
    """The shared samples, made once per process; leave them as they are."""
    return _samples()


@functools.cache
def _samples() -> tuple[Sample, ...]:
    made = [Sample(name, model(text, **_weights(name))) for name, text in _TEXTS.items()]
    made += [Sample("annotations", _annotated()), Sample("sparse", _sparse()), Sample("narrow", _narrow())]
    made += [Sample("unknown domain", model(_UNKNOWN), runs=False)]
    return tuple(made)


def _floats(*shape: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _weights(name: str) -> dict[str, object]:
    if name == "perceptron":
        return {"w": _floats(32, 48), "b": _floats(48), "v": _floats(48, 10), "unread": _floats(300)}
    if name == "convolution":
        ones = np.ones(8, np.float32)
        kernels = {"k": _floats(8, 3, 3, 3), "d": _floats(8, 1, 3, 3), "t": _floats(8, 4, 2, 2)}
        return {**kernels, "scale": ones * 2, "shift": _floats(8), "mean": _floats(8), "var": ones}
    if name == "recurrent":
        return {"w": _floats(1, 12, 4), "r": _floats(1, 12, 3), "b": _floats(1, 24)}
    if name == "embedding":
        return {"table": _floats(10, 16), "w": _floats(16, 16)}
    if name in ("overridable", "tied", "outputs"):
        return {"w": _floats(4, 4), "v": np.array([1, 0, -0.0, 2], np.float32)}
    return {}


_TEXTS = {
    "perceptron": """
        g (float[N, 32] x) => (float[N, 10] y) {
            a = Identity(x)  b0 = MatMul(a, w)  b1 = Add(b0, b)  c = Relu(b1)  d, mask = Dropout(c)
            e = Exp(c)  f = Neg(e)  y = MatMul(d, v)
        }""",
    "convolution": """
        g (float[N, 3, 8, 8] x) => (float[N, 4, P, Q] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, k)  b = BatchNormalization(a, scale, shift, mean, var)
            six = Constant<value_float = 6.0>()  c = Clip(b, , six)
            e = Conv<group = 8, pads = [1, 1, 1, 1]>(c, d)  f = Add(e, c)  y = ConvTranspose<strides = [2, 2]>(f, t)
        }""",
    "recurrent": """
        g (float[T, N, 4] x) => (float[T, 1, N, 3] y, float[1, N, 3] last) {
            y, h, c = LSTM<hidden_size = 3>(x, w, r, b)  last = Identity(h)
        }""",
    "embedding": """
        g (float[N, 16] q) => (float[N, 10] y, float[3, 16] rows) {
            at = Constant<value_ints = [0, 9, 3]>()  rows = Gather(table, at)
            p = Identity(q)  s = MatMul(p, w)  u = Transpose<perm = [1, 0]>(table)  y = MatMul(s, u)
        }""",
    "tied": """
        g (float[N, 4] x) => (float[N, 4] y) {
            a = MatMul(x, w)  b = Gemm<transB = 1>(a, w, v)  k = Identity(w)  y = MatMul(b, k)
        }""",
    "overridable": """
        g (float[N, 4] x, float[4] v) => (float[N, 4] y, float[4] o) {
            a = Identity(v)  b = Add(x, a)  y = MatMul(b, w)  o = Identity(v)
        }""",
    "outputs": """
        g (float[N, 4] x) => (float[N, 4] y, float[N, 4] z, float[4] v, float[4] u, float[N, 4] same) {
            a = Relu(x)  y = Identity(a)  z = Identity(a)  u = Identity(v)  same = Identity(x)
        }""",
    "branches": """
        g (bool c, float[N, 4] x) => (float[N, 4] y) {
            a = Identity(x)  dead = Neg(a)  b = Relu(a)
            r = If(c)<
                then_branch = t () => (float[N, 4] o) { p = Exp(b)  q = Identity(a)  o = Neg(q) },
                else_branch = e () => (float[N, 4] o) { o = Identity(b) }
            >
            y = Identity(r)
        }""",
    "loop": """
        g (float[N] x) => (float[N] y, float[K, N] all) {
            n = Constant<value_int = 3>()  on = Constant<value = bool {1}>()  s = Identity(x)  a = Abs(x)
            y, all = Loop(n, on, s)<body = b (int64 i, bool go, float[N] a) => (bool going, float[N] next, float[N] o) {
                going = Identity(go)  k = Identity(a)  m = Mul(s, k)  next = Tanh(m)  o = Identity(next)  left = Neg(o)
            }>
        }""",
    "scan": """
        g (float[N, 3] x, float[3] s) => (float[3] end, float[N, 3] all) {
            two = Constant<value_float = 2.0>()  t = Identity(two)
            end, all = Scan<num_scan_inputs = 1, body = b (float[3] a, float[3] e) => (float[3] f, float[3] h) {
                d = Identity(e)  g0 = Mul(d, t)  f = Add(a, g0)  h = Identity(f)
            }>(s, x)
        }""",
    "functions": """
        <ir_version: 10, opset_import: ["": 21, "local": 1]>
        g (float[N, 4] x) => (float[N, 4] y) {
            a = local.twice(x)  b = local.leaky<slope = 0.5>(a)  left = local.twice(b)  y = Identity(b)
        }
        <domain: "local", opset_import: ["": 21, "local": 1]>
        twice (a) => (c) { two = Constant<value_float = 2.0>()  b = Identity(a)  u = Exp(b)  c = Mul(b, two) }
        <domain: "local", opset_import: ["": 21, "local": 1]>
        leaky <slope> (a) => (d) { b = local.twice(a)  c = LeakyRelu<alpha: float = @slope>(b)  d = Identity(c) }
        """,
    "sequences": """
        g (float[N, 4] x, seq(float[N, 4]) s) => (float[N, 4] y) {
            one = Constant<value_int = 1>()  t = Identity(s)  u = SequenceInsert(t, x)  y = SequenceAt(u, one)
        }""",
    "strings": """
        g (string[N] x) => (string[N] y, bool[N] same) {
            a = Identity(x)  k = Constant<value_strings = ["Ab"]>()  y = StringConcat(a, k)  same = Equal(a, k)
        }""",
    "many outputs": """
        g (float[N, 6] x) => (float[N, 2] y, int64[N, 1] at) {
            parts = Constant<value_ints = [2, 3, 1]>()  a, b, c = Split<axis = 1>(x, parts)
            k = Constant<value_ints = [1]>()  top, at = TopK(b, k)  y = Relu(a)
        }""",
    "random": """
        g (float[N, 4] x) => (float[N, 4] y) {
            off = Constant<value = bool {0}>()  a = RandomNormalLike(x)  b = RandomNormalLike<seed = 1.0>(x)
            d = Dropout(x, , off)  c = Add(d, b)  y = Identity(c)
        }""",
    "nothing to do": "g (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  y = Neg(a) }",
    "empty": "g (float[N, 4] x) => (float[N, 4] x) { }",
}
_UNKNOWN = """
    <ir_version: 10, opset_import: ["": 21, "acme": 1]>
    g (float[N, 4] x) => (float[N, 4] y) { a = Neg(x)  told = acme.Print(a)  y = Identity(x) }
    """


def _annotated() -> ModelProto:
    """Activations with scales and zero points that no node reads."""
    proto = model("g (float[N, 4] x) => (float[N, 4] y) { a = Identity(x)  b = Relu(a)  y = Neg(b) }")
    proto.graph.initializer.append(to_tensor_proto("b_scale", np.array(0.5, np.float32)))
    proto.graph.initializer.append(to_tensor_proto("b_zero", np.array(3, np.uint8)))
    note = TensorAnnotation(tensor_name="b")
    for key, value in (("SCALE_TENSOR", "b_scale"), ("ZERO_POINT_TENSOR", "b_zero")):
        entry = note.quant_parameter_tensor_names.add()
        entry.key, entry.value = key, value
    proto.graph.quantization_annotation.append(note)
    return proto


def _sparse() -> ModelProto:
    """A sparse initializer that is read and one that is not."""
    proto = model("g (float[N, 4] x) => (float[N, 4] y) { y = Add(x, w) }")
    for name in ("w", "unread"):
        values = numpy_helper.from_array(np.array([1.5, -2.0], np.float32), name)
        indices = numpy_helper.from_array(np.array([0, 3], np.int64), f"{name}_indices")
        proto.graph.sparse_initializer.append(SparseTensorProto(values=values, indices=indices, dims=[4]))
    return proto


def _narrow() -> ModelProto:
    """Weights of half precision, of bfloat16 and of four bits, with metadata on everything."""
    proto = model(
        """g (float16[N, 4] x) => (float16[N, 4] y, float[2, 2] z) {
            a = MatMul(x, h)  y = Identity(a)  b = Cast<to = 1>(low)  c = DequantizeLinear(q, s)  z = Add(b, c)
        }""",
        h=_floats(4, 4).astype(np.float16),
        low=_floats(2, 2).astype(ml_dtypes.bfloat16),
        q=np.array([[1, -2], [7, -8]], ml_dtypes.int4),
        s=np.array(0.5, np.float32),
    )
    for holder in (proto, proto.graph, proto.graph.node[0], proto.graph.initializer[0]):
        helper.set_model_props(holder, {"origin": "sample"})
    return proto
