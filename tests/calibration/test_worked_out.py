"""What a pass has worked out is not worked out again by the run that goes on, and comes out bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from graphopt import Pipeline
from graphopt.calibration import cache
from graphopt.calibration.answers import answered
from graphopt.calibration.cache import SHARED
from graphopt.ir import encode
from graphopt.session.job import Job
from graphopt.session.run import run
from graphopt.storage.read import from_proto
from graphopt.testing import model
from graphopt.validation.budget import parse_budgets
from graphopt.validation.plan import FeedPlan
from passes.quantize import layerwise
from passes.quantize.grid import Grid
from passes.quantize.kept_rounding import restored, state_of
from passes.quantize.layer_rounding import Rounded

RNG = np.random.default_rng(4)
LAYERS = {f"w{n}": RNG.normal(0, 0.3, (16, 16)).astype(np.float32) for n in range(3)}
TEXT = """<ir_version: 10, opset_import: ["": 21]> g (float[N,16] x) => (float[N,16] y) {
    a = MatMul(x, w0)  b = Relu(a)  c = MatMul(b, w1)  d = Relu(c)  y = MatMul(d, w2)
}"""
ROWS = RNG.normal(0, 1, (64, 16)).astype(np.float32)
Made = Callable[[], dict[str, Any]]


def once(*arrays: Any) -> Made:
    """Gives the arrays once, and fails then."""
    left = [{str(number): np.asarray(array) for number, array in enumerate(arrays)}]
    return lambda: left.pop()


def test_the_same_question_is_answered_once(tmp_path: Path) -> None:
    make, given = once(np.arange(6.0).reshape(2, 3), np.float32(0.1), np.zeros((0, 2), np.int8)), [np.eye(3)]
    first = answered(tmp_path, "q", given, make)
    again = answered(tmp_path, "q", given, make)
    assert list(first) == list(again) == ["0", "1", "2"]
    for name, array in first.items():
        assert (array.dtype, array.shape, array.tobytes()) == (
            again[name].dtype,
            again[name].shape,
            again[name].tobytes(),
        )
    assert all(array.flags.writeable for array in again.values())


@pytest.mark.parametrize(
    ("question", "given"),
    [
        ("other", [np.eye(3)]),
        ("q", [np.eye(3), np.eye(3)]),
        ("q", []),
        ("q", [-np.eye(3)]),
        ("q", [np.eye(3).reshape(9)]),
        ("q", [np.eye(3).view(np.int64)]),
        ("q", [np.eye(3, dtype=ml_dtypes.bfloat16)]),
    ],
)
def test_another_question_is_another(tmp_path: Path, question: str, given: list[Any]) -> None:
    answered(tmp_path, "q", [np.eye(3)], once(1))
    assert answered(tmp_path, question, given, once(2))["0"] == 2


def test_another_version_of_what_computes_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(tmp_path, "q", [], once(1))
    monkeypatch.setattr("graphopt.calibration.answers.versions", lambda: ("another",))
    assert answered(tmp_path, "q", [], once(2))["0"] == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "folder"])
def test_what_is_not_what_was_written_does_not_count(tmp_path: Path, damage: str) -> None:
    answered(tmp_path, "q", [], once(np.arange(100)))
    (file,) = tmp_path.iterdir()
    data = bytearray(file.read_bytes())
    if damage == "other":
        np.savez(file.open("wb"), **{"0": np.arange(3)})  # type: ignore[arg-type]
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        data[len(data) // 3] ^= 1
        file.write_bytes({"empty": b"", "cut": bytes(data[:-40]), "flipped": bytes(data)}[damage])
    said = list[str]()
    assert answered(tmp_path, "q", [], once(np.arange(100)), said.append)["0"].tolist() == list(range(100))
    assert bool(said) == (damage == "folder")


def test_no_room_for_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphopt.calibration.answers.write_state", full)
    said = list[str]()
    assert answered(tmp_path, "q", [], once(1), said.append)["0"] == 1
    assert said == [f"what was worked out could not be kept in {str(tmp_path)!r} (no space left on device)"]


@pytest.mark.parametrize("scale", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    ("code", "low", "high"),
    [(np.int8, -127, 127), (np.uint8, 0, 255), (ml_dtypes.int4, -8, 7), (ml_dtypes.uint4, 0, 15),
     (ml_dtypes.int2, -2, 1), (np.int16, -3000, 3000)],
)  # fmt: skip
@pytest.mark.parametrize(("axis", "block", "shape"), [(None, 0, ()), (1, 0, (4,)), (0, 2, (2, 4))])
def test_a_rounded_layer_comes_back_as_it_was(
    tmp_path: Path, scale: Any, code: Any, low: int, high: int, axis: int | None, block: int, shape: tuple[int, ...]
) -> None:
    steps = np.asarray(RNG.uniform(0.1, 1, shape)).astype(scale)
    codes = RNG.integers(low, high + 1, (4, 4)).astype(code)
    zero = RNG.integers(low, high + 1, shape).astype(code) if low == 0 else None
    zero = None if zero is None else np.asarray(zero, code)
    one = Rounded(Grid(steps, zero, axis, low, high, np.dtype(code), block), codes, 0.1 + 0.2)
    made = [restored(answered(tmp_path, "q", [], make)) for make in (lambda: state_of(one), once())]
    for two in made:
        assert two.left == one.left
        assert (two.grid.axis, two.grid.low, two.grid.high, two.grid.block) == (axis, low, high, block)
        pairs = [(two.codes, one.codes), (two.grid.scale, one.grid.scale)]
        pairs += [] if zero is None else [(two.grid.zero, zero)]
        for mine, other in pairs:
            assert (mine.dtype, mine.shape, mine.tobytes()) == (other.dtype, other.shape, other.tobytes())
        assert (two.grid.zero is None, two.grid.code) == (zero is None, np.dtype(code))


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The layers that were solved; nothing is known at first."""
    SHARED.clear()
    found = list[Any]()
    real = layerwise.rounded

    def counted(layer: Any, *rest: Any) -> Rounded:
        if len(found) == 2 and STOP:
            raise KeyboardInterrupt
        found.append(layer)
        return real(layer, *rest)

    monkeypatch.setattr(layerwise, "rounded", counted)
    return found


