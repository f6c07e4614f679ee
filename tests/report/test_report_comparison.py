"""The page of a verdict."""

from __future__ import annotations

from dataclasses import replace

from page_text import page

from graphopt.contract import Contract
from graphopt.report.comparison import accuracy_json, print_accuracy, print_verdict
from graphopt.report.plain import cut, plain
from graphopt.validation.verdict import FeedsReport, Outcome, OutputReport, Verdict

SAME = OutputReport("y", False, "float", 10, 0, 0.0, 200.0, 200.0, 1.0, 1.0, agreement=1.0)
OFF = replace(
    SAME,
    name="z[0]",
    optimized=True,
    differing=4,
    scaled_error=0.25,
    sqnr_db=12.34,
    cosine=0.5,
    bound=1e-6,
    problem="is off",
)
FEEDS = FeedsReport(True, 3, "generated", tuple(f"x[{n}]" for n in range(5)), 7)


def shown(verdict: Verdict, verbose: int = 0) -> str:
    return page(lambda console: print_verdict(verdict, console, verbose))


def test_an_equivalent_pair() -> None:
    text = shown(Verdict(Outcome.EQUIVALENT, Contract.EXACT, (SAME,), feeds=FEEDS, warnings=("take care",)))
    assert text.startswith(
        "✓ equivalent (EXACT): all outputs bit for bit the same, 3 generated feeds\n  note take care"
    )
    assert "\n  y " in text
    assert "3 x generated, seed 7\n  x[0]\n  x[1]\n  x[2]\nin " in text


def test_what_failed_comes_first_with_its_figures() -> None:
    reasons = tuple(f"reason {n}" for n in range(6))
    text = shown(Verdict(Outcome.DIFFERENT, Contract.ROUNDING, (SAME, OFF), reasons=reasons))
    lines = text.splitlines()
    assert lines[:4] == ["✗ different (ROUNDING): reason 0", "  reason 1", "  reason 2", "  reason 3"]
    assert next(line for line in lines if "z[0]" in line).split() == [
        "✗", "z[0]", "yes", "4", "of", "10", "0.25", "1e-06", "12.3", "dB", "0.500000", "100.00", "%",
    ]  # fmt: skip
    assert text.index("z[0]") < text.index("  y ")


def test_many_outputs_are_cut_unless_all_are_asked_for() -> None:
    many = tuple(replace(SAME, name=f"out{n}") for n in range(40))
    verdict = Verdict(Outcome.EQUIVALENT, Contract.EXACT, many)
    assert "and 28 more (-v shows all)" in shown(verdict)
    assert "out39" in shown(verdict, verbose=1)


def test_could_not_tell() -> None:
    assert shown(Verdict(Outcome.COULD_NOT_TELL, Contract.EXACT, reasons=("it is random",))).startswith(
        "? could not tell (EXACT): it is random"
    )


def test_accuracy_is_shown_where_there_is_one() -> None:
    verdict = Verdict(Outcome.EQUIVALENT, Contract.EXACT)
    assert page(lambda console: print_accuracy(verdict, 9, console)) == ""
    measured = replace(verdict, metric="top1", metric_before=0.5, metric_after=0.25)
    assert "accuracy on 8 labelled test images: 50.00 % before, 25.00 % after" in page(
        lambda console: print_accuracy(measured, 8, console)
    )
    assert accuracy_json(measured, 8) == {"accuracy": {"rows": 8, "before": 0.5, "after": 0.25}}


def test_names_are_made_plain() -> None:
    assert plain("[b]x[/b]\n\x1b") == r"\[b]x\[/b]\n\x1b"
    assert cut("abcdefghij", 10) == "abcdefghij"
    assert len(cut("model/block/conv.weight", 13)) == 13
    assert cut("model/block/conv.weight", 13).endswith("weight")
