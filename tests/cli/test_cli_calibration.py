"""Samples for passes that learn from them, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_lines import Cli

ROWS = np.random.default_rng(0).random((12, 64), np.float32)
LEARN = ("-p", "static-int8", "--budget", "sqnr_db>=0")


def saved(folder: Path, name: str, count: int = 12) -> Path:
    np.savez(folder / name, x=ROWS[:count])
    return folder / name


def test_half_of_the_feeds_or_samples_of_their_own(cli: Cli, net: Path, tmp_path: Path) -> None:
    feeds, own = saved(tmp_path, "feeds.npz"), saved(tmp_path, "own.npz", 3)
    ran = cli("optimize", net, "-o", tmp_path / "a.onnx", *LEARN, "--feeds", feeds)
    said = "calibrated on 1 feed of feeds.npz (samples 1 to 6 of 12), validated on samples 7 to 12 of 12"
    assert (ran.code, ran.err) == (0, "") and said in ran.out
    ran = cli("optimize", net, "-o", tmp_path / "b.onnx", *LEARN, "--feeds", feeds, "--calibration", own, "--json")
    plain = json.loads(ran.out)
    assert plain["calibration"]["source"] == "own.npz" and plain["calibration"]["shapes"] == ["x[3,64]"]
    assert plain["verdict"]["feeds"]["part"] == ""


def test_invented_samples_have_their_price_told(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("optimize", net, "-o", tmp_path / "a.onnx", *LEARN)
    assert "calibrated on 8 generated feeds" in ran.out
    assert "whose ranges are not those of real data" in ran.out


@pytest.mark.parametrize("command", ["optimize", "bisect"])
def test_what_is_not_there_is_a_mistake(cli: Cli, net: Path, tmp_path: Path, command: str) -> None:
    out = ["-o", tmp_path / "a.onnx"] if command == "optimize" else []
    ran = cli(command, net, *out, *LEARN, "--calibration", tmp_path / "none.npz")
    assert ran.code == 2 and "none.npz" in ran.err


def test_bisect_takes_samples_also_with_a_command(cli: Cli, net: Path, tmp_path: Path) -> None:
    ran = cli("bisect", net, *LEARN[:2], "--check", "test -f {model}", "--calibration", saved(tmp_path, "own.npz"))
    assert ran.code == 0


def test_the_output_does_not_replace_the_samples(cli: Cli, net: Path, tmp_path: Path) -> None:
    own = saved(tmp_path, "own.npz")
    ran = cli("optimize", net, "-o", own, *LEARN, "--calibration", own)
    assert ran.code == 2 and "the file of --calibration" in ran.err
