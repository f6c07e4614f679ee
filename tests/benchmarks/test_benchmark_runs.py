"""Running suites into a results file: its lines, going on, what is wanted, and three suites on small models."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import graphopt
from benchmarks import run
from benchmarks.__main__ import main
from benchmarks.corpus_data import made
from benchmarks.corpus_data.evidence import Corpus, Rows
from benchmarks.fetch import bring
from benchmarks.inturns import in_turns, noise, paired
from benchmarks.machine import lasting, machine
from benchmarks.makers import MAKERS
from benchmarks.manifest import Entry, chosen
from benchmarks.record import Record
from benchmarks.spent import Spent, spent
from benchmarks.suites import SUITES, Asked, Model, scale, simplification, startup, suite
from graphopt.errors import UsageError


class Suite:
    """A suite that records what it is told to, and may break off."""

    NAME = "simplification"
    HELP = ""

    def __init__(self, names: Sequence[str] = ("a", "b"), stop: BaseException | None = None) -> None:
        self.names, self.stop, self.asked = names, stop, [Asked(Path())][:0]

    def contenders(self, only: Sequence[str] = ()) -> list[str]:
        return list(only or self.names)

    def measure(self, models: Sequence[Model], asked: Asked) -> Iterator[Record]:
        self.asked.append(asked)
        for model in models:
            yield from (Record(self.NAME, model.name, name, "1", {"nodes": 3.0}) for name in self.names)
            if self.stop is not None:
                raise self.stop

    def tables(self, records: Sequence[Record]) -> list[tuple[str, str]]:
        return []


MADE = Entry("m", "k", maker="scans", options={"seed": 0})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def into(path: Path, one: Suite, *, resume: bool = False) -> int:
    with run.opened(path, machine(), resume=resume) as results:
        return run.measured([(one, [MADE], [])], results, Asked(path.parent), path.parent)[0]


def test_the_file_begins_with_the_machine_and_has_a_line_for_each_record(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.jsonl"
    assert into(path, Suite()) == 2
    facts, *rest = lines(path)
    assert facts["kind"] == "machine"
    assert facts["versions"]["graphopt"] == graphopt.__version__
    assert facts["cores"] >= 1
    assert facts["memory"] > 1 << 28
    assert platform.node() not in json.dumps(facts)
    assert [Record.from_json(one).contender for one in rest] == ["a", "b"]
    with pytest.raises(UsageError, match="holds results already; add --resume to go on"):
        into(path, Suite())


def test_going_on_leaves_out_what_is_there_and_mends_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with pytest.raises(KeyboardInterrupt):
        into(path, Suite(["a"], KeyboardInterrupt()))
    with path.open("ab") as file:
        file.write(b'{"kind": "record", "suite": "simplif')
    one = Suite(["a", "b"])
    assert into(path, one, resume=True) == 1
    assert one.asked[0].done == {("m", "a")}
    assert [data.get("contender") for data in lines(path)] == [None, "a", "b"]


def test_what_failed_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    with run.opened(path, machine()) as results:
        results.add(Record("simplification", "m", "a", "1", failure="it is not installed"))
    assert into(path, Suite(["a"]), resume=True) == 1
    assert [one.get("failure") for one in lines(path)] == [None, "it is not installed", ""]


def test_a_file_of_another_machine_or_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**machine(), "cpu": "another"}) + "\n")
    with pytest.raises(UsageError, match="was measured on another machine, with other versions or"):
        into(path, Suite(), resume=True)
    for text in ("[1]\n", "no\n", '{"kind": "record"}\n'):
        path.write_text(text)
        with pytest.raises(UsageError, match="is no file of results"):
            into(path, Suite(), resume=True)
        assert path.read_text() == text
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        into(tmp_path / "file" / "r.jsonl", Suite())
    assert lasting({**machine(), "load": 9}) == lasting(machine())


def test_a_suite_that_breaks_off_is_said_and_the_next_one_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.jsonl"
    with run.opened(path, machine()) as results:
        stopped = [Suite(["a"], UsageError("no more")), Suite(["b"], ZeroDivisionError("by zero")), Suite(["c"])]
        assert run.measured([(one, [MADE], []) for one in stopped], results, Asked(tmp_path), tmp_path) == (3, 2)
    said = capsys.readouterr().err
    assert "simplification: broke off: no more\n" in said
    assert "simplification: broke off: ZeroDivisionError: by zero\n" in said


def test_figures_of_made_up_inputs_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fitted(Suite):
        def measure(self, models: Sequence[Model], asked: Asked) -> Iterator[Record]:
            for model in models:
                loader: Any = model.loader
                loader(model.corpus, None, Rows())
                yield Record(self.NAME, model.name, self.names[0], "1", {"nodes": 3.0})

    def missing(corpus: Corpus, original: Any, rows: Rows) -> Any:
        return corpus.data("x.npz")

    monkeypatch.setattr(made, "made", lambda corpus, original, rows: None)
    monkeypatch.setattr(Entry, "_loader", lambda one: missing if one.data == "magika_v3_3" else None)
    corpus = Entry("magika_v3_3", "k", maker="scans", data="magika_v3_3")
    path = tmp_path / "r.jsonl"
    (tmp_path / "data").mkdir()
    with run.opened(path, machine()) as results:
        run.measured([(Fitted(["a"]), [MADE, corpus], [])], results, Asked(tmp_path), tmp_path, tmp_path)
        (tmp_path / "data" / "x.npz").write_text("")
        run.measured([(Fitted(["b"]), [MADE, corpus], [])], results, Asked(tmp_path), tmp_path, tmp_path)
    words = [(one["model"], one["words"].get("data", "")) for one in lines(path)[1:]]
    assert words == [("m", "made up"), ("magika_v3_3", "made up"), ("m", "made up"), ("magika_v3_3", "")]


def test_contenders_go_to_the_suites_that_have_them() -> None:
    plan = run.planned(["simplification", "quantization", "startup"], [MADE], ["onnxslim", "graphopt:fp16"])
    assert [(one.NAME, list(only)) for one, _, only in plan] == [
        ("simplification", ["onnxslim"]),
        ("quantization", ["graphopt:fp16"]),
        ("startup", ["onnxslim"]),
    ]
    with pytest.raises(UsageError, match="none of the suites startup has a contender 'nncf'"):
        run.planned(["startup"], [MADE], ["nncf"])
    assert [len(entries) for _, entries, _ in run.planned(["scale", "pruning"], [MADE], [])] == [0, 1]


def test_a_run_that_is_stopped_has_a_file_that_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "suite", lambda name: Suite(["a"], KeyboardInterrupt()))
    out = tmp_path / "r.jsonl"
    given = ["run", "--models", "digits_cnn", "--peers", "none", "--suites", "simplification", "--out", str(out)]
    assert main(given) == 130
    assert capsys.readouterr().err.endswith("benchmarks: stopped; what is there is kept\n")
    assert [one["kind"] for one in lines(out)] == ["machine", "record"]
    assert main([*given, "--resume", "--rounds", "4"]) == 2
    monkeypatch.setattr(run, "suite", lambda name: Suite(["a", "b"]))
    assert main([*given, "--resume"]) == 0
    assert [one.get("contender") for one in lines(out)] == [None, "a", "b"]


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_its_protocol(name: str) -> None:
    one = suite(name)
    assert name == one.NAME
    assert one.HELP
    assert one.tables([]) == []
    every = one.contenders()
    assert one.contenders(every[:1]) == every[:1]
    with pytest.raises(UsageError, match=f"the suite {name} has no contender 'no-such'; it has "):
        one.contenders(["no-such"])


def test_interpreters_of_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.tools("none", tmp_path) == {}
    assert run.tools(None, tmp_path) == {}
    assert "without other tools" in capsys.readouterr().err
    assert run.tools(f"onnxslim={sys.executable}", tmp_path) == {"onnxslim": Path(sys.executable)}
    with pytest.raises(UsageError, match="there is no interpreter nowhere of onnxslim"):
        run.tools("onnxslim=nowhere", tmp_path)
    with pytest.raises(UsageError, match="there is no peer 'slim'"):
        run.tools(f"slim={sys.executable}", tmp_path)
    with pytest.raises(UsageError, match="there is no folder of peers"):
        run.tools(str(tmp_path / "none"), tmp_path)


def test_a_quick_run_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bring(chosen(["scans_made"]), tmp_path)
    out = tmp_path / "r.jsonl"
    given = ["run", "--quick", "--from", str(tmp_path), "--peers", "none", "--out", str(out)]
    given += ["--suites", "simplification", "--contenders", "onnxslim"]
    assert main(given) == 0
    said = capsys.readouterr()
    assert "silero_vad" in said.err.splitlines()[0]  # which is not there
    assert [(one["model"], one["contender"]) for one in lines(out)[1:]] == [
        ("digits_cnn", "onnxslim"),
        ("scans_made", "onnxslim"),
    ]
    assert lines(out)[1]["failure"].startswith("onnxslim is not installed")
    assert main([*given, "--models", "magika_v3_3"]) == 2
    assert "magika_v3_3 not in" in capsys.readouterr().err
    assert main([*given, "--rounds", "0"]) == 2
    assert main([*given[:-1], "nncf"]) == 2


def test_what_a_process_takes_is_its_own(tmp_path: Path) -> None:
    idle = spent([sys.executable, "-S", "-c", "pass"], tmp_path)
    assert idle.failure == ""
    assert idle.peak < 60e6  # although this process has more
    busy = spent([sys.executable, "-S", "-c", "x = b'1' * 120_000_000; sum(range(3_000_000))"], tmp_path)
    assert busy.peak > 110e6
    assert busy.cpu > idle.cpu
    assert spent([sys.executable, "-c", "raise SystemExit('first\\nlast')"], tmp_path).failure == "last"
    assert (
        spent([sys.executable, "-c", "import os; os.abort()"], tmp_path).failure == "its process was ended by signal 6"
    )
    assert spent([str(tmp_path / "none")], tmp_path).failure == "there is no program none"
    late = spent([sys.executable, "-c", "import time; time.sleep(30)"], tmp_path, 0.005)
    assert late.failure == "it was not through after 0.005 minutes"


def test_commands_take_turns_and_one_that_fails_is_left_out() -> None:
    order: list[tuple[str, int]] = []

    def run_of(name: str, failing: int | None = None) -> Any:
        def one(turn: int) -> Spent:
            order.append((name, turn))
            return Spent(1.0 + turn, 10 + turn, "no" if turn == failing else "")

        return one

    found = in_turns({"a": run_of("a"), "b": run_of("b", 1)}, 3, 1)
    assert order == [("a", -1), ("b", -1), ("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]
    assert (found["a"].cpu, found["a"].seconds, found["a"].peak) == ([1.0, 2.0, 3.0], 2.0, 12)
    assert found["b"].failure == "no"


def test_ratios_are_of_the_same_round() -> None:
    theirs = [1.0, 10.0, 100.0, 1.0, 1.0, 1.0]
    figures = paired([2 * one for one in theirs], theirs)
    assert figures == {"cpu_ratio": 2.0, "cpu_ratio_low": 2.0, "cpu_ratio_high": 2.0}
    assert noise(figures, 6) == {}
    assert noise(figures, 5) == {"noise": "too noisy"}
    assert noise({**figures, "cpu_ratio_high": 2.1}, 6) == {"noise": "too noisy"}
    assert noise({}, 6) == {}
    assert paired([1.0], [1.0, 2.0]) == paired([], []) == paired([1.0], [0.0]) == {}


def test_simplification_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contenders that write a copy, another model, rubbish and nothing."""
    MAKERS["scans"](tmp_path, seed=0)
    other = tmp_path / "other"
    other.mkdir()
    MAKERS["scans"](other, seed=1)
    texts = {
        "graphopt:default": "import shutil; shutil.copy(sys.argv[1], sys.argv[2])",
        "onnxslim": f"import shutil; shutil.copy({str(other / 'model.onnx')!r}, sys.argv[2])",
        "onnxsim": "open(sys.argv[2], 'w').write('no')",
        "onnxoptimizer": "pass",
        "onnxscript": "sys.exit('no such operator')",
    }

    def command(contender: str, python: Path, source: Path, target: Path) -> list[str]:
        return [sys.executable, "-S", "-c", "import sys; " + texts[contender], str(source), str(target)]

    monkeypatch.setattr(simplification, "command", command)
    monkeypatch.setattr("benchmarks.peers.version_at", lambda name, python: "7")
    here = Path(sys.executable)
    asked = Asked(tmp_path, dict.fromkeys(texts, here), list(texts), quick=True)
    found = {one.contender: one for one in simplification.measure([Model("m", tmp_path / "model.onnx", "k")], asked)}
    assert found["graphopt:default"].words == {"verdict": "equivalent"}
    assert found["graphopt:default"].figures["nodes"] == found["graphopt:default"].figures["nodes_before"]
    assert "cpu_ratio" not in found["graphopt:default"].figures
    assert found["onnxslim"].words["verdict"] == "different"
    assert found["onnxslim"].version == "7"
    assert found["onnxslim"].figures["bytes_ratio"] == pytest.approx(1, abs=0.1)
    assert "cpu_ratio" in found["onnxslim"].figures
    assert found["onnxsim"].failure.startswith("what it wrote cannot be read")
    assert found["onnxoptimizer"].failure == "it wrote no model"
    assert found["onnxscript"].failure == "no such operator"
    (_, sums), (_, nodes), (_, whole) = simplification.tables(list(found.values()))
    assert "| onnxslim | 0 of 1 | 0 |" in sums
    assert "| m | 40 | 40 | (40) | failed | failed | failed |" in nodes
    assert "failed: no such operator" in whole
    left = Asked(tmp_path, dict.fromkeys(texts, here), list(texts), quick=True, done=frozenset({("m", "onnxscript")}))
    again = [one.contender for one in simplification.measure([Model("m", tmp_path / "model.onnx", "k")], left)]
    assert "onnxscript" not in again


