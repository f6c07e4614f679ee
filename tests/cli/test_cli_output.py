"""What reaches standard output: colours on a terminal only, and no control character of a model."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest

from graphopt.cli.output import Output, one_line, to_json


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(stream: io.StringIO, text: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "40", **environment}.items():
        monkeypatch.setenv(name, value)
    Output(stream=stream).show(dict, lambda console: console.print(text))
    return stream.getvalue()


def test_a_terminal_gets_colours_and_wrapped_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(Terminal(), "[red]x[/red] " + "word " * 20, monkeypatch)
    assert "\x1b[31mx\x1b[0m" in text
    assert max(map(len, text.splitlines())) < 60


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(Terminal(), "[red]x[/red]", monkeypatch, NO_COLOR="1") == "x\n"


def test_anything_else_gets_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(io.StringIO(), "[red]x[/red] " + "word " * 20, monkeypatch) == "x " + " ".join(["word"] * 20) + "\n"


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_control_characters_are_escaped(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    text = drawn(stream, "a\x1b]0;title\x07b\x1b[2Jc\x9bd", monkeypatch)
    assert not {"\x07", "\x9b"} & set(text)
    assert "\x1b]" not in text
    assert "\x1b[2J" not in text


def test_emoji_codes_of_names_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(io.StringIO(), "conv:100:", monkeypatch) == "conv:100:\n"


def test_numbers_that_json_lacks_become_texts() -> None:
    facts = {"a": math.inf, "b": [-math.inf, (math.nan, 1.5)], 3: None}
    assert json.loads(to_json(facts)) == {"a": "inf", "b": ["-inf", ["nan", 1.5]], "3": None}


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("one\ntwo\r\nthree", "one two three"),
        ("tab\there", r"tab\there"),
        ("\x1b[31mred\u202e", r"\x1b[31mred\u202e"),
        ("größer → ✓", "größer → ✓"),
        ("lost \udcff", r"lost \udcff"),
    ],
)
def test_a_message_is_one_harmless_line(message: str, line: str) -> None:
    assert one_line(message) == line


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["optimize", "--json"], (True, False)),
        (["optimize", "--debug"], (False, True)),
        (["optimize", "--", "--json"], (False, False)),
        ([], (False, False)),
    ],
)
def test_how_to_report_is_known_before_the_options_are_parsed(arguments: list[str], found: Any) -> None:
    output = Output.wanted(arguments)
    assert (output.json, output.debug) == found
