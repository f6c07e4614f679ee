"""Functions of the user's own for --feeds and --metric that do what none should: a sentence, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_lines import Cli

import graphopt.validation.feeds

CODE = """
import sys
import numpy as np

def fine(*given):
    return {"x": np.ones((2, 64), np.float32)} if not given else 0.5

def chatty(*given):
    print("something in between")
    return fine(*given)

def raises(*given):
    raise RuntimeError("first\\nsecond\\x1b[31m red")

def leaves(*given):
    sys.exit(0)

class Mute(Exception):
    def __str__(self):
        raise ValueError("no text")

def mute(*given):
    raise Mute

def deep(*given):
    return deep(*given)

def number(*given):
    return 7

def nothing(*given):
    return None

def word(*given):
    return "high"

def ragged(*given):
    return {"x": [[1, 2], [3]]}

def object_(*given):
    return {"x": object()}

class Refuses:
    def __array__(self, *given, **more):
        raise RuntimeError("not for you")

def refuses(*given):
    return {"x": Refuses()}

def endless(*given):
    while True:
        yield {}

def endless_numbers(*given):
    while True:
        yield 1

def nan(*given):
    return float("nan")

def infinite(*given):
    return float("inf")

def huge(*given):
    return 10**400

def several(*given):
    return np.zeros(3)
"""
FEEDS = {
    "raises": "the feeds function code:raises raised RuntimeError: first second\\x1b[31m red",
    "leaves": "the feeds function code:leaves raised SystemExit: 0",
    "mute": "the feeds function code:mute raised Mute",
    "deep": "the feeds function code:deep raised RecursionError: maximum recursion depth exceeded",
    "number": "the feeds function code:number raised TypeError: 'int' object is not iterable",
    "nothing": "the feeds function code:nothing raised TypeError: 'NoneType' object is not iterable",
    "word": "code:word gave a str; a feed is a dict of arrays by input name",
    "ragged": "the value for 'x' in code:ragged is no array: ValueError: setting an array element with a sequence.",
    "object_": "the array for 'x' in code:object_ is string[] and the model wants float[N,64]",
    "refuses": "the feeds function code:refuses raised RuntimeError: not for you",
    "endless": "the feeds function code:endless gave more than 50 feeds; does it ever end?",
    "endless_numbers": "code:endless_numbers gave a int; a feed is a dict of arrays by input name",
    "absent": "the module 'code_of_mine' has no function 'absent' for the feeds",
}
METRICS = {
    "raises": "the metric code:raises raised RuntimeError: first second\\x1b[31m red",
    "leaves": "the metric code:leaves raised SystemExit: 0",
    "mute": "the metric code:mute raised Mute",
    "deep": "the metric code:deep raised RecursionError: maximum recursion depth exceeded",
    "nothing": "the metric code:nothing raised TypeError: float() argument must be a string or a real number",
    "word": "the metric code:word raised ValueError: could not convert string to float: 'high'",
    "nan": "the metric code:nan gave NaN; it has to give a finite number, higher is better",
    "infinite": "the metric code:infinite gave inf; it has to give a finite number, higher is better",
    "huge": "the metric code:huge raised OverflowError: int too large to convert to float",
    "several": "the metric code:several raised TypeError: only ",
    "absent": "the module 'code_of_mine' has no function 'absent' for the metric",
}
MODULES = {
    "import sys\nsys.exit(0)": "the module 'module_of_mine' of the feeds did not import: SystemExit: 0",
    "def (": "the module 'module_of_mine' of the feeds did not import: SyntaxError: invalid syntax",
    "1 / 0": "the module 'module_of_mine' of the feeds did not import: ZeroDivisionError: division by zero",
    "def __getattr__(name):\n    raise RuntimeError(name)": (
        "the module 'module_of_mine' does not give its 'f': RuntimeError"
    ),
}


@pytest.fixture(autouse=True)
def here(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder holds the module, and nothing but it is found under its name."""
    (tmp_path / "code_of_mine.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.delitem(__import__("sys").modules, "code_of_mine", raising=False)
    monkeypatch.delitem(__import__("sys").modules, "module_of_mine", raising=False)
    monkeypatch.setattr(graphopt.validation.feeds, "FUNCTION_FEEDS", 50)


def refused(cli: Cli, tmp_path: Path, *options: str) -> str:
    """The sentence of a run that must end as a mistake of the command line and leave nothing."""
    before = sorted(tmp_path.iterdir())
    ran = cli("optimize", "net.onnx", "-o", "out.onnx", *options)
    assert ran.code == (5 if "does it ever end" in ran.err else 2)
    assert sorted(tmp_path.iterdir()) == before
    return ran.sentence.replace("code_of_mine:", "code:")


@pytest.mark.parametrize(("name", "sentence"), FEEDS.items())
def test_a_feeds_function(cli: Cli, tmp_path: Path, name: str, sentence: str) -> None:
    said = refused(cli, tmp_path, "-p", "identities", "--feeds", f"code_of_mine:{name}")
    assert said.startswith(sentence)


@pytest.mark.parametrize(("name", "sentence"), METRICS.items())
def test_a_metric(cli: Cli, tmp_path: Path, name: str, sentence: str) -> None:
    lossy = ("-p", "weight-int8{min-elements=1}", "--budget", "sqnr_db>=1", "--feeds", "code_of_mine:fine")
    said = refused(cli, tmp_path, *lossy, "--metric", f"code_of_mine:{name}")
    assert said.startswith(sentence)


@pytest.mark.parametrize(("text", "sentence"), MODULES.items())
def test_a_module(cli: Cli, tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "module_of_mine.py").write_text(text)
    assert refused(cli, tmp_path, "-p", "identities", "--feeds", "module_of_mine:f").startswith(sentence)


@pytest.mark.parametrize("name", [":", "a:", ":b", "os.path:", "../a:b", "a b:c"])
def test_what_names_no_function(cli: Cli, tmp_path: Path, name: str) -> None:
    said = refused(cli, tmp_path, "-p", "identities", "--feeds", name)
    assert said == f"the feeds {name!r} is not of the form module:function"


def test_what_it_prints_is_not_in_the_object(cli: Cli) -> None:
    ran = cli("optimize", "net.onnx", "-o", "out.onnx", "-p", "identities", "--feeds", "code_of_mine:chatty", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["verdict"]["outcome"] == "equivalent"
    assert ran.err == "something in between\n"