def test_scale_of_nodes_and_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(contender: str, python: Path, source: Path, target: Path) -> list[str]:
        return [
            sys.executable,
            "-S",
            "-c",
            f"import time; x = b'1' * 30_000_000; time.sleep(0.2); open({str(target)!r}, 'w')",
            str(target),
        ]

    monkeypatch.setattr(scale, "command", command)
    for name in ("c", "d"):
        (tmp_path / name).mkdir()
    MAKERS["chains"](tmp_path / "c", nodes=100)
    MAKERS["decoder"](tmp_path / "d", seed=0, size="200KB")
    models = [Model(name, tmp_path / name / "model.onnx", "k") for name in ("c", "d")]
    asked = Asked(
        tmp_path, {}, ["graphopt:dead-nodes", "onnx-graphsurgeon", "graphopt:default", "onnxslim"], quick=True
    )
    found = {(one.model, one.contender): one for one in scale.measure(models, asked)}
    assert found["c", "graphopt:dead-nodes"].figures["nodes"] == 50
    assert found["c", "onnx-graphsurgeon"].figures["nodes"] == 50
    assert found["c", "onnx-graphsurgeon"].version
    assert "cpu_ratio" in found["c", "onnx-graphsurgeon"].figures
    assert found["d", "graphopt:default"].figures["own_bytes"] > 25e6
    assert "cpu_ratio" in found["d", "graphopt:default"].figures
    assert found["d", "onnxslim"].failure.startswith("onnxslim is not installed")
    assert len(found) == 4
    assert list(scale.measure(models, Asked(tmp_path, {}, asked.only, done=frozenset(found)))) == []
    (_, nodes), (_, weights) = scale.tables(list(found.values()))
    assert "| nodes | graphopt:dead-nodes | onnx-graphsurgeon |" in nodes
    assert "\n| 100 | " in nodes
    assert "MB, " in weights


def test_startup_measures_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "WAYS", {
        "nothing": {"python": ("-S", "-c", "pass")},
        "import": {"graphopt": ("-S", "-c", "pass"), "onnxslim": ("-c", "import no_such"), "onnxsim": ("-c", "")},
    })  # fmt: skip
    monkeypatch.setattr("benchmarks.peers.version_at", lambda name, python: "7")
    asked = Asked(
        tmp_path, {"onnxslim": Path(sys.executable)}, ["python", "graphopt", "onnxslim", "onnxsim"], quick=True
    )
    found = {(one.model, one.contender): one for one in startup.measure([], asked)}
    assert found["nothing", "python"].version == platform.python_version()
    assert found["nothing", "python"].figures["peak_bytes"] > 1e6
    assert found["import", "onnxslim"].failure == "ModuleNotFoundError: No module named 'no_such'"
    assert found["import", "onnxsim"].failure.startswith("onnxsim is not installed")
    ((_, text),) = startup.tables(list(found.values()))
    assert f"| import | graphopt | {found['import', 'graphopt'].figures['cpu_seconds']:.3f} |" in text
    assert list(startup.measure([], Asked(tmp_path, asked.peers, asked.only, done=frozenset(found)))) == []
