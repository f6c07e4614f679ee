"""The suites of made models: who takes part, what is recorded of each, and tables of figures that are made up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import graphopt
from benchmarks import judged
from benchmarks.cells import by_model, drop, table
from benchmarks.judged import LOSSLESS_DB, Halves, ran, singles, sizes, whole_bytes, written
from benchmarks.quantizers import TOOLS
from benchmarks.record import Record
from benchmarks.suites import Asked, Model, pruning, quantization
from graphopt.errors import UsageError
from graphopt.pipeline.spec import parse

FIGURES = {"bytes": 10.0, "bytes_ratio": 0.25, "cpu_seconds": 1.0}


class Data(Model):
    """A model whose data are at hand, or are not."""

    def halves(self, *, samples: int = 32, whole: bool = False) -> Halves:
        if self.kind == "bare":
            raise UsageError("there are no data of it")
        feed = {"x": np.ones((1, 2), np.float32)}
        return Halves(self.path, [feed] * samples, [feed] * (9 if whole else 3), None, None, feed)


Worth = tuple[dict[str, float], dict[str, str], str]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that the suites would have run, all of which went well."""
    found: list[list[str]] = []

    def worth(command: Sequence[str], halves: Halves, made: Path, timing: Any) -> Worth:
        found.append(list(command))
        return dict(FIGURES), {}, ""

    monkeypatch.setattr(quantization, "worth", worth)
    monkeypatch.setattr(pruning, "worth", worth)
    return found


def test_contenders_are_chosen_by_name_tool_or_recipe() -> None:
    every = quantization.contenders()
    assert len(every) == len(set(every)) == len(quantization.RECIPES) + len(TOOLS)
    assert quantization.contenders(["nncf:static", "nncf"]) == ["nncf:static", "nncf:weights"]
    assert quantization.contenders(["graphopt:int16-weights"]) == ["graphopt:int16-weights"]
    assert quantization.contenders(["graphopt:int8-static@qnn"]) == ["graphopt:int8-static@qnn"]


@pytest.mark.parametrize("only", ["nothing", "nncf:fast", ""])
def test_a_contender_that_is_none(only: str) -> None:
    with pytest.raises(UsageError, match=rf"the suite quantization has no contender '{only}'; it has graphopt:int8-"):
        quantization.contenders([only])
    with pytest.raises(UsageError, match=rf"the suite pruning has no contender '{only}'; it has graphopt:prune-50"):
        pruning.entries([only])


def test_a_recipe_that_is_none() -> None:
    with pytest.raises(UsageError, match="no recipe is called 'int9-weights'"):
        quantization.contenders(["graphopt:int9-weights"])


def test_every_tool_belongs_to_a_peer() -> None:
    from benchmarks.peers import peers

    assert {one.partition(":")[0] for one in TOOLS} <= set(peers())


def test_every_study_has_contenders_of_its_own_name_and_a_pipeline_that_reads() -> None:

    entries = pruning.entries()
    assert len({one.name for one in entries}) == len(entries)
    for one in entries:
        assert "," not in one.name  # names are given with commas between them
        if one.study is not None:
            parse(one.pipeline)
    assert [one.name for one in pruning.entries(["low-rank"])] == ["low-rank", "low-rank-10", "low-rank-25"]
    assert pruning.entries(["graphopt"]) == entries


def test_each_tool_is_run_by_its_own_interpreter(tmp_path: Path, commands: list[list[str]]) -> None:
    peer = Path(sys.executable)  # stands for nncf's
    asked = Asked(tmp_path, {"nncf": peer}, ["graphopt:fp16", "nncf:static", "onnxruntime:dynamic", "onnx-shrink-ray"])
    found = list(quantization.measure([Data("m", tmp_path / "m.onnx", "x")], asked))
    assert [(one.contender, one.failure[:40]) for one in found] == [
        ("graphopt:fp16", ""),
        ("nncf:static", ""),
        ("onnxruntime:dynamic", ""),
        ("onnx-shrink-ray:weights", "onnx-shrink-ray is not installed; python"),
        ("onnx-shrink-ray:weights-channel", "onnx-shrink-ray is not installed; python"),
    ]
    assert found[0].figures == FIGURES
    assert found[0].version == graphopt.__version__
    assert found[2].version == onnxruntime.__version__
    ours, theirs, own = commands
    assert ours[1:4] == ["-m", "graphopt", "optimize"]
    assert ours[ours.index("--recipe") + 1] == "fp16"
    assert theirs[0] == str(peer)
    assert [Path(theirs[1]).name, theirs[2]] == ["quantizers.py", "nncf:static"]
    assert own[0] == sys.executable


