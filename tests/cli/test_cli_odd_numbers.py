"""Options that take numbers, given what is none: not a number, infinite, too large, digits of other scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_lines import Cli

LOSSY = ("-p", "weight-int8{min-elements=1}")
NEVER = ("nan", "inf", "-inf", "1e400", "\u0663", "1_0", "0x10", "", " ", "1 2", "9" * 5000)


def refused(cli: Cli, tmp_path: Path, *arguments: str) -> str:
    """The sentence of a command line that must end as a mistake of its own and leave nothing."""
    before = sorted(tmp_path.iterdir())
    ran = cli(*arguments)
    assert ran.code == 2, ran
    assert sorted(tmp_path.iterdir()) == before
    assert len(ran.sentence) <= 4100
    return ran.sentence


@pytest.fixture(autouse=True)
def here(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds the model."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", [*NEVER, "-1", "0"])
@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--timeout", "--timeout expects seconds, a number greater than zero, not "),
        ("--memory", "--memory expects a size such as 512MB, 2GB or a number of bytes, not "),
    ],
)
def test_limits(cli: Cli, tmp_path: Path, flag: str, sentence: str, text: str) -> None:
    assert refused(cli, tmp_path, "optimize", "net.onnx", "-o", "o", flag, text).startswith(sentence)


@pytest.mark.parametrize("text", [*NEVER, "-1", "1.5"])
@pytest.mark.parametrize("flag", ["--seed", "--limit"])
def test_counts(cli: Cli, tmp_path: Path, flag: str, text: str) -> None:
    said = refused(cli, tmp_path, "optimize", "net.onnx", "-o", "o", flag, text)
    assert said.startswith(f"{flag} expects a whole number of zero or more, not ")


@pytest.mark.parametrize("text", [*(one for one in NEVER if one), "-1", "1.5", "2,3"])
def test_sizes_of_dims(cli: Cli, tmp_path: Path, text: str) -> None:
    said = refused(cli, tmp_path, "optimize", "net.onnx", "-o", "o", "--dim", f"N={text}")
    assert said.startswith("--dim N=")
    assert "needs a whole number of zero or more, for example N=4" in said


@pytest.mark.parametrize("text", ["N", "N=", "=3", "=", ""])
def test_dims_without_a_name_or_a_size(cli: Cli, tmp_path: Path, text: str) -> None:
    said = refused(cli, tmp_path, "optimize", "net.onnx", "-o", "o", "--dim", text)
    assert said == f"--dim {text!r} is not of the form NAME=VALUE, for example batch=4"


@pytest.mark.parametrize(("name", "why"), [("M=3", "no input of the model has a dim named 'M'; did you mean 'N'?")])
def test_dims_that_no_input_has(cli: Cli, tmp_path: Path, name: str, why: str) -> None:
    assert refused(cli, tmp_path, "optimize", "net.onnx", "-o", "o", "--dim", name) == why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x=", "--input-value 'x=' is not of the form NAME=VALUE, for example sr=16000"),
        ("=1", "--input-value '=1' is not of the form NAME=VALUE, for example sr=16000"),
        ("q=1", "the model has no input named 'q'; did you mean 'x'?"),
        ("x=high", "the value 'high' for the input 'x' is not a number or a comma list of numbers"),
        ("x=" + "[" * 5000, "the value '[[["),
        ("x=1,2", "the value pinned for 'x' has 2 numbers, which do not fill float[N,64]"),
    ],
)
def test_values_of_inputs(cli: Cli, tmp_path: Path, text: str, why: str) -> None:
    said = refused(cli, tmp_path, "optimize", "net.onnx", "-o", "o", "-p", "identities", "--input-value", text)
    assert said.startswith(why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no metric"),
        ("sqnr_db", "has no '>=' or '<='"),
        ("sqnr_db>=", "has no number after '>='"),
        ("sqnr_db==3", "has '=='; sqnr_db is better when more"),
        ("sqnr_db>=3;", "has '3;' where a number belongs"),
        ("sqnr_db>=\u0663", "where a number belongs"),
        ("sqnr_db>=1_0", "where a number belongs"),
        ("sqnr_db>=nan", "has 'nan' as its limit; a budget needs a finite number"),
        ("sqnr_db>=inf", "has 'inf' as its limit; a budget needs a finite number"),
        ("sqnr_db>=-1e400", "has '-1e400' as its limit; a budget needs a finite number"),
        ("cosine>=30", "is out of range"),
        ("top1_drop<=2", "is out of range"),
        ("bytes<=-1", "is out of range"),
        ("bytes<=5XB", "has '5XB' where a number belongs"),
        ("\x1b[31m>=3", "names an unknown metric '\\x1b[31m'"),
        ("s" * 9000 + ">=3", "names an unknown metric"),
    ],
)
def test_budgets(cli: Cli, tmp_path: Path, text: str, why: str) -> None:
    said = refused(cli, tmp_path, "optimize", "net.onnx", "-o", "o", *LOSSY, "--budget", text)
    assert said.startswith("the budget ")
    assert why in said or len(text) > 4000


@pytest.mark.parametrize(
    "text", ["", "=", "junk", "latency", "budget=1", "latency=0", "macs=2", "bytes=nan", "macs=1e400"]
)
def test_goals(cli: Cli, tmp_path: Path, text: str) -> None:
    said = refused(cli, tmp_path, "optimize", "net.onnx", "-o", "o", "--to", text)
    assert said.startswith("--to expects latency=0.7") or "is to be between 0 and 1 times the original's" in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("localize", "net.onnx", "net.onnx", "--sqnr-db"), "--sqnr-db expects decibels, a number such as 40, not "),
        (("sensitivity", "net.onnx", "--ladder"), "--ladder expects numbers with commas between them"),
    ],
)
@pytest.mark.parametrize("text", ["nan", "inf", "1e400", "\u0663", "1_0", "", "x"])
def test_decibels_and_ladders(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], why: str, text: str) -> None:
    assert refused(cli, tmp_path, *arguments, text).startswith(why)
