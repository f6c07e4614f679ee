"""`graphopt reduce`: what it prints and writes, its exit codes, and a sentence for every mistake."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
from command_lines import Cli

from graphopt.testing import body, model

CHECK = "! grep -q MatMul {model}"


def save(path: Path, made: onnx.ModelProto) -> Path:
    onnx.save(made, path)
    return path


def test_a_command_says_what_fails(cli: Cli, net: Path, tmp_path: Path) -> None:
    done = cli("reduce", net, "--check", CHECK, "-o", tmp_path / "out")
    assert done.code == 1
    assert "1 of 4 nodes still fail: the check exits with 1" in done.out
    assert "b = MatMul(a, w)" in done.out
    assert f"wrote feeds.npz, repro.onnx, repro.py to {tmp_path / 'out'}" in done.out
    assert body(onnx.load(tmp_path / "out" / "repro.onnx")) == "b = MatMul(a, w)"


def test_the_same_as_json(cli: Cli, net: Path, tmp_path: Path) -> None:
    done = cli("reduce", net, "--check", CHECK, "-o", tmp_path / "out", "--json")
    found = done.json
    assert (done.code, found["exit_code"], found["outcome"]) == (1, 1, "reduced")
    assert found["nodes"] == {"before": 4, "after": 1}
    assert found["smallest"] is True
    assert found["bytes"]["after"] < found["bytes"]["before"]
    assert found["files"] == ["feeds.npz", "repro.onnx", "repro.py"]


def test_another_model_says_what_fails(cli: Cli, net: Path, tmp_path: Path) -> None:
    wrong = onnx.load(net)
    next(node for node in wrong.graph.node if node.op_type == "Relu").op_type = "Sigmoid"
    other = save(tmp_path / "other.onnx", wrong)
    done = cli("reduce", net, "--against", other, "-o", tmp_path / "out")
    assert done.code == 1
    assert "y = Relu(b)" in done.out
    assert (tmp_path / "out" / "other.onnx").is_file()


def test_the_folder_has_the_model_s_name(cli: Cli, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("reduce", net, "--check", CHECK, "-q").code == 1
    assert (tmp_path / "net-repro" / "repro.py").is_file()


def test_nothing_fails_and_nothing_is_written(cli: Cli, net: Path, tmp_path: Path) -> None:
    done = cli("reduce", net, "-p", "identities,dead-nodes", "-o", tmp_path / "out")
    assert done.code == 0
    assert "nothing fails: equivalent (EXACT)" in done.out
    assert not (tmp_path / "out").exists()


def test_nothing_can_be_said(cli: Cli, net: Path, tmp_path: Path) -> None:
    done = cli("reduce", net, "--check", "exit 125; {model}", "-o", tmp_path / "out")
    assert done.code == 6
    assert done.sentence.startswith("nothing can be said of the whole model")


def test_mistakes_get_a_sentence(cli: Cli, net: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out")
    for arguments, code, said in (
        ((net, "--check", "true", *out), 2, "has no {model}"),
        ((net, "--check", CHECK, "--against", net, *out), 2, "give either --check or --against, not both"),
        ((net, "--check", CHECK, "-p", "identities", *out), 2, "with --check no pipeline is run, and -p says nothing"),
        ((net, "--against", net, "--recipe", "clean", *out), 2, "with --against no pipeline is run"),
        ((net, "--report", net, *out), 2, "--report belongs to --against"),
        ((net, "-p", "identitees", *out), 2, "no pass is called 'identitees'"),
        ((net, "--check", CHECK, "--most", "few", *out), 2, "--most expects a whole number"),
        ((net, "--check", CHECK, "--feeds", tmp_path / "none.npz", *out), 2, "none.npz"),
        ((net, "--check", CHECK, "-o", net), 2, "this is not a folder"),
        ((net, "--check", CHECK, "-o", tmp_path), 2, "the folder holds other files"),
        ((tmp_path / "none.onnx", "--check", CHECK, *out), 3, "there is no file"),
        ((net, "--against", tmp_path / "none.onnx", *out), 3, "there is no file"),
    ):
        done = cli("reduce", *arguments)
        assert done.code == code, arguments
        assert said in done.sentence, arguments
        assert not (tmp_path / "out").exists()


def test_a_recipe_that_runs_code_is_refused(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.interop.command import Command
    from graphopt.pipeline.registry import Registry

    known = Registry.load()
    both = known if "command" in known.names() else known.including([Command])
    monkeypatch.setattr(Registry, "load", classmethod(lambda cls, points=None: both))
    net = save(tmp_path / "small.onnx", model("g (float[2] x) => (float[2] y) { a = Abs(x)  y = Tanh(a) }"))
    work = tmp_path / "work.py"
    work.write_text(
        "import sys, onnx\nm = onnx.load(sys.argv[1])\n"
        "for n in m.graph.node:\n    n.op_type = n.op_type.replace('Tanh', 'Sigmoid')\nonnx.save(m, sys.argv[2])\n"
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"name = 'own'\npipeline = '''command{{run=\"{sys.executable} {work} {{in}} {{out}}\"}}'''\n")
    done = cli("reduce", net, "--recipe", recipe, "-o", tmp_path / "out")
    assert done.code == 4
    assert "would run code: command runs the command" in done.sentence
    done = cli("reduce", net, "--recipe", recipe, "--allow-code", "-o", tmp_path / "out")
    assert done.code == 1
    assert "y = Tanh(a)" in done.out
    out = tmp_path / "best.onnx"
    assert cli("optimize", net, "--recipe", recipe, "-o", out).code == 4
    assert cli("optimize", net, "--recipe", recipe, "--allow-code", "-o", out).code == 1
    line = f"command{{run='{sys.executable} {work} {{in}} {{out}}'}}"
    assert cli("optimize", net, "-p", line, "-o", out).code == 1  # the user's own words
