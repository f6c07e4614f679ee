"""scalars-into-grids: a scalar factor or summand between codes changes what the codes stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.testing import apply, model
from graphopt.testing.apply import Applied, assert_missed
from passes.quantize.scalars_into_grids import ScalarsIntoGrids


def between(
    middle: str, *, zero: int = 60, out: str = "float[N] y", second: int = 80, more: str = ""
) -> onnx.ModelProto:
    return model(
        f"""agraph (float[N] a) => ({out})
        <float s = {{0.05}}, uint8 z = {{{zero}}}, float t = {{0.1}}, uint8 u = {{{second}}}, float c = {{0.5}},
         float m = {{-0.5}}, float[1] k = {{1.5}}, float far = {{9.0}}, uint8 one = {{255}},
         float f = {{0.002}}, uint8 o = {{0}}>
        {{ q = QuantizeLinear(a, s, z)  x = DequantizeLinear(q, s, z)  {middle}
           p = QuantizeLinear(r, t, u)  y = DequantizeLinear(p, t, u) {more} }}""",
        opset=17,
    )


def feeds() -> list[dict[str, np.ndarray]]:
    return [{"a": np.linspace(-3, 8, 2001).astype(np.float32)}]


def grids(done: Applied) -> list[tuple[float, int]]:
    """Scale and zero point of each DequantizeLinear."""
    held = {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}
    read = [one for one in done.after.graph.node if one.op_type == "DequantizeLinear"]
    return [(float(held[one.input[1]]), int(held[one.input[2]])) for one in read]


def values(done: Applied, proto: onnx.ModelProto, name: str = "y") -> np.ndarray:
    from graphopt.testing.running import outputs_of

    return np.asarray(outputs_of(proto.SerializeToString(), feeds())[0][name])


@pytest.mark.parametrize(
    ("middle", "grid", "function"),
    [
        ("r = Mul(x, c)", (0.025, 60), lambda x: 0.5 * x),
        ("r = Mul(c, x)", (0.025, 60), lambda x: 0.5 * x),
        ("r = Div(x, c)", (0.1, 60), lambda x: 2 * x),
        ("r = Add(x, c)", (0.05, 50), lambda x: x + 0.5),
        ("r = Sub(x, k)", (0.05, 90), lambda x: x - 1.5),
        ("w = DequantizeLinear(one, f, o)  r = Mul(w, x)", (0.0255, 60), lambda x: 0.51 * x),
    ],
)
def test_a_scalar_goes_into_the_grid(middle: str, grid: tuple[float, int], function: Callable[[Any], Any]) -> None:
    before = between(middle)
    done = apply(ScalarsIntoGrids(), before, feeds=feeds())
    assert [node.op_type for node in done.after.graph.node] == ["QuantizeLinear", "DequantizeLinear"]
    assert np.asarray(grids(done)) == pytest.approx(np.asarray([grid]), rel=1e-6)
    exact = np.clip(np.rint(feeds()[0]["a"] / np.float32(0.05)) + 60, 0, 255) - 60
    assert np.abs(values(done, done.after) - function(exact * 0.05)).max() < 1e-5


def test_factor_and_summand_go_one_after_the_other() -> None:
    middle = "e = Mul(x, c)  v = QuantizeLinear(e, t, u)  d = DequantizeLinear(v, t, u)  r = Add(d, k)"
    done = apply(ScalarsIntoGrids(), between(middle), feeds=feeds())
    assert len(done.applied) == 2
    assert np.asarray(grids(done)) == pytest.approx(np.asarray([(0.025, 0)]), rel=1e-6)


@pytest.mark.parametrize("summand", [0.03, 0.11, 0.43, 0.777, -0.31, 1.0001])
def test_a_summand_is_off_by_half_a_step_at_most_and_by_nothing_where_it_is_large(summand: float) -> None:
    before = between("r = Add(x, c)")
    before.graph.initializer[4].CopyFrom(numpy_helper.from_array(np.asarray(summand, np.float32), "c"))
    done = apply(ScalarsIntoGrids(), before, feeds=feeds())
    ((scale, zero),) = grids(done)
    off = abs((60 - zero) * scale - summand)
    assert off <= (1e-6 if abs(summand) / 0.05 >= 8 else scale / 2 + 1e-6)
    assert 0.05 - 1e-6 <= scale <= 0.05 * 9 / 8


def test_an_integer_bias_follows_the_step() -> None:
    before = model(
        """agraph (float[1, 1, N] a) => (float[1, 1, N] y)
        <float s = {0.05}, uint8 z = {60}, float t = {0.1}, uint8 u = {80}, float c = {0.5},
         int8[1, 1, 1] w = {100}, float[1] ws = {0.01}, int32[1] b = {3000}, float[1] bs = {0.001}>
        { q = QuantizeLinear(a, s, z)  x = DequantizeLinear(q, s, z)  r = Mul(x, c)
          p = QuantizeLinear(r, t, u)  v = DequantizeLinear(p, t, u)
          wf = DequantizeLinear<axis = 0>(w, ws)  bf = DequantizeLinear<axis = 0>(b, bs)
          y = Conv(v, wf, bf) }""",
        opset=17,
    )
    done = apply(ScalarsIntoGrids(), before, feeds=[{"a": feeds()[0]["a"][None, None]}])
    held = {one.name: numpy_helper.to_array(one) for one in done.after.graph.initializer}
    (bias,) = [one for one in held.values() if one.dtype == np.int32]
    assert bias.tolist() == [12000]  # the step of the data is a quarter of what it was
    assert done.sqnr_db("y") > 25


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (between("r = Mul(x, m)"), "not positive"),
        (between("r = Add(x, far)"), "its zero point would be"),
        (between("r = Mul(x, c)", out="float[N] y, float[N] r"), "not only read as integers"),
        (between("r = Mul(x, c)", out="float[N] y, uint8[N] p"), "not only read as floats"),
        (between("r = Mul(x, c)", second=0), "limits it"),
    ],
)
def test_left_with_the_reason(before: onnx.ModelProto, why: str) -> None:
    done = apply(ScalarsIntoGrids(), before, feeds=feeds())
    assert not done.applied
    assert_missed(done, "scalar", why)


def test_the_step_stays_where_something_else_reads_the_codes() -> None:
    done = apply(ScalarsIntoGrids(), between("r = Add(x, k)  h = Relu(x)", out="float[N] y, float[N] h"), feeds=feeds())
    assert sorted(scale for scale, _ in grids(done)) == [pytest.approx(0.05), pytest.approx(0.05)]


def test_skip_and_what_is_no_scalar() -> None:
    assert_missed(apply(ScalarsIntoGrids(skip=("r",)), between("r = Mul(x, c)"), feeds=feeds()), "scalar", "skip has")
    assert not apply(ScalarsIntoGrids(), between("r = Mul(x, x)"), feeds=feeds()).remarks
    assert not apply(ScalarsIntoGrids(), between("r = Sub(c, x)"), feeds=feeds()).remarks