def test_tools_see_the_first_half_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def worth(command: Sequence[str], halves: Halves, made: Path, timing: Any) -> Worth:
        folder = Path(command[command.index("--calibration") + 1]) if "--calibration" in command else Path(command[-2])
        seen.append(len(list(folder.glob("*.npz"))))
        assert not {"--feeds", "--labels"} & set(command)
        return dict(FIGURES), {}, ""

    monkeypatch.setattr(quantization, "worth", worth)
    asked = Asked(tmp_path, {}, ["graphopt:int8-auto", "onnxruntime:dynamic"])
    assert len(list(quantization.measure([Data("m", tmp_path / "m.onnx", "x")], asked))) == 2
    assert seen == [32, 32]


@pytest.mark.parametrize("measure", [quantization.measure, pruning.measure])
def test_a_model_without_data_is_a_record_with_its_reason(
    tmp_path: Path, commands: list[list[str]], measure: Callable[..., Any]
) -> None:
    only = ["graphopt:fp16"] if measure is quantization.measure else ["prune-50"]
    (one,) = measure([Data("m", tmp_path / "m.onnx", "bare")], Asked(tmp_path, {}, only))
    assert one.failure == "there are no data of it"
    assert commands == []


def test_what_is_recorded_is_left_out(tmp_path: Path, commands: list[list[str]]) -> None:
    done = frozenset({("m", "graphopt:fp16"), ("m", "graphopt:prune-50")})
    models = [Data("m", tmp_path / "m.onnx", "x")]
    assert list(quantization.measure(models, Asked(tmp_path, {}, ["graphopt:fp16"], done=done))) == []
    assert list(pruning.measure(models, Asked(tmp_path, {}, ["prune-50"], done=done))) == []
    assert commands == []


def test_studies_are_of_their_models(tmp_path: Path, commands: list[list[str]]) -> None:
    models = [Data(name, tmp_path / "m.onnx", "x") for name in ("resnet_4b_cifar10", "other")]
    found = list(pruning.measure(models, Asked(tmp_path, {}, ["latency-50", "prune-sparse"])))
    assert [(one.model, one.contender) for one in found] == [
        ("resnet_4b_cifar10", "graphopt:latency-50"),
        ("resnet_4b_cifar10", "graphopt:prune-sparse"),
        ("other", "graphopt:prune-sparse"),
    ]
    assert found[0].words == {"study": "latency"}
    pipeline = commands[0][commands[0].index("--pipeline") + 1]
    assert pipeline.endswith("channels{share=0.5 normalized=true}")
    assert pipeline.startswith("repeat") or "identities" in pipeline  # behind the recipe default
    calibrations = [Path(one[one.index("--calibration") + 1]).name for one in commands]
    assert calibrations == ["calibration-1000", "calibration-100", "calibration-100"]


def test_how_a_tool_ended_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def python(text: str) -> list[str]:
        return [sys.executable, "-c", text]

    spent, failure = ran(python("sum(range(3_000_000))"), tmp_path)
    assert failure == ""
    assert 0 < spent < 20
    assert ran(python("import sys; sys.exit('first\\nlast')"), tmp_path)[1] == "last"
    assert ran(python("raise SystemExit(3)"), tmp_path)[1] == "it gave no reason"
    assert ran(python("import os; os.kill(os.getpid(), 9)"), tmp_path)[1] == "its process was ended by signal 9"
    assert ran([str(tmp_path / "none")], tmp_path)[1] == "it could not be started (No such file or directory)"
    monkeypatch.setattr(judged, "_MINUTES", 1 / 600)
    assert "was not through after" in ran(python("import time; time.sleep(5)"), tmp_path)[1]


def test_a_reason_has_no_folders_of_this_machine(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", f"raise SystemExit('cannot load {tmp_path}/a/b.onnx, 1/2 of http://x/y/z')"]
    assert ran(failing, tmp_path)[1] == "cannot load b.onnx, 1/2 of http://x/y/z"


def test_a_tool_runs_in_a_folder_of_its_own_and_finds_this_project(tmp_path: Path) -> None:
    text = "import benchmarks.record, pathlib; pathlib.Path('left').write_text(benchmarks.record.__file__)"
    assert ran([sys.executable, "-c", text], tmp_path)[1] == ""
    assert Path((tmp_path / "left").read_text()) == Path(judged.__file__).with_name("record.py")


def test_a_tool_that_writes_nothing_or_rubbish_is_a_failure(tmp_path: Path) -> None:
    halves = Halves(tmp_path / "m.onnx", [], [], None, None, {})
    asked = Asked(tmp_path)
    assert judged.worth([sys.executable, "-c", ""], halves, tmp_path / "o.onnx", asked)[2] == "it wrote no model"
    onnx.save(product(), str(tmp_path / "m.onnx"))
    rubbish = [sys.executable, "-c", "open('o.onnx', 'w').write('no')"]
    figures, words, failure = judged.worth(rubbish, halves, tmp_path / "o.onnx", asked)
    assert (figures, words) == ({}, {})
    assert "o.onnx" in failure
    assert "\n" not in failure


def product(width: int = 8) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.ones((width, width), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width])], [weight],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def test_weights_in_files_of_their_own_count(tmp_path: Path) -> None:
    onnx.save(product(), str(tmp_path / "one.onnx"))
    onnx.save(
        product(), str(tmp_path / "two.onnx"), save_as_external_data=True, location="two.data", size_threshold=0
    )  # fmt: skip
    assert whole_bytes(tmp_path / "one.onnx") == (tmp_path / "one.onnx").stat().st_size
    both = (tmp_path / "two.onnx").stat().st_size + (tmp_path / "two.data").stat().st_size
    assert whole_bytes(tmp_path / "two.onnx") == both
    onnx.save(product(4), str(tmp_path / "small.onnx"))
    assert sizes(tmp_path / "one.onnx", tmp_path / "small.onnx")["macs_ratio"] == 0.25


