"""Which stored numbers distillation trains: those that operators read as weights, and why it leaves others."""

from __future__ import annotations

from typing import Any, cast

import ml_dtypes
import numpy as np
import pytest

from graphopt.analysis.lesson import Trainable
from graphopt.ir import Node, Tensor, decode
from graphopt.ir.store import Store
from graphopt.pipeline.protocol import Context
from graphopt.testing import model
from passes.distill.trained import Wishes, trained

F = np.float32


class Told:
    """A context that only listens."""

    def __init__(self) -> None:
        self.whys: dict[str, str] = {}

    def missed(self, rule: str, subject: Node | Tensor, why: str) -> None:
        self.whys[subject.op if isinstance(subject, Node) else subject.name] = why

    def originals(self, tensor: Tensor) -> tuple[str, ...]:
        return (tensor.name,)


def found(text: str, wishes: Wishes | None = None, **weights: Any) -> tuple[dict[str, Trainable], dict[str, str]]:
    head = '<ir_version: 11, opset_import: ["": 23, "com.microsoft": 1]>'
    told = Told()
    graph = decode(model(f"{head} g (float[N, 4] x, int64[K] i) => (float[A] y) {{ {text} }}", **weights), Store())
    made = trained(graph, wishes or Wishes(), cast(Context, told))
    return {one.name: one for one in made}, told.whys


@pytest.mark.parametrize(
    ("step", "slots"),
    [
        ("Conv(x, a, b)", "ab"),
        ("ConvTranspose(x, a, b)", "ab"),
        ("Gemm(x, a, b)", "ab"),
        ("Gemm(a, x, b)", "ab"),
        ("MatMul(x, a)", "a"),
        ("MatMul(a, x)", "a"),
        ("LSTM<hidden_size = 2>(x, a, b, c, , d, e, f)", "abcf"),
        ("GRU<hidden_size = 2>(x, a, b, c, , d)", "abc"),
        ("RNN<hidden_size = 2>(x, a, b, c, , d)", "abc"),
        ("PRelu(x, a)", "a"),
        ("BatchNormalization(x, a, b, c, d)", "ab"),
        ("InstanceNormalization(x, a, b)", "ab"),
        ("GroupNormalization<num_groups = 2>(x, a, b)", "ab"),
        ("LayerNormalization(x, a, b)", "ab"),
        ("RMSNormalization(x, a)", "a"),
        ("Add(x, a)", "a"),
        ("Add(a, x)", "a"),
        ("Sub(a, x)", "a"),
        ("Sub(x, a)", "a"),
        ("Mul(a, x)", "a"),
        ("Mul(x, a)", "a"),
        ("Div(x, a)", ""),
        ("Max(x, a)", ""),
        ("Where(c0, x, a)", ""),
    ],
)
def test_the_slots_of_weights(step: str, slots: str) -> None:
    """Numbers in other slots, such as running means, initial states and divisors, are part of the computation."""
    names = [one for one in "abcdef" if f"{one}," in step or f"{one})" in step]
    weights: dict[str, Any] = {name: np.full((2, 2), place + 1, F) for place, name in enumerate(names)}
    if "c0" in step:
        weights["c0"] = np.ones((2, 2), np.bool_)
    made, _ = found(f"y = {step}", **weights)
    assert "".join(sorted(made)) == slots


@pytest.mark.parametrize("op", ["ConvInteger", "MatMulInteger", "QLinearMatMul", "QLinearConv"])
def test_weights_that_are_integers_are_told(op: str) -> None:
    made, whys = found(f"q = {op}(i, w)  y = Cast<to = 1>(q)", w=np.ones((2, 2), np.int8))
    assert not made and "train before the pass that makes it" in whys[op]


@pytest.mark.parametrize("op", ["DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits"])
def test_weights_that_are_integers_of_other_operators_are_told(op: str) -> None:
    made, whys = found(f"y = com.microsoft.{op}(x, w)", w=np.ones((2, 2), np.uint8))
    assert not made and "train before the pass that makes it" in whys[op]


