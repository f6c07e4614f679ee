"""The screen of a search, and its figures in words."""

from __future__ import annotations

import dataclasses
import io
import math

import pytest
from made_searches import few, many, nothing, trial
from rich.console import Console

from graphopt.report.tuned import print_tuned
from graphopt.report.tuned_figures import (
    figures_shown,
    interval,
    less_is_better,
    ordered,
    rungs,
    techniques,
    times_smaller,
    tried,
    value_of,
    written,
)
from graphopt.tune.trial import FAILED, Ratio, Tuned


def screen(found: Tuned, verbose: int = 0) -> str:
    page = io.StringIO()
    print_tuned(found, Console(file=page, width=160), verbose)
    return page.getvalue()


def test_the_screen_says_what_was_tried_found_and_taken() -> None:
    said = screen(few())
    assert "net.onnx  file size within sqnr_db>=20, top1_drop<=0.01" in said
    assert "5 candidates tried, 3 kept the budgets, 1 gave no result, in 42.0 s" in said
    rows = [line.split() for line in said.splitlines()]
    assert [
        "▸",
        "int4-small",
        "int4",
        "weights",
        "3.97",
        "MB",
        "20.8",
        "dB",
        "x",
        "1.10",
        "x",
        "0.19",
        "0.0045",
        "128",
    ] in rows
    assert "took int4-small: file size 3.97 MB of 18.9 MB (x 0.21)" in said
    assert "on samples that the search never saw: sqnr_db 20.3, top1_drop 0.0052, cosine 0.99521" in said
    assert "low-rank" not in said, "what is not on the front is not shown"


def test_the_front_is_shown_best_first() -> None:
    said = screen(few())
    assert said.index("int4-small") < said.index("int8-static") < said.index("default")


def test_with_verbose_every_candidate_is_shown_with_its_reason() -> None:
    said = screen(few(), verbose=1)
    assert "int4-small 2" in said
    assert "low-rank: onnxruntime failed while running it" in said


def test_a_long_front_is_cut_around_what_was_taken() -> None:
    found = many()
    found = dataclasses.replace(found, front=tuple(range(40)), chosen=20)
    said = screen(found)
    assert "10 of the 40 points of the front (-v shows all)" in said
    assert found.trials[20].candidate.name in said
    assert "points of the front" not in screen(found, verbose=1)


def test_a_preset_its_assumptions_and_notes() -> None:
    found = dataclasses.replace(many(), written=("out.onnx", "out.ort"))
    said = screen(found)
    assert "for mobile" in said
    assert "2 things are assumed for mobile (-v says them)" in said
    assert "note the search ended early: the time was up" in said
    assert "note the inputs were generated, not real data" in said
    assert "wrote out.onnx, out.ort" in said
    assert "by 2 processes" in said
    assert "Latency is measured on the CPU of this machine" in screen(found, verbose=1)


def test_where_nothing_keeps_the_budgets() -> None:
    said = screen(nothing())
    assert "nothing that was tried keeps the budgets" in said
    assert "nothing was written" in said


def test_where_nothing_was_tried() -> None:
    said = screen(dataclasses.replace(nothing(), trials=(), front=()))
    assert "nothing was tried" in said
    assert "the original" in said


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    wild = trial("[red]x[/red]\x1b[2J", "a\nb", 0.5, 30.0)
    said = screen(dataclasses.replace(few(), trials=(wild,), front=(0,), chosen=0))
    assert "[red]x[/red]\\x1b[2J" in said
    assert "a\\nb" in said


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("bytes", 3_970_000.0, "3.97 MB"),
        ("macs", 385_000_000.0, "385 M"),
        ("latency", 0.524, "x 0.52"),
        ("energy", 0.0234, "x 0.023"),
        ("sqnr_db", 20.04, "20.0 dB"),
        ("sqnr_db", math.inf, "exact"),
        ("sqnr_db", -math.inf, "none"),
        ("max_error", math.inf, "none"),
        ("agreement", 0.9875, "98.75 %"),
        ("top1_drop", 0.0, "0"),
        ("top1_drop", -0.0039, "-0.0039"),
        ("cosine", 0.999987, "0.99999"),
        ("max_error", 0.01234, "0.01234"),
        ("sqnr_db", None, ""),
        ("sqnr_db", math.nan, ""),
    ],
)
def test_figures_in_words(field: str, value: float | None, said: str) -> None:
    assert written(field, value) == said


def test_the_better_end_of_an_axis() -> None:
    assert all(map(less_is_better, ("bytes", "compressed", "latency", "energy", "macs", "max_error", "top1_drop")))
    assert not any(map(less_is_better, ("sqnr_db", "cosine", "agreement")))


def test_what_a_trial_has() -> None:
    one = trial("a", "t", 0.5, 25.0)
    assert value_of(one, "latency") == 0.8
    assert value_of(one, "sqnr_db") == 25.0
    assert value_of(one, "cosine") is None
    assert value_of(dataclasses.replace(one, latency=None), "latency") is None
    assert value_of(dataclasses.replace(one, reached={"sqnr_db": math.nan}), "sqnr_db") is None
    assert value_of(dataclasses.replace(one, status=FAILED), "bytes") is None, "a failure has no result to be small"
    assert value_of(dataclasses.replace(one, bytes=0), "bytes") is None
    assert interval(Ratio(0.8, 0.7, 0.9, noisy=True)) == "x 0.80 (0.70 to 0.90), noisy"


def test_what_is_counted() -> None:
    found = few()
    assert [(one.rows, one.ended, one.kept) for one in rungs(found)] == [(8, 1, 0), (32, 1, 0), (128, 3, 3)]
    assert techniques(found) == ["clean", "int8 static", "int4 weights", "low rank"]
    assert figures_shown(found) == ["bytes", "sqnr_db", "latency", "energy", "top1_drop"]
    assert ordered([4, 0, 1, 2], found) == [2, 1, 0, 4]
    assert times_smaller(found, "bytes") == "x 0.21"
    assert times_smaller(nothing(), "bytes") == ""
    assert tried(dataclasses.replace(found, trials=found.trials[:1])) == "1 candidate tried, 1 kept the budgets"