def test_feeds_are_cut_into_rows_and_written_in_order(tmp_path: Path) -> None:
    onnx.save(product(), str(tmp_path / "m.onnx"))
    rows = np.arange(24, dtype=np.float32).reshape(3, 8)
    cut = singles(tmp_path / "m.onnx", {"x": rows})
    assert [one["x"].shape for one in cut] == [(1, 8)] * 3
    folder = written(cut, tmp_path / "feeds")
    again = [np.load(path)["x"] for path in sorted(folder.iterdir())]
    assert np.array_equal(np.concatenate(again), rows)


def made(contender: str, size: float, ratio: float, after: float | None, **words: str) -> Record:
    figures = {
        "bytes": size * 1000, "bytes_ratio": size, "sqnr_db": 30.0, "cosine": 0.999, "agreement": 0.99,
        "latency_ratio": ratio, "latency_ratio_low": ratio - 0.01, "latency_ratio_high": ratio + 0.01, "cpu_seconds": 2,
    }  # fmt: skip
    if after is not None:
        figures |= {"metric_before": 0.735, "metric_after": after}
    return Record("quantization", "m", contender, "1", figures, words)


def test_the_table_of_a_model() -> None:
    records = [
        made("graphopt:int8-static", 0.25, 0.5, 0.73),
        made("nncf:static", 0.3, 0.9, None, noise="too noisy"),
        Record("quantization", "m", "nncf:weights", "1", failure="it fell | over\nbadly"),
        Record("quantization", "m", "x:same", "1", {"sqnr_db": LOSSLESS_DB}),
    ]
    titles = quantization.tables(records)
    assert [title for title, _ in titles] == ["Quantization: the best that loses nothing", "Quantization of m"]
    lines = titles[1][1].splitlines()
    assert lines[2] == (
        "| graphopt:int8-static | 250 | 0.250 | 30.00 | 0.999000 | 0.9900 | 0.7350 -> 0.7300 "
        "| 0.500 (0.490 to 0.510) | 2.0 |"
    )
    assert lines[3].endswith("|  | 0.900 (0.890 to 0.910), too noisy | 2.0 |")
    assert lines[4].startswith("| nncf:weights | it fell / over badly |  | ")
    assert "| no error |" in lines[5]
    assert len({line.count("|") for line in lines}) == 1


def test_the_best_keep_the_metric() -> None:
    records = [
        made("graphopt:a", 0.25, 0.5, 0.73),  # half a point, which is allowed
        made("graphopt:b", 0.2, 0.4, 0.72),
        made("nncf:c", 0.1, 0.9, 0.6),
        made("onnxruntime:d", 0.3, 0.7, 0.8),
    ]
    said = quantization.tables(records)[0][1]
    assert "| m | smallest | 0.250 a | none | 0.300 d |" in said
    assert "| m | fastest | 0.500 a | none | 0.700 d |" in said
    assert quantization.tables([]) == []


def test_without_labels_classes_count() -> None:
    assert drop(made("x:a", 1, 1, None)) == pytest.approx(0.01)
    assert drop(made("x:a", 1, 1, 0.8)) == pytest.approx(-0.065)
    assert drop(Record("s", "m", "c", "1")) is None


def test_records_are_grouped_by_model_in_their_order() -> None:
    records = [
        Record("a", "m", "1", ""),
        Record("b", "m", "2", ""),
        Record("a", "n", "3", ""),
        Record("a", "m", "4", ""),
    ]
    assert {model: [one.contender for one in some] for model, some in by_model(records, "a").items()} == {
        "m": ["1", "4"],
        "n": ["3"],
    }
    assert table([], ["bytes"]).splitlines() == ["| contender | bytes |", "|---|--:|"]


def test_pruning_has_a_table_for_each_model() -> None:
    figures = {**FIGURES, "macs_ratio": 0.5}
    records = [Record("pruning", "m", "graphopt:channels-50", "1", figures), made("x:y", 1, 1, 1.0)]
    ((title, text),) = pruning.tables(records)
    assert title == "Pruning of m"
    assert text.splitlines()[2] == "| graphopt:channels-50 | 10 | 0.250 | 0.500 |  |  |  |  | 1.0 |"
