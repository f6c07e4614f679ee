"""Operators of onnxruntime do not get where ONNX would ask for the types behind them: functions, undeclared bodies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest

from graphopt.pipeline.protocol import Pass
from graphopt.testing import apply, assert_missed, model
from passes.convert.inline_functions import InlineFunctions
from passes.fuse.onnxruntime.dynamic_quantization import OrtDynamicQuantization
from passes.fuse.onnxruntime.gelu import OrtGelu
from passes.fuse.onnxruntime.gemm import OrtGemm
from passes.fuse.onnxruntime.matmul import OrtMatmul
from passes.fuse.onnxruntime.qlinear import OrtQlinear
from passes.quantize.ort_gather_block_quantized import OrtGatherBlockQuantized
from passes.quantize.ort_matmul_nbits import OrtMatMulNBits

WHY = "ONNX could not infer what the function gives then; inline-functions before this leaves none"
W = "w = Constant<value = float[4, 4] {1, 2, -1, 0.5, 1, 2, -1, 0.5, 1, 2, -1, 0.5, 1, 2, -1, 0.5}>()"
HALF = "k = Constant<value = float {0.5}>()"


@dataclass(frozen=True)
class Inside:
    """A pass, its rule, and nodes of a function from `x` to `z` that it fuses elsewhere into `op`."""

    kind: Pass
    rule: str
    op: str
    nodes: str


CASES = [
    Inside(OrtGelu(), "quick-gelu", "QuickGelu", "q = Cast<to=1>(x) r = Sigmoid(q) z = Mul(q, r)"),
    Inside(OrtGemm(), "activation", "FusedGemm", f"{W} q = Gemm(x, w) z = Relu(q)"),
    Inside(
        OrtMatmul(), "matmul", "FusedMatMul", f"{W} {HALF} q = MatMul(x, w) z = Mul(q, k)"
    ),
    Inside(
        OrtDynamicQuantization(), "product", "DynamicQuantizeMatMul",
        "w = Constant<value = int8[4, 4] {1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4}>() "
        "t = Constant<value = float {0.5}>() v = Constant<value = int8 {0}>() "
        "q, s, o = DynamicQuantizeLinear(x) m = MatMulInteger(q, w, o, v) c = Cast<to=1>(m) k = Mul(s, t) "
        "z = Mul(c, k)",
    ),
    Inside(
        OrtQlinear(), "sigmoid", "QLinearSigmoid",
        "s = Constant<value = float {0.1}>() o = Constant<value = uint8 {128}>() q = QuantizeLinear(x, s, o) "
        "d = DequantizeLinear(q, s, o) g = Sigmoid(d) h = QuantizeLinear(g, s, o) z = DequantizeLinear(h, s, o)",
    ),
    Inside(
        OrtMatMulNBits(min_elements=1, bits=4, block=16), "matmul-nbits", "MatMulNBits", f"{W} z = MatMul(x, w)"
    ),
]  # fmt: skip
FEEDS = [{"x": np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32)} for seed in range(2)]


def called(nodes: str) -> onnx.ModelProto:
    """A call of a function with these nodes, and behind it a node that wants to know its type."""
    text = f"""<ir_version: 10, opset_import: ["": 21, "own": 1]>
        g (float[N, 4] x) => (float[N, 4] y) {{ a = own.f(x) y = Neg(a) }}
        <domain: "own", opset_import: ["": 21]> f (x) => (z) {{ {nodes} }}"""
    return model(text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.name)
def test_in_a_function_they_are_left(case: Inside) -> None:
    done = apply(case.kind, called(case.nodes), feeds=FEEDS)
    assert done.after == done.before
    assert assert_missed(done, case.rule, WHY).scope == "function own.f"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.name)
def test_once_it_is_inlined_they_are_not(case: Inside) -> None:
    inlined = apply(InlineFunctions(), called(case.nodes), feeds=FEEDS).after
    assert f"com.microsoft.{case.op}" in apply(case.kind, inlined, feeds=FEEDS).body


def test_a_body_in_a_function() -> None:
    body = f"{W} q = Gemm(x, w) u = Relu(q)"
    other = "v = Identity(x)"
    nodes = f"""p = Constant<value = bool {{1}}>()
        z = If(p) <
            then_branch = a () => (float[N, 4] u) {{ {body} }}, else_branch = b () => (float[N, 4] v) {{ {other} }}
        >"""
    done = apply(OrtGemm(), called(nodes), feeds=FEEDS)
    assert done.after == done.before
    assert_missed(done, "activation", WHY)


def branches(declared: bool) -> onnx.ModelProto:
    """An If whose body has a Gemm to fuse, and whose bodies declare the types of what they give, or do not."""
    made = model(
        """g (float[N, 4] x, bool p) => (float[N, 4] y) {
            a = If(p) <
                then_branch = t () => (float[N, 4] u) { q = Gemm(x, w) u = Relu(q) },
                else_branch = e () => (float[N, 4] v) { v = Identity(x) }
            >
            y = Neg(a)
        }""",
        w=np.eye(4, dtype=np.float32),
    )
    for attribute in made.graph.node[0].attribute if not declared else ():
        attribute.g.output[0].ClearField("type")
    return made


def test_a_body_that_declares_its_types() -> None:
    assert "com.microsoft.FusedGemm" in apply(OrtGemm(), branches(True)).body


def test_a_body_that_does_not() -> None:
    done = apply(OrtGemm(), branches(False))
    assert done.after == done.before
    assert_missed(
        done, "activation", "the type of 'u', which the body gives, is not declared, and ONNX could not infer it"
    )


def test_a_lookup_in_a_function() -> None:
    codes = ", ".join(str(one % 7) for one in range(64))
    nodes = f"""c = Constant<value = int8[4, 16] {{{codes}}}>() s = Constant<value = float[4, 1] {{0.5, 1, 0.5, 1}}>()
        d = DequantizeLinear<axis = 1, block_size = 16>(c, s)
        z = Gather(d, x)"""
    text = f"""<ir_version: 10, opset_import: ["": 21, "own": 1]>
        g (int64[N] x) => (float[N, 16] y) {{ a = own.f(x) y = Neg(a) }}
        <domain: "own", opset_import: ["": 21]> f (x) => (z) {{ {nodes} }}"""
    feeds = [{"x": np.array([0, 3, 2])}]
    done = apply(OrtGatherBlockQuantized(), model(text), feeds=feeds)
    assert done.after == done.before
    assert_missed(done, "gather-block-quantized", WHY)
    inlined = apply(InlineFunctions(), model(text), feeds=feeds).after
    assert "GatherBlockQuantized" in apply(OrtGatherBlockQuantized(), inlined, feeds=feeds).body