def test_nothing_is_told_of_operators_without_weights() -> None:
    assert found("y = Relu(x)") == ({}, {})


def test_weights_that_are_turned_or_cast_on_the_way() -> None:
    made, _ = found("t = Transpose(w)  c = Cast<to = 1>(t)  y = MatMul(x, c)", w=np.ones((3, 4), np.float16))
    assert list(made) == ["w"]


def test_tables_are_trained_on_request_and_do_not_decay() -> None:
    weights = {"w": np.ones((5, 4), F), "v": np.ones((4, 3), F), "b": np.ones(3, F)}
    text = "e = Gather(w, i)  m = MatMul(e, v)  y = Add(m, b)"
    made, whys = found(text, **weights)
    assert list(made) == ["v", "b"] and "embeddings is false" in whys["w"]
    made, _ = found(text, Wishes(embeddings=True), **weights)
    assert {name: one.decays for name, one in made.items()} == {"w": False, "v": True, "b": False}


def test_what_else_reads_a_weight_is_told() -> None:
    _, whys = found("m = MatMul(x, w)  r = Relu(w)  y = Add(m, r)", w=np.ones((4, 4), F))
    assert whys["w"] == "Relu 'Relu(r)' reads it, and not as a weight"


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_every_floating_point_type_is_trained(kind: Any) -> None:
    made, _ = found("c = Cast<to = 1>(w)  y = MatMul(x, c)", w=np.ones((4, 3), kind))
    assert list(made) == ["w"]


def test_a_mask_is_no_weight() -> None:
    assert found("y = Add(x, w)", w=np.full((4, 4), -1e9, F))[0] == {}
    assert list(found("y = Add(x, w)", w=np.full((4, 4), -1e3, F))[0]) == ["w"]


CODES = "d = DequantizeLinear(w, s, z)  y = MatMul(x, d)"


def codes(kind: Any = np.int8, *, scale: float = 0.5, pruned: bool = False, zero: int = 0) -> dict[str, Any]:
    """Twelve codes about their zero point, most of them on it where they are pruned."""
    steps = np.array([0, 0, 0, 0, 0, 0, 0, 1, -1, 2, -2, 3] if pruned else [0, 1, -1, 1, -1, 2, -2, 3, -3, 1, 2, 3])
    return {"w": (steps.reshape(4, 3) + zero).astype(kind), "s": F(scale), "z": np.array(zero, kind)}


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 0), (np.int8, 5), (np.uint8, 128), (np.int16, 0), (np.uint16, 9)])
@pytest.mark.parametrize("pruned", [False, True])
def test_codes_are_trained_on_their_grid(kind: Any, zero: int, pruned: bool) -> None:
    """Where most of them are zero they were pruned, and zeros stay."""
    made, _ = found(CODES, **codes(kind, pruned=pruned, zero=zero))
    assert list(made) == ["d"] and made["d"].held.name == "w" and made["d"].grid is not None
    assert made["d"].masked == pruned and made["d"].originals == ("d",)
    for masks, masked in (("keep", True), ("none", False)):
        made, _ = found(CODES, Wishes(masks=masks), **codes(kind, pruned=pruned, zero=zero))  # type: ignore[arg-type]
        assert made["d"].masked == masked


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scales_that_are_no_scales(scale: float) -> None:
    made, whys = found(CODES, **codes(scale=scale))
    assert not made and whys["DequantizeLinear"] == "a scale is not positive"


def test_codes_that_something_else_reads() -> None:
    made, whys = found(f"{CODES.replace('y =', 'm =')}  c = Cast<to = 1>(w)  y = MatMul(m, c)", **codes())
    assert not made and whys["DequantizeLinear"] == "something else reads its codes, too"


def test_scales_are_trained_on_request() -> None:
    made, _ = found(CODES, Wishes(scales=True), **codes())
    grid = made["d"].grid
    assert grid is not None and grid.scale_held is not None and grid.scale_held.name == "s"