STOP = list[bool]()


def made_by(pipeline: str, folder: Path | None) -> bytes:
    job = Job(
        Pipeline.parse(pipeline), feeds=FeedPlan({"x": ROWS}), budgets=tuple(parse_budgets(["sqnr_db>=1"])),
        cache_dir=folder,
    )  # fmt: skip
    return encode(run(from_proto(model(TEXT, **LAYERS)), job).graph).proto.SerializeToString(deterministic=True)


@pytest.mark.parametrize("pipeline", ["gptq{min-elements=1,block=16}", "adaround{min-elements=1,bits=8}"])
def test_a_run_that_was_stopped_goes_on_at_the_next_layer(tmp_path: Path, solved: list[Any], pipeline: str) -> None:
    plain = made_by(pipeline, None)
    assert len(solved) == 3
    solved.clear()
    SHARED.clear()
    STOP.append(True)
    try:
        with pytest.raises(KeyboardInterrupt):
            made_by(pipeline, tmp_path)
    finally:
        STOP.clear()
    assert len(solved) == 2
    solved.clear()
    SHARED.clear()  # another process
    assert made_by(pipeline, tmp_path) == plain
    assert len(solved) == 1, "two of three were known"
    assert made_by(pipeline, tmp_path) == plain
    assert len(solved) == 1
    assert cache.read_state(next(tmp_path.glob("*.npz"))) is not None


def test_other_options_are_other_layers(tmp_path: Path, solved: list[Any]) -> None:
    made_by("gptq{min-elements=1,block=16}", tmp_path)
    made_by("gptq{min-elements=1,block=16,damping=0.1}", tmp_path)
    made_by("gptq{min-elements=1,block=16,symmetric=false}", tmp_path)
    made_by("gptq{min-elements=1,block=8}", tmp_path)
    assert len(solved) == 12
