"""Pipeline text that cannot be read: each mistake has its sentence, with its place."""

from __future__ import annotations

import time

import pytest

from graphopt.errors import UsageError
from graphopt.pipeline import Pipeline, Registry

NESTED = (
    "a repeat group cannot stand inside another; put its passes into the outer group, "
    "which runs until nothing changes anyway"
)
CASES = {
    # names
    "swep": "column 1: no pass is called 'swep'; did you mean 'sweep'?",
    "sweep,Polish": "column 7: no pass is called 'Polish'; did you mean 'polish'?",
    "sweep, xyzzy": "column 8: no pass is called 'xyzzy'; `graphopt passes` lists the passes there are",
    "sweep,\n  polis": "line 2, column 3: no pass is called 'polis'; did you mean 'polish'?",
    "\n\nswep": "line 3, column 1: no pass is called 'swep'; did you mean 'sweep'?",
    "repaet(sweep)": "column 1: no pass is called 'repaet'; `graphopt passes` lists the passes there are",
    # options
    "sweep{fast}": "column 7: sweep takes no options, so there is no 'fast'",
    "polish{round=1}": "column 8: polish has no option 'round'; did you mean 'rounds'?",
    "paint{skip_rooms=[a]}": "column 7: paint has no option 'skip_rooms'; did you mean 'skip-rooms'?",
    "polish{zzz=1}": "column 8: polish has no option 'zzz'; it has rounds",
    "paint{wet coats=1 wet}": "column 19: the option 'wet' is given twice",
    "paint{coats}": "column 7: paint: coats needs a value, a whole number",
    "paint{switches}": "column 7: paint: switches needs a value, a list of true or false values in brackets",
    # values of the wrong type
    "paint{coats=1.5}": "column 13: paint: coats expects a whole number, not 1.5",
    "paint{coats=many}": "column 13: paint: coats expects a whole number, not many",
    'paint{coats="8"}': "column 13: paint: coats expects a whole number, not the text '8'",
    "paint{coats=none}": "column 13: paint: coats expects a whole number, not none",
    "paint{coats=[1]}": "column 13: paint: coats expects a whole number, not a list",
    "paint{coats=1__0}": "column 13: paint: coats expects a whole number, not 1__0",
    "paint{coats=0x10}": "column 13: paint: coats expects a whole number, not 0x10",
    "paint{coats=9223372036854775808}": "column 13: paint: coats expects a whole number, "
    "and this one does not fit 64 bits",
    f"paint{{coats={'9' * 5000}}}": "column 13: paint: coats expects a whole number, and this one does not fit 64 bits",
    "paint{wet=1}": "column 11: paint: wet expects true or false, not 1",
    "paint{wet=True}": "column 11: paint: wet expects true or false, not True",
    'paint{wet="true"}': "column 11: paint: wet expects true or false, not the text 'true'",
    "paint{scale=inf}": "column 13: paint: scale expects a number, not inf",
    "paint{scale=nan}": "column 13: paint: scale expects a number, not nan",
    "paint{scale=1e999}": "column 13: paint: scale expects a number that is finite",
    "paint{scale=half}": "column 13: paint: scale expects a number, not half",
    "paint{scale=.}": "column 13: paint: scale expects a number, not .",
    "paint{limit=x}": "column 13: paint: limit expects a whole number, or none, not x",
    "paint{side=rihgt}": "column 12: paint: side expects one of left, right, on top, not rihgt; did you mean 'right'?",
    'paint{side="Left"}': "column 12: paint: side expects one of left, right, on top, not the text 'Left'; "
    "did you mean 'left'?",
    "paint{bits=5}": "column 12: paint: bits expects one of 4, 8, auto, true, not 5",
    'paint{bits="8"}': "column 12: paint: bits expects one of 4, 8, auto, true, not the text '8'; "
    "write it without quotes",
    "paint{tone=wram}": "column 12: paint: tone expects one of warm, ice cold, 0, not wram; did you mean 'warm'?",
    "paint{skip-rooms=hall}": "column 18: paint: skip-rooms expects a list of texts in brackets, not hall",
    'paint{doors="front"}': "column 13: paint: doors expects a list of texts in brackets, or none, "
    "not the text 'front'",
    "paint{widths=[1,x]}": "column 14: paint: widths expects a list of whole numbers in brackets, not x",
    "paint{tones=[hot]}": "column 13: paint: tones expects a list of items out of warm, ice cold, 0 in brackets, "
    "not hot",
    # what the pass itself refuses
    "sweep,paint{coats=-1}": "column 7: paint: coats must not be negative, not -1",
    # groups
    "repeat(sweep,paint)": "column 14: paint cannot stand in a repeat group, because it is LOSSY and every round "
    "would move the outputs further; put it outside the group",
    "repeat(sweep,repeat(polish))": f"column 14: {NESTED}",
    "repeat()": "column 1: a repeat group holds at least one pass",
    "repeat": "column 1: repeat needs passes in parentheses, such as repeat{max=8}(identities,dead-nodes)",
    "repeat{max=2},sweep": "column 1: repeat needs passes in parentheses, such as repeat{max=8}(identities,dead-nodes)",
    "repeat{max=0}(sweep)": "column 1: the max of repeat must be a whole number from 1 to 1000, not 0",
    "repeat{max=1001}(sweep)": "column 1: the max of repeat must be a whole number from 1 to 1000, not 1001",
    "repeat{max=x}(sweep)": "column 12: repeat: max expects a whole number, not x",
    "repeat{max}(sweep)": "column 8: repeat: max needs a value, a whole number",
    "repeat{maxx=2}(sweep)": "column 8: repeat has no option 'maxx'; did you mean 'max'?",
    "repeat{rounds=2}(sweep)": "column 8: repeat has no option 'rounds'; it has max",
    "sweep(polish)": "column 6: sweep is a pass, and only repeat takes passes in parentheses",
    # brackets, commas, quotes
    "sweep polish": "column 7: expected ',' between two steps, not 'polish'",
    "repeat(sweep polish)": "column 14: expected ',' between two steps, not 'polish'",
    "sweep,,polish": "column 7: expected the name of a pass, not ','",
    ",sweep": "column 1: expected the name of a pass, not ','",
    "sweep)": "column 6: this ')' closes nothing",
    "sweep}": "column 6: expected ',' between two steps, not '}'",
    "repeat(sweep": "column 7: this '(' is never closed",
    "repeat(sweep,": "column 7: this '(' is never closed",
    "repeat(sweep]": "column 13: expected ',' between two steps, not ']'",
    "paint{wet": "column 6: this '{' is never closed",
    "paint{wet)": "column 10: expected the name of an option or '}', not ')'",
    "paint{=1}": "column 7: expected the name of an option or '}', not '='",
    "paint{,}": "column 7: expected the name of an option or '}', not ','",
    "paint{coats=}": "column 13: expected a value, not '}'",
    "paint{coats=": "column 13: expected a value, not the end of the text",
    "paint{widths=[1": "column 14: this '[' is never closed",
    "paint{widths=[1 2]}": "column 17: expected ',' or ']' in a list, not '2'",
    "paint{widths=[,]}": "column 15: expected a value, not ','",
    "paint{widths=[[1]]}": "column 15: a list cannot stand inside a list",
    'paint{title="open}': "column 13: the quoted text that begins here is not closed on its line",
    'paint{title="open\n"}': "line 1, column 13: the quoted text that begins here is not closed on its line",
    'paint{title="open\\': "column 18: unknown escape in a quoted text; "
    r"the known ones are \" \' \\ \n \t \r \uXXXX \UXXXXXXXX",
    r'paint{title="\x41"}': r"column 14: unknown escape in a quoted text; "
    r"the known ones are \" \' \\ \n \t \r \uXXXX \UXXXXXXXX",
    r'paint{title="\u12"}': r"column 14: unknown escape in a quoted text; "
    r"the known ones are \" \' \\ \n \t \r \uXXXX \UXXXXXXXX",
    r'paint{title="\UFFFFFFFF"}': r"column 14: unknown escape in a quoted text; "
    r"the known ones are \" \' \\ \n \t \r \uXXXX \UXXXXXXXX",
    '"sweep"': "column 1: expected the name of a pass, not the quoted text 'sweep'",
    # characters
    "sweep;polish": "column 6: unexpected character ';'; a text with such characters goes in double quotes",
    "sweep,\u00a0polish": "column 7: unexpected character 'U+00A0'; a text with such characters goes in double quotes",
    "\ufeffsweep": "column 1: unexpected character 'U+FEFF'; a text with such characters goes in double quotes",
    "paint{title=naïve}": "column 15: unexpected character 'ï'; a text with such characters goes in double quotes",
    "sweep,\x00": "column 7: unexpected character 'U+0000'; a text with such characters goes in double quotes",
}


