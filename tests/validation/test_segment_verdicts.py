"""Verdicts on models that were run in segments are those on the whole models, and they name the wrong stretch."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import graphopt
from graphopt.contract import Contract
from graphopt.runtime.client import Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.testing import model
from graphopt.testing.random_models import random_model
from graphopt.validation import Outcome, parse_budgets
from graphopt.validation.plan import FeedPlan
from graphopt.validation.segments import blame
from graphopt.validation.segments.report import SegmentRow, SegmentsReport
from graphopt.validation.segments.shelf import Shelf
from graphopt.validation.validate import Validator
from graphopt.validation.verdict import Verdict

FOLDER = Path(os.environ.get("GRAPHOPT_CORPUS", "")) / "models"
RNG = np.random.default_rng(1)
LAYERS = 6
WEIGHTS = {f"w{n}": (RNG.standard_normal((16, 16)) / 4).astype(np.float32) for n in range(LAYERS)}
TEXT = "g (float[N, 16] x) => (float[N, 16] y) { %s y = Identity(h6) }" % " ".join(  # noqa: UP031  (braces)
    f"m{n} = MatMul({'x' if not n else f'h{n}'}, w{n}) t{n} = Tanh(m{n}) h{n + 1} = Add(t{n}, w0_row)"
    for n in range(LAYERS)
)


def deep(**changed: np.ndarray) -> onnx.ModelProto:
    return model(TEXT, **{**WEIGHTS, "w0_row": WEIGHTS["w0"][0], **changed})


def checked(
    worker: Worker,
    one: Path,
    other: Path,
    contract: Contract,
    how: Any,
    *,
    budget: str = "",
    most: int = 1100,
    **more: Any,
) -> Verdict:
    with Validator(one, worker=worker, how=how, segment_bytes=most, plan=FeedPlan(generate=2)) as validator:
        return validator.check(other, contract, parse_budgets([budget] if budget else []), **more)


def alike(whole: Verdict, parted: Verdict) -> None:
    """The same verdict: outcome, and with optimizations off every figure."""

    def figures(verdict: Verdict) -> list[Any]:
        return [dataclasses.replace(one, noise=None, bound=None) for one in verdict.outputs if not one.optimized]

    assert parted.outcome is whole.outcome
    assert figures(parted) == figures(whole)
    assert (whole.segments, parted.segments is None) == (None, False)


def broken(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With one element of its first float weight changed."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    for tensor in made.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if values.dtype == np.float32 and values.size:
            values.reshape(-1)[0] += 1.5
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
            break
    return made


@pytest.mark.parametrize("contract", [Contract.EXACT, Contract.ROUNDING])
@pytest.mark.parametrize("seed", range(2, 10))
def test_random_models_good_and_broken(worker: Worker, save: Any, seed: int, contract: Contract) -> None:
    proto = random_model(seed)
    path = save(proto)
    for other in (save(proto), save(broken(proto))):
        parted = checked(worker, path, other, contract, "segments", most=0)
        alike(checked(worker, path, other, contract, "whole"), parted)
        if parted.outcome is Outcome.DIFFERENT:
            assert "on the original's own tensors" in parted.reasons[-1]


@pytest.mark.corpus
@pytest.mark.parametrize("recipe", ["default", "int8-weights"])
@pytest.mark.parametrize("name", ["magika_v3_3", "resnet_4b_cifar10", "tiny_random_gpt2_fp32_past", "silero_vad",
                                  "vit_cifar10_pgd_2_3_16", "tract_lgbm_classifier", "scan_1"])  # fmt: skip
def test_real_models_optimized(worker: Worker, tmp_path: Path, name: str, recipe: str) -> None:
    path, out = FOLDER / f"{name}.onnx", tmp_path / "out.onnx"
    if not path.is_file():
        pytest.skip("GRAPHOPT_CORPUS does not name a folder that has this model")
    report = graphopt.optimize(path, recipe=recipe, output=out, validate="none").report
    contract = report.verdict.contract
    budget = "sqnr_db>=10" if contract is Contract.LOSSY else ""
    most = report.before.facts.weight_bytes // 6
    whole = checked(worker, path, out, contract, "whole", budget=budget)
    parted = checked(worker, path, out, contract, "segments", budget=budget, most=most, origins=report.origins)
    alike(whole, parted)
    assert parted.passed
    assert [one.reached for one in parted.budgets] == pytest.approx([one.reached for one in whole.budgets], rel=0.02)


def stretch_with(verdict: Verdict, node: str) -> bool:
    assert verdict.segments is not None and verdict.segments.worst is not None
    return node in verdict.segments.worst.sentence()


@pytest.mark.parametrize("contract", [Contract.EXACT, Contract.ROUNDING])
@pytest.mark.parametrize("wrong", range(LAYERS))
def test_a_wrong_weight_is_found_where_it_is(worker: Worker, save: Any, wrong: int, contract: Contract) -> None:
    weight = WEIGHTS[f"w{wrong}"].copy()
    weight[3, 5] += 0.25
    verdict = checked(worker, save(deep()), save(deep(**{f"w{wrong}": weight})), contract, "segments")
    assert verdict.outcome is Outcome.DIFFERENT
    assert stretch_with(verdict, f"MatMul 'm{wrong}'")
    assert verdict.segments is not None
    differing = [row.number for row in verdict.segments.rows if row.differing]
    assert len(differing) == 1  # an error that is inherited is none of the stretch's own
    carried = [row.carried_db for row in verdict.segments.rows[differing[0] - 1 :]]
    assert all(one is not None and one < 60 for one in carried)
    assert verdict.reasons[-1] == (
        f"of the stretches between common cuts it is {verdict.segments.rows[differing[0] - 1].sentence()}"
    )


def test_a_swapped_axis_is_found_where_it_is(worker: Worker, save: Any) -> None:
    def turned(perm: str) -> onnx.ModelProto:
        return model(
            "g (float[4, 4, 16] x) => (float[4, 4, 16] y) { a = MatMul(x, w0) b = Tanh(a) c = MatMul(b, w1) "
            f"d = Transpose<perm = {perm}>(c) e = MatMul(d, w2) f = Tanh(e) y = MatMul(f, w3) }}", **WEIGHTS
        )  # fmt: skip

    one, other = save(turned("[1, 0, 2]")), save(turned("[0, 1, 2]"))
    verdict = checked(worker, one, other, Contract.ROUNDING, "segments")
    assert verdict.outcome is Outcome.DIFFERENT and stretch_with(verdict, "Transpose 'd'")


def test_a_wrong_shape_is_said_in_words(worker: Worker, save: Any) -> None:
    text = "g (float[N, 16] x) => (float[1] y) { a = MatMul(x, w0) b = %s c = MatMul(b, w1) " \
           "s = ReduceSum<keepdims = 0>(c) k = Constant<value_ints = [1]>() y = Reshape(s, k) }"  # fmt: skip
    one, other = (save(model(text % middle, **WEIGHTS)) for middle in ("Tanh(a)", "Concat<axis = 0>(a, a)"))
    verdict = checked(worker, one, other, Contract.LOSSY, "segments", budget="sqnr_db>=60", most=0)
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.segments is not None and verdict.segments.worst is not None
    assert verdict.segments.worst.problem == "is float32[4,16] instead of float32[2,16]"
    assert any("does not run" in row.why or row.born_db is not None for row in verdict.segments.rows)


def test_a_result_of_another_float_type_is_compared_too(worker: Worker, save: Any) -> None:
    half = {name: value.astype(np.float16) for name, value in {**WEIGHTS, "w0_row": WEIGHTS["w0"][0]}.items()}
    text = TEXT.replace("MatMul(x, ", "MatMul(x16, ").replace("{ ", "{ x16 = Cast<to = 10>(x) ")
    narrow = model(text.replace("Identity(h6)", "Cast<to = 1>(h6)"), **half)
    verdict = checked(worker, save(deep()), save(narrow), Contract.LOSSY, "segments", budget="sqnr_db>=40")
    assert verdict.outcome is Outcome.WITHIN_BUDGET and verdict.segments is not None
    assert all(row.born_db is not None and 40 < row.born_db < 90 for row in verdict.segments.rows)


def test_a_name_that_means_something_else_in_the_result_takes_no_blame(worker: Worker, save: Any) -> None:
    """The scale is taken before the product instead of behind it, under the same name."""
    text = "g (float[N, 16] x) => (float[N, 16] y) { a = MatMul(x, w0) %s y = MatMul(c, w2) }"
    one = model(text % "b = MatMul(a, w1) c = Mul(b, k)", **WEIGHTS, k=np.float32(2))
    other = model(text % "b = Mul(a, k) c = MatMul(b, w1)", **WEIGHTS, k=np.float32(2))
    verdict = checked(worker, save(one), save(other), Contract.ROUNDING, "segments", most=0)
    assert verdict.outcome is Outcome.EQUIVALENT and verdict.segments is not None
    assert verdict.segments.worst is None
    assert any("as another value would" in row.why for row in verdict.segments.rows)


def test_random_operators_cannot_be_told(worker: Worker, save: Any) -> None:
    proto = model("g (float[N, 16] x) => (float[N, 16] y) { a = MatMul(x, w0) r = RandomUniformLike(a) b = Add(a, r) "
                  "y = MatMul(b, w1) }", **WEIGHTS)  # fmt: skip
    for how in ("whole", "segments"):
        verdict = checked(worker, save(proto), save(proto), Contract.EXACT, how)
        assert verdict.outcome is Outcome.COULD_NOT_TELL
        assert (
            "two equal runs of the original gave different values for 'y', because of RandomUniformLike"
            in (verdict.reasons[0])
        )


def test_a_missing_output_and_another_type_are_different(worker: Worker, save: Any) -> None:
    one = save(deep())
    for text, why in (
        (TEXT.replace("[N, 16] y)", "[N, 16] z)").replace("y = Id", "z = Id"), "has lost the output 'y'"),
        (TEXT.replace("[N, 16] x)", "[N, 16] x, float z)"), "has an input 'z'"),
        (TEXT.replace("(float[N, 16] y)", "(double[N, 16] y)").replace("Identity(h6)", "Cast<to = 11>(h6)"),
         "the output 'y' is tensor(double) in the result and tensor(float) in the original"),
    ):  # fmt: skip
        other = save(model(text, **WEIGHTS, w0_row=WEIGHTS["w0"][0]))
        verdict = checked(worker, one, other, Contract.ROUNDING, "segments")
        assert verdict.outcome is Outcome.DIFFERENT and why in verdict.reasons[0]
        whole = checked(worker, one, other, Contract.ROUNDING, "whole")
        assert whole.reasons[0] == verdict.reasons[0]


def test_a_result_that_does_not_run_is_different(worker: Worker, save: Any) -> None:
    text = "g (float[N, 16] x) => (float[A, B] y) { a = MatMul(x, w0) k = Constant<value_ints = [%s]>() " \
           "y = Reshape(a, k) }"  # fmt: skip
    one, other = save(model(text % "0, -1", **WEIGHTS)), save(model(text % "7, 7", **WEIGHTS))
    verdict = checked(worker, one, other, Contract.ROUNDING, "segments", most=0)
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.reasons[0].startswith("the original runs and the result does not: onnxruntime failed while running")
    assert "segment 2 of 2 of the result" in verdict.reasons[0]


def test_many_candidates_are_held_against_one_original(worker: Worker, save: Any) -> None:
    """The original is run once; what was kept of it serves all of them."""
    wrong = WEIGHTS["w4"] + np.float32(0.1)
    others = [save(deep(w2=WEIGHTS["w2"] + np.float32(0.1))), save(deep()), save(deep(w4=wrong))]
    with Validator(save(deep()), worker=worker, how="segments", segment_bytes=1100) as validator:
        first, second, third = (validator.check(one, Contract.EXACT) for one in others)
    assert second.outcome is Outcome.EQUIVALENT and second.segments is not None
    assert [row.differing for row in second.segments.rows] == [0] * len(second.segments.rows)
    assert stretch_with(first, "MatMul 'm2'") and stretch_with(third, "MatMul 'm4'")


def test_no_room_to_keep_the_originals_tensors_is_no_verdict_lost(
    worker: Worker, save: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(blame.Shelf):
        def __init__(self, folder: Path, ceiling: int | None = None) -> None:
            super().__init__(folder, 200 if folder.name == "kept" else ceiling)

    monkeypatch.setattr(blame, "Shelf", Small)
    verdict = checked(worker, save(deep()), save(deep()), Contract.EXACT, "segments")
    assert verdict.outcome is Outcome.EQUIVALENT and verdict.segments is not None
    assert all(row.born_db is None and row.why for row in verdict.segments.rows[1:])


def test_no_room_for_what_lies_between_could_not_be_told(worker: Worker, save: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("graphopt.validation.segments.shelf._MOST", 100)
    verdict = checked(worker, save(deep()), save(deep()), Contract.EXACT, "segments")
    assert verdict.outcome is Outcome.COULD_NOT_TELL
    assert "the tensors between segments take more than 1e-07 GB" in verdict.reasons[0]


def test_a_disk_that_fails_could_not_be_told(worker: Worker, save: Any, monkeypatch: Any) -> None:
    def full(self: Shelf, key: Any, value: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Shelf, "keep", full)
    verdict = checked(worker, save(deep()), save(deep()), Contract.EXACT, "segments")
    assert verdict.outcome is Outcome.COULD_NOT_TELL
    assert verdict.reasons == (
        "segments need room for temporary files, which cannot be written (no space left on device)",
    )


def test_stretches_that_share_a_sequence_are_one(worker: Worker, save: Any) -> None:
    text = "g (float[N, 16] x) => (float[N, 16] y) { a = MatMul(x, w0) b = MatMul(x, w1) s = SequenceConstruct(a, b) " \
           "c = MatMul(a, w2) t = SequenceInsert(s, c) i = Constant<value_int = 2>() d = SequenceAt(t, i) " \
           "y = MatMul(d, w3) }"  # fmt: skip
    one, other = save(model(text, **WEIGHTS)), save(model(text, **{**WEIGHTS, "w2": WEIGHTS["w2"] * np.float32(1.1)}))
    verdict = checked(worker, one, other, Contract.ROUNDING, "segments", most=0)
    assert verdict.outcome is Outcome.DIFFERENT and verdict.segments is not None
    ends = [(row.first, row.last) for row in verdict.segments.rows if row.differing]
    assert ends == [("SequenceConstruct 's'", "SequenceAt 'd'")]
    assert len(verdict.segments.rows) == 4


def test_a_worker_that_dies_alone_spares_the_verdict(worker: Worker, save: Any, monkeypatch: Any) -> None:
    """What runs on the original's tensors is for the blame; where it fails, the stretch was not compared."""
    real = blame.same_bits
    monkeypatch.setattr(blame, "same_bits", lambda one, other: real(one, other) and _fail())
    verdict = checked(worker, save(deep()), save(deep()), Contract.EXACT, "segments")
    assert verdict.outcome is Outcome.EQUIVALENT and verdict.segments is not None
    assert any("does not run on the original's tensors" in row.why for row in verdict.segments.rows)


