"""`--validate segments` and `validate --segments` on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
from command_lines import Cli
from onnx import numpy_helper


def test_optimize_says_how_the_models_were_run(cli: Cli, net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = cli("optimize", net, "-o", out, "-p", "identities", "--validate", "segments")
    assert ran.code == 0 and out.is_file()
    assert "outputs equivalent (EXACT): all outputs bit for bit the same" in ran.out
    assert "run in one segment with 12.3 KB of weights, the worker at" in ran.out


def test_validate_by_segments_in_json(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("validate", net, shutil.copy(net, tmp_path / "copy.onnx"), "--segments", "--json")
    found = json.loads(ran.out)["segments"]
    assert ran.code == 0
    assert found["original"] == found["result"] == 1
    assert found["rows"][0]["differing"] == 0


def test_validate_names_the_stretch(cli: Cli, net: Path, tmp_path: Path) -> None:
    proto = onnx.load(net)
    weight = numpy_helper.to_array(proto.graph.initializer[0]) * 1.5
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, proto.graph.initializer[0].name))
    wrong = tmp_path / "wrong.onnx"
    onnx.save(proto, wrong)
    ran = cli("validate", net, wrong, "--segments", "-v")
    assert ran.code == 1
    assert "of the stretches between common cuts it is segment 1, from" in ran.out
