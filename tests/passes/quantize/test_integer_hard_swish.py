"""integer-hard-swish: HardSwish between codes becomes a Clip and a Mul of codes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from graphopt.testing import apply, model
from graphopt.testing.apply import assert_missed
from graphopt.testing.running import outputs_of
from passes.quantize.integer_hard_swish import IntegerHardSwish

SWISH = "h = HardSwish(x)"
SIGMOID = "g = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x)  h = Mul(x, g)"


def swish(
    middle: str = SWISH,
    scale: float = 0.1,
    zero: int = 120,
    *,
    opset: int = 17,
    code: str = "uint8",
    out: str = "float[N] y",
    more: str = "",
    result: float = 0.06,
) -> onnx.ModelProto:
    """q = Quantize(a); HardSwish of it; quantized again."""
    low = -120 if code == "int8" else 8
    return model(
        f"""agraph (float[N] a) => ({out})
        <float s = {{{scale}}}, {code} z = {{{zero}}}, float t = {{{result}}}, {code} u = {{{low}}}>
        {{ q = QuantizeLinear(a, s, z)  x = DequantizeLinear(q, s, z)  {middle}
           p = QuantizeLinear(h, t, u)  y = DequantizeLinear(p, t, u) {more} }}""",
        opset=opset,
    )


def feeds(low: float = -20, high: float = 20) -> list[dict[str, np.ndarray]]:
    return [{"a": np.linspace(low, high, 4001).astype(np.float32)}]


def outputs(found: onnx.ModelProto, fed: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(outputs_of(found.SerializeToString(), [fed])[0]["y"])


def hard_swish(x: np.ndarray) -> np.ndarray:
    return x * np.clip(x / 6 + 0.5, 0, 1)


def numbers(found: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {one.name: numpy_helper.to_array(one) for one in found.graph.initializer}


@pytest.mark.parametrize("middle", [SWISH, SIGMOID])
@pytest.mark.parametrize("opset", [14, 17, 21])
def test_a_hard_swish_between_codes_becomes_clip_and_mul(middle: str, opset: int) -> None:
    done = apply(IntegerHardSwish(), swish(middle, opset=opset), feeds=feeds())
    ops = [node.op_type for node in done.after.graph.node]
    assert ops.count("Clip") == 1 and ops.count("Mul") == 1
    assert not {"HardSwish", "HardSigmoid"} & set(ops)
    assert done.applied[0].why == "in steps of 3/46"  # 255 * 3 / (3 + 13.5)


@pytest.mark.parametrize(("code", "zero"), [("uint8", 120), ("uint8", 0), ("uint8", 255), ("int8", -8), ("int8", -128)])
@pytest.mark.parametrize("scale", [0.01, 0.03, 0.1, 0.7, 2.0])
def test_the_error_is_at_most_three_quarters_of_a_step_and_half_a_step_of_the_result(
    code: str, zero: int, scale: float
) -> None:
    high = (np.iinfo(code).max - zero) * scale
    result = max(high, 1.0) / 200
    before = swish(scale=scale, zero=zero, code=code, result=result)
    done = apply(IntegerHardSwish(), before, feeds=feeds())
    assert done.applied
    step = next(
        float(one) for name, one in numbers(done.after).items() if name.endswith("_scale") and "gate" not in name
    )
    x = np.linspace(-30, max(high, 0.0), 3001).astype(np.float32)
    wanted = np.clip(hard_swish(x.astype(np.float64)), -8 * result, 247 * result)
    error = np.abs(outputs(done.after, {"a": x}) - wanted)
    assert step <= max(scale, 3 / 127) * 1.5  # never much coarser than the grid that there was
    assert float(error.max()) <= 0.75 * step + 0.5 * result + 1e-5


def test_no_clip_where_three_is_beyond_the_codes() -> None:
    done = apply(IntegerHardSwish(), swish(scale=0.01, zero=128), feeds=feeds(-2, 1.2))
    assert "Clip" not in [node.op_type for node in done.after.graph.node]
    assert done.sqnr_db("y") > 20


def test_codes_that_were_spent_below_minus_three_make_steps_finer() -> None:
    done = apply(IntegerHardSwish(), swish(scale=0.1, zero=200), feeds=feeds())
    steps = [float(one) for name, one in numbers(done.after).items() if name.endswith("_scale") and "gate" not in name]
    assert min(steps) == pytest.approx(3 / 90)  # over -3 to 5.5 instead of -20 to 5.5


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (swish(more="w = Relu(x)", out="float[N] y, float[N] w"), "read by something else"),
        (swish(more="w = DequantizeLinear(q, s, z)", out="float[N] y, float[N] w"), "read by something else"),
        (swish(out="float[N] y, uint8[N] q"), "read by something else"),
        (swish("g = HardSigmoid<alpha = 0.2, beta = 0.5>(x)  h = Mul(x, g)"), "its alpha is not 1/6"),
        (swish(scale=900.0), "would be less than a step"),
    ],
)
def test_left_with_the_reason(before: onnx.ModelProto, why: str) -> None:
    done = apply(IntegerHardSwish(), before, feeds=feeds())
    assert not done.applied
    assert_missed(done, "hard-swish", why)


def test_a_result_that_is_read_as_floats_stays_but_its_steps_get_finer() -> None:
    done = apply(IntegerHardSwish(), swish(scale=0.1, zero=200, out="float[N] y, float[N] h"), feeds=feeds())
    assert "stays floating point" in done.applied[0].why
    ops = [node.op_type for node in done.after.graph.node]
    assert "HardSwish" in ops and "Clip" not in ops
    plain = hard_swish(feeds()[0]["a"].astype(np.float64))
    kept = plain <= hard_swish(np.asarray(5.5))
    error = np.abs(np.asarray(outputs_of(done.after.SerializeToString(), feeds())[0]["h"]) - plain)
    assert float(error[kept].max()) <= 0.75 * 3 / 90 + 1e-6


def test_skip_names_nodes_and_values() -> None:
    done = apply(IntegerHardSwish(skip=("h",)), swish(), feeds=feeds())
    assert_missed(done, "hard-swish", "skip has 'h'")


def test_floats_and_16_bits_pass_through_without_a_word() -> None:
    plain = model("agraph (float[N] a) => (float[N] y) { y = HardSwish(a) }", opset=17)
    wide = swish(code="uint16", opset=21)
    for before in (plain, wide):
        assert not apply(IntegerHardSwish(), before, feeds=feeds()).remarks


def test_bodies_are_rewritten_too() -> None:
    before = model(
        """agraph (float[N] a, bool c) => (float[N] y)
        <float s = {0.1}, uint8 z = {120}, float t = {0.06}, uint8 u = {8}>
        { y = If(c) <then_branch = yes () => (float[N] r) {
              q = QuantizeLinear(a, s, z)  x = DequantizeLinear(q, s, z)  h = HardSwish(x)
              p = QuantizeLinear(h, t, u)  r = DequantizeLinear(p, t, u) },
            else_branch = no () => (float[N] k) { k = Identity(a) }> }""",
        opset=17,
    )
    fed = [{**feeds()[0], "c": np.asarray(flag)} for flag in (True, False)]
    assert len(apply(IntegerHardSwish(), before, feeds=fed).applied) == 1
