"""`graphopt optimize --ort`."""

from __future__ import annotations

from pathlib import Path

from command_lines import Cli


def test_optimize_writes_both_formats(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "--ort", tmp_path / "mobile.ort")
    assert ran.code == 0
    assert "mobile.ort" in ran.out
    assert (tmp_path / "mobile.ort").stat().st_size
    assert "MatMul" in (tmp_path / "mobile.required_operators.config").read_text()


def test_mistakes_are_told_before_the_run(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "--ort", tmp_path / "out.onnx")
    assert ran.code == 2
    assert "let it end in .ort" in ran.err
    report = tmp_path / "out.required_operators.config"
    ran = cli("optimize", net, "-o", tmp_path / "out.onnx", "--ort", tmp_path / "out.ort", "--report", report)
    assert ran.code == 2
    assert "this is the list of operators beside it" in ran.err
    assert not (tmp_path / "out.onnx").exists()
    ran = cli("optimize", net, "--out-dir", tmp_path / "many", "--ort", tmp_path / "out.ort")
    assert ran.code == 2
    assert "--ort is for one model" in ran.err
