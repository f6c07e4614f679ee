"""Metrics and labels: accuracy before and after, the user's own function, and what is said when they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.testing import model
from graphopt.validation import Outcome, parse_budgets
from graphopt.validation.figures import figures
from graphopt.validation.judge import Pair
from graphopt.validation.labels import read_labels
from graphopt.validation.metrics import accuracy, agreement, decisive, find_metric, joined
from graphopt.validation.plan import FeedPlan
from graphopt.validation.runs import OFF, ON

EYE = np.eye(4, dtype=np.float32)
ROWS = np.concatenate([EYE] * 25)  # 100 rows, class i is the row's one
TRUTH = np.arange(100) % 4
SWAPPED = EYE[[1, 0, 2, 3]]  # mistakes class 0 for 1 and 1 for 0


def classifier(weight: np.ndarray, last: str = "y = Identity(s)", out: str = "float[N, 4] y") -> Any:
    return model(f"g (float[N, 4] x) => ({out}) {{ s = MatMul(x, w)  {last} }}", w=weight)


def partly(rows: int) -> np.ndarray:
    """ROWS with the first rows of class 0 made to look like class 1."""
    changed = ROWS.copy()
    changed[np.flatnonzero(TRUTH == 0)[:rows]] = EYE[1]
    return changed


@pytest.mark.parametrize(
    ("budget", "kept", "reached"),
    [
        ("top1_drop<=0.5", True, 0.5),
        ("top1_drop<=0.49", False, 0.5),
        ("agreement>=0.5", True, 0.5),
        ("agreement>=0.51", False, 0.5),
        ("metric_drop<=0.5", True, 0.5),
        ("metric_drop<=0.1", False, 0.5),
    ],
)
def test_budgets_on_accuracy(judge: Any, budget: str, kept: bool, reached: float) -> None:
    """100 rows come as two feeds; half of them change their class."""
    verdict = judge(
        classifier(EYE), classifier(SWAPPED), Contract.LOSSY,
        budgets=parse_budgets([budget]), feeds=FeedPlan({"x": ROWS}), labels=TRUTH, metric="top1",
    )  # fmt: skip
    assert verdict.outcome is (Outcome.WITHIN_BUDGET if kept else Outcome.DIFFERENT)
    assert verdict.budgets[0].reached == pytest.approx(reached)
    assert (verdict.metric, verdict.metric_before, verdict.metric_after) == ("top1", 1.0, 0.5)
    if kept:
        assert "top1 1 -> 0.5" in verdict.sentence()
        assert verdict.sentence().endswith("2 feeds")


def test_a_metric_without_a_budget_is_only_told(judge: Any) -> None:
    verdict = judge(classifier(EYE), classifier(EYE), feeds=FeedPlan({"x": ROWS}), labels=TRUTH, metric="top1")
    assert (verdict.outcome, verdict.metric_before, verdict.metric_after) == (Outcome.EQUIVALENT, 1.0, 1.0)
    assert verdict.to_json()["metric"] == {"name": "top1", "before": 1.0, "after": 1.0}


def test_the_metric_told_is_that_of_the_worse_mode() -> None:
    def pair(mode: Any, right: int) -> Pair:
        said = ROWS[:10].copy()
        said[right:] = said[right:, ::-1]
        return Pair.of(mode, [{"y": ROWS[:10]}], [{"y": said}])

    pairs, metric, budget = [pair(OFF, 9), pair(ON, 7)], find_metric("top1"), parse_budgets(["top1_drop<=0.2"])
    told = figures(pairs, budget, TRUTH[:10], metric)
    assert (told.before, told.after) == (1.0, 0.7)
    assert (told.budgets[0].off, told.budgets[0].on) == (pytest.approx(0.1), pytest.approx(0.3))
    assert not told.budgets[0].kept
    assert figures(pairs[::-1], budget, TRUTH[:10], metric).after == 0.7


def test_agreement_needs_no_labels(judge: Any) -> None:
    verdict = judge(classifier(EYE), classifier(EYE), feeds=FeedPlan({"x": ROWS}), metric="agreement")
    assert (verdict.metric_before, verdict.metric_after) == (1.0, 1.0)


def test_classes_may_be_an_integer_output(judge: Any) -> None:
    last, out = "y = ArgMax <axis = 1, keepdims = 0> (s)", "int64[N] y"
    verdict = judge(
        classifier(EYE, last, out), classifier(SWAPPED, last, out), Contract.LOSSY,
        budgets=parse_budgets(["top1_drop<=0.6", "agreement>=0.4"]), feeds=FeedPlan({"x": ROWS}), labels=TRUTH,
    )  # fmt: skip
    assert [result.reached for result in verdict.budgets] == [0.5, 0.5]


def test_the_users_function_gets_joined_outputs_and_labels(judge: Any) -> None:
    seen = []

    def exactly(outputs: Any, labels: Any) -> float:
        seen.append((outputs["y"].shape, labels.shape))
        return float((outputs["y"].argmax(axis=1) == labels).mean())

    verdict = judge(
        classifier(EYE), classifier(SWAPPED), Contract.LOSSY,
        budgets=parse_budgets(["metric_drop<=0.9"]), feeds=FeedPlan({"x": ROWS}), labels=TRUTH, metric=exactly,
    )  # fmt: skip
    assert verdict.metric == "exactly"
    assert verdict.metric_after == 0.5
    assert set(seen) == {((100, 4), (100,))}


def test_a_metric_of_a_module(judge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metric_module.py").write_text(
        "def total(outputs, labels):\n    return float(outputs['y'].sum())\n"
        "def broken(outputs, labels):\n    raise KeyError('logits')\n"
        "def undefined(outputs, labels):\n    return float('nan')\n"
        "def words(outputs, labels):\n    return 'good'\n"
    )
    monkeypatch.chdir(tmp_path)
    more = {"feeds": FeedPlan({"x": ROWS})}
    verdict = judge(classifier(EYE), classifier(EYE), metric="my_metric_module:total", **more)
    assert verdict.metric_before == 100.0
    for name, sentence in {
        "broken": "the metric my_metric_module:broken raised KeyError: 'logits'",
        "undefined": "the metric my_metric_module:undefined gave NaN; it has to give a finite number, higher is better",
        "words": "the metric my_metric_module:words raised ValueError: could not convert string to float: 'good'",
    }.items():
        with pytest.raises(UsageError) as caught:
            judge(classifier(EYE), classifier(EYE), metric=f"my_metric_module:{name}", **more)
        assert str(caught.value) == sentence


def test_shapes_may_change_under_a_budget_on_a_metric(judge: Any) -> None:
    """The number of boxes a detector gives is not kept by a lossy pass; its metric may be."""
    boxes = "g (float[N, 4] x) => (float[M] y) {{ f = Flatten <axis = 0> (x)  s = Squeeze(f, z)  y = Slice(s, z, e) }}"
    few, many = (model(boxes.format(), z=np.array([0]), e=np.array([end])) for end in (3, 4))

    def found(outputs: Any, labels: Any) -> float:
        return float(np.mean([np.asarray(value).size for value in outputs["y"]]))

    allowed = judge(few, many, Contract.LOSSY, budgets=parse_budgets(["metric_drop<=1"]), metric=found)
    assert allowed.outcome is Outcome.WITHIN_BUDGET
    refused = judge(few, many, Contract.LOSSY, budgets=parse_budgets(["sqnr_db>=-99"]))
    assert refused.outcome is Outcome.DIFFERENT
    assert refused.reasons[0].startswith("output 'y' is float32[4] instead of float32[3]")


def test_labels_need_feeds(judge: Any) -> None:
    with pytest.raises(UsageError, match=r"^labels belong to feeds of your own; give --feeds with --labels$"):
        judge(classifier(EYE), classifier(EYE), labels=TRUTH)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"budgets": ["top1_drop<=0.1"]},
            "the budget top1_drop<=0.1 needs labels; give --labels, or use agreement>=0.99, which needs none",
        ),
        (
            {"budgets": ["metric_drop<=0.1"]},
            "the budget metric_drop<=0.1 needs a metric; give --metric module:function, top1 or agreement",
        ),
        ({"metric": "top1"}, "the metric top1 needs labels; give --labels, or use agreement, which needs none"),
        (
            {"metric": "accuracy"},
            "there is no metric 'accuracy'; the metrics are top1, agreement, or module:function of your own",
        ),
        (
            {"budgets": ["top1_drop<=0.1"], "labels": TRUTH[:7]},
            "there are 7 labels for 100 rows of the output 'y'; give one label for each row of the feeds",
        ),
    ],
)
def test_what_cannot_be_measured_gets_one_sentence(judge: Any, more: dict[str, Any], sentence: str) -> None:
    more = {**more, "budgets": parse_budgets(more.get("budgets", []))}
    with pytest.raises(UsageError) as caught:
        judge(classifier(EYE), classifier(EYE), feeds=FeedPlan({"x": ROWS}), **more)
    assert str(caught.value) == sentence


def test_models_without_a_suitable_output(judge: Any) -> None:
    single = model("g (float[N, 4] x) => (float[N, 1] y) { y = ReduceMax <keepdims = 1> (x, one) }", one=np.array([1]))
    with pytest.raises(UsageError) as caught:
        judge(single, single, Contract.LOSSY, budgets=parse_budgets(["agreement>=0.9"]))
    assert str(caught.value) == (
        "agreement needs an output with classes along its last axis, or an integer one; this model has none"
    )
    flags = model("g (float[N] x) => (bool[N] y) { y = IsNaN(x) }")
    with pytest.raises(UsageError) as caught:
        judge(flags, flags, Contract.LOSSY, budgets=parse_budgets(["sqnr_db>=9"]))
    assert str(caught.value) == (
        "the budget on sqnr_db needs an output of numbers; this model has none, so use agreement>=0.99"
    )


def test_the_decisive_output() -> None:
    labels, flat, wide = np.zeros(3, np.int64), np.zeros((3, 1), np.float32), np.zeros((3, 5), np.float32)
    assert decisive({"a": [labels], "b": [flat], "c": [wide], "d": [wide]}) == "c"
    assert decisive({"b": [flat], "a": [labels], "d": [labels]}) == "a"
    assert decisive({"b": [flat]}) is None
    assert decisive({"maps": [[{0: 0.1, 1: 0.9}]]}) == "maps"


def test_accuracy_and_agreement_count_rows_over_all_feeds() -> None:
    outputs = {"y": [EYE[:3], EYE[3:]]}
    assert accuracy(outputs, np.array([0, 1, 2, 0])) == 0.75
    assert agreement({"y": [EYE[:3], EYE[:1]]}, outputs) == 0.75
    assert agreement({"y": [EYE[:2], EYE[3:]]}, outputs) == pytest.approx(1 / 13)  # another shape agrees nowhere


def test_outputs_are_joined_where_shapes_allow() -> None:
    assert joined([EYE, EYE]).shape == (8, 4)
    ragged = [np.zeros((1, 3)), np.zeros((1, 4))]
    assert joined(ragged) == ragged
    assert len(joined([np.float32(1.0), np.float32(2.0)])) == 2
    assert find_metric("top1").name == "top1"


def test_labels_of_every_kind(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TRUTH)
    np.savez(tmp_path / "b.npz", x=ROWS, y=TRUTH)
    np.savez(tmp_path / "c.npz", classes=TRUTH)
    np.savez(tmp_path / "d.npz", x=ROWS, truth=TRUTH)
    for given in (
        tmp_path / "a.npy",
        tmp_path / "b.npz",
        tmp_path / "c.npz",
        f"{tmp_path}/d.npz:truth",
        TRUTH,
        list(TRUTH),
    ):
        np.testing.assert_array_equal(read_labels(given), TRUTH)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("d.npz", "d.npz has no array 'y' for the labels; it has 'x', 'truth'; name one as d.npz:NAME"),
        ("d.npz:classes", "d.npz has no array 'classes' for the labels; it has 'x', 'truth'; name one as d.npz:NAME"),
        ("a.csv", "labels come from an .npy or .npz file, or FILE.npz:NAME, not from '{}'"),
        ("none.npy", "there is no file '{}'; give an .npy or .npz file"),
        ("empty.npy", "empty.npy holds no labels; give one row for each row of the feeds"),
        ("scalar.npy", "scalar.npy holds no labels; give one row for each row of the feeds"),
    ],
)
def test_labels_that_are_not_there_get_one_sentence(name: str, sentence: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=ROWS, truth=TRUTH)
    np.save(tmp_path / "empty.npy", np.zeros(0))
    np.save(tmp_path / "scalar.npy", np.array(3))
    with pytest.raises(UsageError) as caught:
        read_labels(tmp_path / name)
    assert str(caught.value) == sentence.format(tmp_path / name)


def test_the_rounding_of_a_difference_decides_on_no_budget() -> None:
    """0.99 - 0.985 is a little more than 0.005 in floats, and five of a thousand rows are not."""
    labels = np.zeros(200, np.int64)
    before, after = np.tile(EYE[0], (200, 1)), np.tile(EYE[0], (200, 1))
    before[:2], after[:3] = EYE[1], EYE[1]
    pair = Pair.of(OFF, [{"y": before}], [{"y": after}])
    assert 0.99 - 0.985 > 0.005
    for name in ("top1_drop", "metric_drop"):
        (found,) = figures([pair], parse_budgets([f"{name}<=0.005"]), labels, find_metric("top1")).budgets
        assert found.reached == 0.005 and found.kept
