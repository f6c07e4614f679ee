"""The tables of benchmarks that pages quote between markers, and whether they are what the results say."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.quoted import quoted
from benchmarks.record import Record
from benchmarks.report_text import Told, told
from benchmarks.results import Run
from graphopt.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "benchmarks" / "results" / "quantization.jsonl"


def few() -> Told:
    figures = {"bytes": 10.0, "bytes_ratio": 0.3, "sqnr_db": 30.0, "agreement": 1.0}
    first = Record("quantization", "m", "graphopt:a", "1.0", figures)
    second = Record("pruning", "m", "graphopt:d", "1.1", {"bytes": 3.0})
    return told([Run({"cpu": "made up"}, (first, second))])


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return report.main(parser.parse_args([str(one) for one in arguments]))


@pytest.fixture
def readme(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "page.md"
        path.write_bytes(text.encode())
        return path

    return write


def test_tables_between_markers_are_replaced(readme: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    title = "quantization:Quantization: the best that loses nothing"
    path = readme(f"before\n\n<!-- benchmark:{title} -->\nold\n<!-- /benchmark -->\nafter, no newline")
    assert run(EXAMPLE, "--readme", path, "--check") == 1
    assert "old" in path.read_text()
    assert run(EXAMPLE, "--readme", path) == 0
    text = path.read_text()
    assert text.startswith(f"before\n\n<!-- benchmark:{title} -->\n\n| model | | graphopt |")
    assert text.endswith("where there are no labels).\n\n<!-- /benchmark -->\nafter, no newline")
    assert "old" not in text
    capsys.readouterr()
    assert run(EXAMPLE, "--readme", path, "--check") == 0
    assert run(EXAMPLE, "--readme", path) == 0
    assert capsys.readouterr().out == "everything is up to date\n" * 2
    assert path.read_text() == text


def test_markers_of_whole_suites_and_of_the_machine() -> None:
    one = few()
    text = quoted(
        "<!-- benchmark:quantization -->\n<!-- /benchmark -->\n<!--benchmark:machine-->\n<!--/benchmark-->\n", one, "p"
    )
    assert text.count("\n**Quantization") == 2
    assert "Measured on: cpu made up" in text
    single = quoted("<!-- benchmark:pruning -->\n<!-- /benchmark -->\n", one, "p")
    assert "**" not in single
    assert "| graphopt:d | 3 |" in single


def test_whatever_stood_between_markers_goes() -> None:
    text = "<!-- benchmark:pruning -->\n```\nhalf a block\n<!-- /benchmark -->\n\nafter"
    assert "half" not in quoted(text, few(), "p")
    assert quoted(text, few(), "p").endswith("<!-- /benchmark -->\n\nafter")


def test_markers_in_code_are_text_and_line_ends_stay() -> None:
    shown = "```\n<!-- benchmark:none -->\n```\nIn a line: <!-- benchmark:none -->\n"
    text = shown + "<!-- benchmark:pruning -->\n<!-- /benchmark -->\n"
    assert quoted(text, few(), "p").startswith(shown)
    crlf = quoted(text.replace("\n", "\r\n"), few(), "p")
    assert crlf.replace("\r\n", "\n") == quoted(text, few(), "p")
    assert not re.search(r"[^\r]\n", crlf)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing", "p has no marker <!-- benchmark:SUITE -->"),
        ("<!-- benchmark:speed -->\n<!-- /benchmark -->", "p, line 1: the results have nothing of 'speed'; there are"),
        ("<!-- benchmark:pruning:X -->\n\n<!-- /benchmark -->", "p, line 1: the suite pruning has no table 'X'; it"),
        ("a\n<!-- benchmark:pruning -->", "p, line 2: the table that begins here has no <!-- /benchmark -->"),
        ("<!-- /benchmark -->", "p, line 1: a table ends that did not begin"),
        ("<!-- benchmark:pruning -->\n<!-- benchmark:pruning -->", "line 2: a table begins before that of line 1"),
    ],
)  # fmt: skip
def test_markers_that_mean_nothing(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        quoted(text, few(), "p")


def test_a_bad_marker_leaves_all_files_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text("<!-- benchmark:quantization -->\n<!-- /benchmark -->\n")
    bad.write_text("<!-- benchmark:speed -->\n<!-- /benchmark -->\n")
    assert run(EXAMPLE, "--html", tmp_path / "r.html", "--readme", good, bad) == 2
    assert "bad.md, line 1: the results have nothing of 'speed'" in capsys.readouterr().err
    assert good.read_text().count("\n") == 2
    assert not (tmp_path / "r.html").exists()


def test_pages_of_the_project_quote_the_committed_results() -> None:
    """Where this fails: python -m benchmarks report benchmarks/results/*.jsonl --readme PAGES."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    quoting = [path for path in pages if "<!-- benchmark:" in path.read_text()]
    assert ROOT / "docs" / "benchmarks.md" in quoting
    assert run(*sorted((ROOT / "benchmarks" / "results").glob("*.jsonl")), "--readme", *quoting, "--check") == 0
