"""Models side by side: what is measured, what is said of doubtful figures, and what ends a benchmark early."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from graphopt.cli.app import app
from graphopt.errors import UsageError
from graphopt.measure.contest import Setting, _joined, said
from graphopt.measure.latency import Latency
from graphopt.runtime.client import Race
from graphopt.session.benching import bench, provider_of

QUICK = Setting(seconds=0.2, processes=2)


def stack(path: Path, layers: int, shift: float = 0.0) -> Path:
    """A model of `layers` products of 64 x 64, and as much added to the result as `shift`."""
    weight = np.eye(64, dtype=np.float32)
    nodes, last = [], "x"
    for index in range(layers):
        nodes.append(helper.make_node("MatMul", [last, "w"], [f"v{index}"]))
        last = f"v{index}"
    nodes.append(helper.make_node("Add", [last, "s"], ["y"]))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [64, 64])],
        [value("y", TensorProto.FLOAT, [64, 64])],
        [
            onnx.numpy_helper.from_array(weight, "w"),
            onnx.numpy_helper.from_array(np.float32(shift), "s"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_figures_of_several_models(tmp_path: Path) -> None:
    models = [stack(tmp_path / "a.onnx", 2), stack(tmp_path / "b.onnx", 40), stack(tmp_path / "c.onnx", 2, 1.0)]
    found = bench(models, setting=QUICK, profiled=True)
    first, slow, other = found.contestants
    assert found.exit_code == 0
    assert first.entry.against is None and first.verdict is None
    assert slow.entry.against is not None and slow.entry.against.ratio > 2  # twenty times the work
    assert slow.entry.seconds == pytest.approx(first.entry.seconds * slow.entry.against.ratio)
    assert len(slow.entry.medians) == 2
    assert slow.verdict is not None and slow.verdict.passed
    assert other.verdict is not None and not other.verdict.passed and other.sqnr_db is not None
    assert [one.row.facts.nodes for one in found.contestants] == [3, 41, 3]
    assert [one.row.macs.count for one in found.contestants] == [2 * 64**3, 40 * 64**3, 2 * 64**3]
    assert all(one.entry.load and one.entry.load > 0 for one in found.contestants)
    operators = [{node.op for node in one.entry.operators or ()} for one in found.contestants]
    assert operators[0] & {"MatMul", "Gemm", "FusedMatMul"}
    assert sum(node.op == "MatMul" for node in slow.entry.operators or ()) >= 39
    assert found.machine["cores"] >= 1 and "onnxruntime" in found.machine["versions"]


def test_a_model_alone_has_its_own_figures(tmp_path: Path) -> None:
    (alone,) = bench([stack(tmp_path / "a.onnx", 2)], setting=QUICK).contestants
    assert alone.entry.seconds and alone.entry.against is None and alone.entry.fault is None


def test_a_model_that_cannot_be_fed_the_same_is_a_row_with_its_reason(tmp_path: Path) -> None:
    good = stack(tmp_path / "a.onnx", 2)
    odd = onnx.load(good)
    odd.graph.input[0].name = "z"
    odd.graph.node[0].input[0] = "z"
    onnx.save(odd, tmp_path / "odd.onnx")
    found = bench([good, tmp_path / "odd.onnx", good], setting=QUICK)
    assert found.exit_code == 1
    assert found.contestants[1].entry.fault and "'z'" in found.contestants[1].entry.fault
    assert found.contestants[2].entry.against is not None
    assert any("is the same file as" in warning for warning in found.warnings)


def test_labels_and_a_metric(tmp_path: Path) -> None:
    models = [stack(tmp_path / "a.onnx", 2), stack(tmp_path / "b.onnx", 3)]
    x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    np.savez(tmp_path / "feeds.npz", x=x)
    np.save(tmp_path / "labels.npy", x.argmax(1))
    from graphopt.validation.plan import FeedPlan

    found = bench(
        models, feeds=FeedPlan(str(tmp_path / "feeds.npz")), labels=str(tmp_path / "labels.npy"), setting=QUICK
    )
    assert found.metric == "top1"
    verdict = found.contestants[1].verdict
    assert verdict is not None and verdict.metric_before == verdict.metric_after == 1.0


def test_an_interval_holds_the_medians_of_all_processes() -> None:
    steady = [Race((1.0,) * 40, (0.5,) * 40, 1), Race((1.0,) * 40, (0.6,) * 40, 1)]
    found, medians = _joined(steady)
    assert medians == [0.5, 0.6]
    assert (found.low, found.high) == (0.5, 0.6) and found.noisy
    assert said(found) == "faster"


@pytest.mark.parametrize(
    ("ratio", "low", "high", "noisy", "word"),
    [
        (1.0, 0.99, 1.01, False, "the same"),
        (0.98, 0.975, 0.985, False, "the same"),  # two sessions of one model differ by as much
        (0.9, 0.89, 0.91, False, "faster"),
        (1.2, 1.1, 1.3, True, "slower"),
        (1.1, 0.9, 1.4, True, "too noisy to tell"),
    ],
)
def test_what_is_said_of_a_ratio(ratio: float, low: float, high: float, noisy: bool, word: str) -> None:
    assert said(Latency(1.0, ratio, ratio, low, high, 100, noisy)) == word


def test_providers_are_named_and_what_is_not_installed_is_refused(tmp_path: Path) -> None:
    assert provider_of("CUDA") == "CUDAExecutionProvider" == provider_of("CUDAExecutionProvider")
    with pytest.raises(UsageError, match=r"--provider expects cpu, cuda, .* not 'gpu'"):
        provider_of("gpu")
    with pytest.raises(UsageError, match=r"the installed onnxruntime has no NoSuchExecutionProvider; it has .*CPU"):
        bench([stack(tmp_path / "a.onnx", 2)], setting=Setting(provider="NoSuchExecutionProvider"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--threads", "0"], "--threads expects a whole number from 1 to 1024, not '0'"),
        (["--processes", "5000"], "--processes expects a whole number from 1 to 1024"),
        (["--seconds", "nan"], "--seconds expects seconds"),
        (["--seconds", "1e6"], "--seconds is more than the clock of --timeout allows"),
        (["--provider", "toaster"], "--provider expects cpu, cuda"),
        (["--plot", "plot.png"], "plots are SVG; name a file that ends in .svg"),
        (["--metric", "top1"], "top1"),
    ],
)
def test_mistakes_have_their_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    model = str(stack(tmp_path / "a.onnx", 1))
    with pytest.raises(SystemExit) as end:
        app(["bench", model, model, *arguments])
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err


def test_the_page_the_json_and_the_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [str(stack(tmp_path / "a.onnx", 2)), str(stack(tmp_path / "b.onnx", 8))]
    plot = tmp_path / "p.svg"
    quick = ["--seconds", "0.2", "--processes", "1"]
    with pytest.raises(SystemExit) as end:
        app(["bench", *models, *quick, "--profile", "--plot", str(plot)])
    assert end.value.code == 0
    page = capsys.readouterr().out
    assert "a.onnx" in page and "ratio" in page and "operator" in page and "MatMul" in page
    assert plot.read_text().count("<circle") == 2
    with pytest.raises(SystemExit):
        app(["bench", *models, *quick, "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["models"][1]["against_first"]["pairs"] >= 5
    assert facts["models"][0]["against_first"] is None
