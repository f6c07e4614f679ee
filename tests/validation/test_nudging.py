"""One ulp: every element moves to a neighbour, none leaves the finite normal numbers."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

from graphopt.ir.tensors import Stored
from graphopt.storage.read import read
from graphopt.testing import model
from graphopt.validation import variant
from graphopt.validation.nudge import binary, can_nudge, nudge, structural
from graphopt.validation.variant import nudged_variant


def weights(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_element_moves_to_a_neighbour(dtype: type) -> None:
    array = weights(50, 40, dtype=dtype)
    moved = nudge(array, np.random.default_rng(1))
    up = np.nextafter(array, dtype(np.inf))
    down = np.nextafter(array, dtype(-np.inf))
    assert ((moved == up) | (moved == down)).all()
    assert 0.4 < (moved == up).mean() < 0.6
    np.testing.assert_array_equal(moved, nudge(array, np.random.default_rng(1)))


def test_bfloat16_moves_by_one_of_its_own_ulps() -> None:
    array = weights(1000).astype(ml_dtypes.bfloat16)
    moved = nudge(array, np.random.default_rng(1))
    assert (np.abs(moved.view(np.uint16).astype(int) - array.view(np.uint16).astype(int)) == 1).all()


def test_what_has_no_neighbour_worth_having_stays() -> None:
    limits = np.finfo(np.float32)
    array = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, limits.smallest_subnormal], np.float32)
    moved = nudge(array, np.random.default_rng(0))
    np.testing.assert_array_equal(moved.view(np.uint32), array.view(np.uint32))
    edges = np.array([limits.max, limits.min, limits.tiny, -limits.tiny] * 50, np.float32)
    moved = nudge(edges, np.random.default_rng(0))
    assert np.isfinite(moved).all()
    assert (np.abs(moved) >= limits.tiny).all()
    assert (moved != edges).any()


def test_shapes_without_elements_and_without_axes() -> None:
    assert nudge(np.zeros((0, 3), np.float32), np.random.default_rng(0)).shape == (0, 3)
    assert nudge(np.array(0.3, np.float32), np.random.default_rng(0)).shape == ()


def test_only_types_whose_ulp_is_rounding_noise() -> None:
    assert can_nudge(np.dtype(np.float32))
    assert not can_nudge(np.dtype(ml_dtypes.float8_e4m3fn))
    assert not can_nudge(np.dtype(np.int32))


def test_constants_of_a_formula_are_told_from_trained_weights() -> None:
    assert structural(np.array([1.0, -10000.0, 0.125, np.inf, 0.0], np.float32))
    assert not structural(np.array([1.0, 0.1], np.float32))
    long = np.ones(10_000, np.float32)
    assert structural(long)
    long[-1] = 0.3
    assert not structural(long)
    assert binary(np.array([0.0, 1.0]))
    assert not binary(np.array([0.0, 0.5]))


def saved(tmp_path: Path, proto: onnx.ModelProto, **external: object) -> Path:
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "m.onnx"
    onnx.save(proto, path, **external)  # type: ignore[arg-type]
    return path


PROTO = """g (float[N, 40] x) => (float[N, 8] y) {
    c = Constant <value = float[4] {0.1, 0.2, 0.3, 0.4}> ()
    a = MatMul(x, big)  s = Mul(a, half)  t = Add(s, bias)  d = DequantizeLinear(q, scale)
    p = Pow(t, power)  u = Concat <axis = 0> (p, d)  y = Clip(u, low)  z = Identity(c)
}"""


def arrays(path: Path) -> dict[str, np.ndarray]:
    source = read(path)
    found = {each.name: np.array(Stored(each, source.store).load()) for each in source.proto.graph.initializer}
    for node in source.proto.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = np.array(Stored(node.attribute[0].t, source.store).load())
    return found


def build() -> onnx.ModelProto:
    return model(
        PROTO,
        big=weights(40, 8),
        bias=weights(8),
        half=np.array(0.5, np.float32),
        q=np.ones((3, 8), np.int8),
        scale=np.array(0.013, np.float32),
        power=np.array(1.3, np.float32),
        low=np.array(-0.7, np.float32),
    )


@pytest.mark.parametrize("external", [False, True])
def test_a_variant_moves_weights_and_nothing_else(tmp_path: Path, external: bool) -> None:
    options = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0} if external else {}
    path = saved(tmp_path, build(), **options)
    work = tmp_path / "work"
    work.mkdir()
    target = nudged_variant(read(path), work, seed=3)
    assert target is not None
    assert [each.name for each in work.iterdir()] == [target.name]
    before, after = arrays(path), arrays(target)
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    # left alone: 0.5 (part of the formula), integers, the exponent and the limit (they decide)
    assert changed == {"big", "bias", "scale", "c"}
    for name in changed:
        ulps = np.abs(before[name].view(np.int32).astype(np.int64) - after[name].view(np.int32))
        assert (ulps == 1).all()


def test_the_variant_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    path = saved(tmp_path, build())
    made = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        target = nudged_variant(read(path), folder, seed)
        assert target is not None
        made.append(target.read_bytes())
    assert made[0] == made[1] != made[2]


def test_bodies_are_reached(tmp_path: Path) -> None:
    proto = model(
        """g (float[N, 40] x, bool c) => (float[N, 8] y) {
            y = If (c) <
                then_branch = a () => (float[N, 8] p) <float[1] k = {0.3}> { m = MatMul(x, big)  p = Mul(m, k) },
                else_branch = b () => (float[N, 8] q) { q = MatMul(x, big) }
            >
        }""",
        big=weights(40, 8),
    )
    target = nudged_variant(read(saved(tmp_path, proto)), tmp_path, seed=0)
    assert target is not None
    inner = onnx.load(target).graph.node[0].attribute[0].g
    assert onnx.numpy_helper.to_array(inner.initializer[0]) != np.float32(0.3)


def test_no_variant_where_nothing_can_move_or_it_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = model("g (float[N] x) => (float[N] y) { y = Mul(x, two) }", two=np.array(2, np.float32))
    path = saved(tmp_path, nothing)
    assert nudged_variant(read(path), tmp_path, seed=0) is None
    monkeypatch.setattr(variant, "LIMIT", 100)
    onnx.save(build(), path)
    assert nudged_variant(read(path), tmp_path, seed=0) is None