@pytest.mark.parametrize("text", CASES, ids=lambda text: repr(text)[:40])
def test_the_sentence(registry: Registry, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Pipeline.parse(text, registry)
    assert str(caught.value) == f"pipeline, {CASES[text]}"
    assert caught.value.exit_code == 2


def test_a_long_name_is_cut_in_the_sentence(registry: Registry) -> None:
    with pytest.raises(UsageError) as caught:
        Pipeline.parse("x" * 60_000, registry)
    assert len(str(caught.value)) < 200


def test_a_text_that_is_too_long(registry: Registry) -> None:
    with pytest.raises(UsageError) as caught:
        Pipeline.parse("sweep," * 11_000, registry)
    assert str(caught.value) == "the pipeline has 66000 characters, more than the 65536 that are read"


@pytest.mark.parametrize("piece", ["repeat(", "paint{", "(", "[", "paint{widths=[", "{", '"', "\\", "a=", "#", "'\\u"])
def test_deep_or_endless_texts_are_refused_at_once(registry: Registry, piece: str) -> None:
    text = "sweep," + piece * (65_000 // len(piece))
    began = time.perf_counter()
    try:
        Pipeline.parse(text, registry)
        assert piece == "#", "only a comment is legal"
    except UsageError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
    assert time.perf_counter() - began < 2.0