def _fail() -> bool:
    raise WorkerFailure("crash", "it died.")


def test_the_report_speaks_and_goes_into_json(worker: Worker, save: Any) -> None:
    verdict = checked(worker, save(deep()), save(deep()), Contract.EXACT, "segments", most=2200)
    report = verdict.segments
    assert report is not None
    assert report.original == report.result == 3
    assert report.largest == 2 * 1024 + 64 and report.allowed == 2200
    assert not any("a segment has" in one for one in verdict.warnings)
    assert report.sentence().startswith("run in 3 segments, the largest with 2.11 KB of weights, the worker at ")
    plain = verdict.to_json()["segments"]
    assert plain["original"] == 3 and plain["rows"][0]["born_db"] == "inf"
    crowded = checked(worker, save(deep()), save(deep()), Contract.EXACT, "segments", most=1000)
    assert crowded.warnings[0].startswith("a segment has 1.02 KB of weights where 1 KB were wanted")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (SegmentRow(2, "A 'a'", "B 'b'", 3, 10, 23.125, 20.0, 7), "segment 2, from A 'a' to B 'b': 23.1 dB on the "
         "original's own tensors"),
        (SegmentRow(2, "A 'a'", "B 'b'", 3, 10, None, None, 0, "", "no reason"), "segment 2, from A 'a' to B 'b': not "
         "compared (no reason)"),
        (SegmentRow(2, "A 'a'", "B 'b'", 3, 10, float("inf"), 1.0), "segment 2, from A 'a' to B 'b': the same bits on "
         "the original's own tensors"),
    ],
)  # fmt: skip
def test_rows_are_sentences(row: SegmentRow, said: str) -> None:
    assert row.sentence() == said


def test_the_worst_is_what_has_a_problem_then_the_lowest() -> None:
    rows = [SegmentRow(n, "A", "B", 1, 1, db, db, 1, problem) for n, db, problem in
            ((1, 40.0, ""), (2, 10.0, ""), (3, 90.0, "has another shape"))]  # fmt: skip
    assert SegmentsReport(3, 3, 1, 1, 0, 0, tuple(rows)).worst is rows[2]
    assert SegmentsReport(3, 3, 1, 1, 0, 0, tuple(rows[:2])).worst is rows[1]
    assert SegmentsReport(3, 3, 1, 1, 0, 0, ()).worst is None
