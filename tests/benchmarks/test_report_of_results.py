"""The report of results: its page, its Markdown, the tables that pages quote, and whether those are up to date."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_records import quantized

from benchmarks import report
from benchmarks.markdown_html import html_of, inline
from benchmarks.record import Record
from benchmarks.report_page import page, summary
from benchmarks.report_plots import dot_plot, front_plot, kinds
from benchmarks.report_text import AGAIN, UNNOTED, Told, markdown, told
from benchmarks.results import Run, read
from benchmarks.steady import NOISE
from graphopt.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "benchmarks" / "results" / "quantization.jsonl"
WILD = "<script>alert(1)</script>\"'&]]>\x1b\n| -- -->"
MACHINE = {"cpu": "made up", "cores": 2}


def few() -> Told:
    runs = [
        Run(
            MACHINE,
            (
                quantized("graphopt:a", agreement=1.0),
                quantized("other:b", 0.7),
                quantized("other:c", failure="it fell"),
            ),
        ),
        Run({**MACHINE, "cores": 3}, (Record("pruning", "m", "graphopt:d", "1.1", {"bytes": 3.0}),)),
    ]
    return told(runs)


class Reader(HTMLParser):
    """Holds a page to closing what it opens, in order, and keeps its tags and attributes."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)


def parsed(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return report.main(parser.parse_args([str(one) for one in arguments]))


def test_sections_come_in_the_order_of_the_suites() -> None:
    one = few()
    assert [section.suite for section in one.sections] == ["quantization", "pruning"]
    assert one.versions == {"graphopt": "1.0, 1.1", "other": "1.0"}
    assert one.machines == ({"cpu": "made up", "cores": "2"}, {"cpu": "made up", "cores": "3"})
    assert [one.contender for one in one.sections[0].failures] == ["other:c"]


def test_versions_of_libraries_and_of_tools_are_one_list() -> None:
    machine = {"cpu": "x", "versions": {"graphopt": "0", "onnx": "1"}, "load": 3}
    one = told([Run(machine, (quantized("graphopt:a"),))])
    assert one.machines == ({"cpu": "x"},)
    assert one.versions == {"graphopt": "1.0", "onnx": "1"}


def test_a_suite_that_is_none() -> None:
    with pytest.raises(UsageError, match="records of a suite 'speed'; there are simplification, quantization, "):
        told([Run({}, (Record("speed", "m", "a", "1"),))])


def test_the_markdown_has_everything() -> None:
    text = markdown(few())
    for said in (
        "# Benchmarks\n", "Measured on: cpu made up; cores 3.", "Versions: graphopt 1.0, 1.1, other 1.0.",
        "## Quantization\n", "### Quantization of m\n", "| graphopt:a | 10 | 0.300 | 30.00 |", "| other:c | it fell |",
        "## Pruning\n",
    ):  # fmt: skip
        assert said in text
    assert UNNOTED in markdown(told(read(EXAMPLE)))


def test_what_is_too_noisy_is_said_in_tables_whoever_measured() -> None:
    wide = quantized("graphopt:a", latency_ratio_high=0.6)
    text = markdown(told([Run({}, (wide, quantized("other:b")))]))
    (line,) = (each for each in text.splitlines() if "| graphopt:a |" in each)
    assert f"0.500 (0.499 to 0.600), {NOISE}" in line
    assert text.count(NOISE) == 1
    assert f"{NOISE}" in page(told(read(EXAMPLE)))


def test_ratios_of_processor_time_say_so_too() -> None:
    noisy = {"cpu_ratio": 2.0, "cpu_ratio_low": 1.5, "cpu_ratio_high": 2.5, "cpu_seconds": 1.0, "peak_bytes": 1e6}
    sized = {**noisy, "nodes": 5.0, "nodes_before": 9.0, "bytes": 10.0}
    steady = {**noisy, "cpu_ratio_low": 1.99, "cpu_ratio_high": 2.01}
    records = (
        Record("startup", "import", "tool", "1", noisy),
        Record("startup", "--help", "tool", "1", steady),
        Record("simplification", "m", "tool:a", "1", sized, {"verdict": "equivalent"}),
    )
    text = markdown(told([Run({}, records)]))
    assert "| import | tool | 1.000 | 2.00 (1.50 to 2.50), too noisy | 1 |" in text
    assert "| --help | tool | 1.000 | 2.00 (1.99 to 2.01) | 1 |" in text
    assert "| 2.00 (1.50 to 2.50), too noisy | 1 | equivalent |" in text


def test_two_runs_on_one_machine_are_held_against_each_other() -> None:
    runs = [
        Run(MACHINE, (quantized("graphopt:a", 0.500), quantized("graphopt:b", 0.5))),
        Run({"cpu": "another"}, (quantized("graphopt:a", 0.9),)),
        Run({**MACHINE, "started": "later"}, (quantized("graphopt:a", 0.505), quantized("graphopt:b", 0.6))),
    ]
    one = told(runs)
    assert [(each.contender, each.first, each.second, each.verdict) for each in one.again] == [
        ("graphopt:a", 0.500, 0.505, "agree"),
        ("graphopt:b", 0.5, 0.6, "differ"),
    ]
    assert "Of 2 ratios 1 agree within 3%, 0 are too noisy, 1 differ." in markdown(one)
    assert AGAIN in page(one)
    assert told(runs[:2]).again == ()
    assert len(told([*runs, runs[0]]).again) == 2  # only the last against the one before


def test_the_page_is_whole_and_asks_nothing_of_a_network() -> None:
    text = page(told([*read(EXAMPLE), Run(MACHINE, (quantized("graphopt:a"),))]))
    reader = parsed(text)
    tags = {tag for tag, _ in reader.seen}
    assert not tags & {"script", "link", "img", "iframe", "object", "use", "image", "base"}
    for _, attributes in reader.seen:
        for name in ("src", "href", "xlink:href", "style", "onclick", "action"):
            assert not (attributes.get(name) or "#").removeprefix("#").strip().startswith(("http", "//", "data:")), name
            assert name == "href" or name not in attributes
    assert not re.search(r"url\(|@import", text)
    policy = next(found["content"] for tag, found in reader.seen if tag == "meta" and "http-equiv" in found)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    anchors = {found["href"] for tag, found in reader.seen if tag == "a"}
    assert anchors == {"#quantization"}
    assert {found.get("id") for _, found in reader.seen} >= {each[1:] for each in anchors if each}
    assert "different (LOSSY): the original runs and the result does not" in text
    assert page(told([*read(EXAMPLE), Run(MACHINE, (quantized("graphopt:a"),))])) == text


def test_tables_can_be_read_aloud() -> None:
    reader = parsed(page(few()))
    for tag, attributes in reader.seen:
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
        if tag == "svg" and "aria-hidden" not in attributes:
            assert attributes.get("role") == "img"
            assert attributes.get("aria-label")
    assert dict(reader.seen)["html"]["lang"] == "en"
    assert sum(tag == "h1" for tag, _ in reader.seen) == 1


def test_names_are_text_whatever_is_in_them() -> None:
    records = (
        quantized(WILD, model=WILD),
        quantized("graphopt:x", model=WILD),
        quantized(f"{WILD}:y", model=WILD, failure=WILD),
    )
    one = told([Run({WILD: WILD, "group": {WILD: [WILD]}}, tuple(records))])
    text = page(one)
    parsed(text)
    assert "<script" not in text
    assert "\x1b" not in text
    for plot in (front_plot(records, kinds(records)), dot_plot({WILD: records}, "latency_ratio", WILD, kinds(records))):
        ET.fromstring(plot)


def test_the_summary_counts() -> None:
    said = summary(few())
    assert said == (
        "4 measurements: 4 contenders on 1 model in 2 suites. Of them 1 failed, each with its reason, "
        "and of the ratios none is too noisy to tell."
    )


def test_what_is_not_right_is_hollow_too() -> None:
    figures = {"nodes": 5.0, "nodes_before": 10.0, "bytes": 1.0, "bytes_ratio": 0.5, "cpu_seconds": 1.0}
    records = [
        Record("pruning", "m", contender, "1", figures, {"verdict": verdict})
        for contender, verdict in (("graphopt:a", "equivalent"), ("other:b", "different"))
    ]
    text = page(told([Run({}, tuple(records))]))
    assert "nodes, of the original" in text
    assert '<g class="mark t0 onfront">' in text
    assert '<g class="mark t1 missed">' in text
    assert "other:b, m: 0.5, different</title>" in text


def test_generated_inputs_are_told_of() -> None:
    real, own = quantized("graphopt:a"), quantized("graphopt:a", model="other")
    text = markdown(told([Run({}, (real, dataclasses.replace(own, words={"data": "made up"})))]))
    assert text.count("On generated inputs, not on real data: other.") == 2
    assert "generated" not in text[text.index("### Quantization of m\n") : text.index("### Quantization of other")]
    assert "generated" not in markdown(told([Run({}, (real, own))]))


def test_markdown_of_tables_becomes_html() -> None:
    table = "| a | | c |\n|---|--:|---|\n| `x` | 1 | **y** |\n| z | why it\\|fell | |\n\nOne\nline."
    reader = parsed(html_of(table))
    assert [tag for tag, _ in reader.seen].count("tr") == 3
    text = html_of(table)
    assert (
        '<th scope="row" class="words"><code>x</code></th><td>1</td><td class="words"><strong>y</strong></td>' in text
    )
    assert '<td class="words sentence" colspan="2">why it|fell</td>' in text
    assert '<p class="soft">One line.</p>' in text
    assert inline("<b>") == "&lt;b&gt;"


def test_pages_and_markdown_are_checked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--html", tmp_path / "r.html", "--markdown", tmp_path / "r.md"]
    assert run(EXAMPLE, *files, "--check") == 1
    assert not (tmp_path / "r.html").exists()
    assert run(EXAMPLE, *files) == 0
    assert run(EXAMPLE, *files, "--check") == 0
    (tmp_path / "r.md").write_text("something else")
    capsys.readouterr()
    assert run(EXAMPLE, *files, "--check") == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1
    assert "r.md is not what the results say" in said[0]


def test_the_markdown_is_printed_where_no_file_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(EXAMPLE) == 0
    assert capsys.readouterr().out == markdown(told(read(EXAMPLE)))


def test_files_that_cannot_be_read_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin.md").write_bytes(b"\xff\xfe")
    for arguments, said in (
        (("--readme", tmp_path / "none.md"), "no such file"),
        (("--readme", tmp_path / "latin.md"), "is no text in UTF-8"),
        (("--html", tmp_path / "no" / "r.html"), "cannot write the page"),
        (("--markdown", tmp_path), "cannot write the page"),
    ):
        assert run(EXAMPLE, *arguments) == 2
        assert said in capsys.readouterr().err
    assert run(tmp_path / "none.jsonl") == 2


def test_results_of_several_files_are_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(Record("pruning", "m", "graphopt:d", "1", {"bytes": 3.0}).to_json()) + "\n")
    assert run(other, EXAMPLE) == 0
    out = capsys.readouterr().out
    assert out.index("## Quantization") < out.index("## Pruning")
