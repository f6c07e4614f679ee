"""`graphopt diff`: exit codes as of `diff`, text, JSON, and a sentence for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_lines import Cli


@pytest.fixture
def run(cli: Cli, net: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """The optimized model, its report and its snapshots."""
    out, report, folder = tmp_path / "out.onnx", tmp_path / "report.json", tmp_path / "snapshots"
    done = cli("optimize", net, "-o", out, "-p", "identities,dead-nodes", "--report", report, "--snapshots", folder)
    assert done.code == 0
    return out, report, folder


def test_the_same_model(cli: Cli, net: Path) -> None:
    done = cli("diff", net, net)
    assert done.code == 0
    assert "the same structure: 4 nodes" in done.out


def test_a_difference_as_text(cli: Cli, net: Path, run: tuple[Path, Path, Path]) -> None:
    done = cli("diff", net, run[0])
    assert done.code == 1
    assert done.out.splitlines()[:2] == ["--- net.onnx", "+++ out.onnx"]
    assert "- a = Identity(x)" in done.out
    assert "+ b = MatMul(x, w)" in done.out
    assert "- d = Exp(b)" in done.out
    assert "y = Relu" not in done.out
    assert "1 nodes are in both, 3 in the first only, 1 in the second only" in done.out


def test_a_report_names_the_rewrites(cli: Cli, net: Path, run: tuple[Path, Path, Path]) -> None:
    found = cli("diff", net, run[0], "--report", run[1], "--json").json
    assert {by for hunk in found["hunks"] for by in hunk["by"]} == {"identities:1", "dead-nodes:1"}
    assert (found["same"], found["exit_code"]) == (False, 1)
    assert found["nodes"] == {"same": 1, "removed": 3, "added": 1}


def test_quiet_says_it_by_the_exit_code_alone(cli: Cli, net: Path, run: tuple[Path, Path, Path]) -> None:
    done = cli("diff", net, run[0], "-q")
    assert (done.code, done.out, done.err) == (1, "", "")


def test_a_line_for_each_pass(cli: Cli, run: tuple[Path, Path, Path]) -> None:
    done = cli("diff", run[2], "--changed")
    assert done.code == 1
    rows = [" ".join(line.split()) for line in done.out.splitlines()[1:]]
    assert rows == ["1 identities -2 +1 - - -1 Identity", "2 dead-nodes -1 +0 - - -1 Exp"]
    (first, _) = cli("diff", run[2], "--changed", "--json").json["passes"]
    assert first["pass"] == "identities"
    assert first["nodes"] == {"removed": 2, "added": 1}
    assert first["operators"] == {"Identity": -1}


def test_a_run_that_changed_nothing(cli: Cli, tidy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    cli("optimize", tidy, "-o", tmp_path / "out.onnx", "-p", "identities", "--snapshots", folder)
    done = cli("diff", folder, "--changed")
    assert (done.code, done.out) == (0, "no pass changed anything\n")


def test_mistakes_get_a_sentence(cli: Cli, net: Path, run: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "000-input.txt").write_bytes(b"\xff\xfe\x00")
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"no model at all")
    for arguments, code, said in (
        ((net,), 2, "name two models, A and B"),
        ((net, net, "--changed"), 2, "--changed takes one folder of snapshots"),
        ((net, "--changed"), 2, "is a file; name the folder"),
        ((tmp_path / "none", "--changed"), 2, "does not exist; name the folder"),
        ((tmp_path / "empty", "--changed"), 2, "holds no 000-input.txt"),
        ((tmp_path / "bad", "--changed"), 2, "is not text"),
        ((net, tmp_path / "none.onnx"), 3, "there is no file"),
        ((net, noise), 3, "noise.onnx"),
        ((net, net, "--report", net), 2, "report"),
    ):
        done = cli("diff", *arguments)
        assert done.code == code, arguments
        assert said in done.sentence, arguments
