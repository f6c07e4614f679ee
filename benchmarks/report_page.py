"""A report as one page of HTML, in the style of the product's pages: no script, no network, light and dark."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Final

from benchmarks.cells import by_model
from benchmarks.compared import AGAINST_OURS
from benchmarks.markdown_html import html_of
from benchmarks.record import Record
from benchmarks.report_lines import line_plot
from benchmarks.report_plots import dot_plot, front_plot, kinds, legend
from benchmarks.report_text import AGAIN, TITLE, UNNOTED, Section, Told
from benchmarks.results import tool_of
from benchmarks.steady import NOISE, repeated
from graphopt.report.plain import printable

_DOTS: Final[Mapping[str, tuple[str, str]]] = {
    "nodes_ratio": ("nodes, of the original's", "original"),
    AGAINST_OURS: ("CPU seconds, of graphopt's", "graphopt"),
}
"""Figures that are drawn as dots, a line for each model: what they are, and what 1 is."""
_LINES: Final = (
    ("nodes_before", "nodes", "cpu_seconds", "CPU seconds"),
    ("bytes_before", "bytes of weights", "own_bytes", "bytes of memory"),
)
"""Figures against which others grow, where models differ by little but their size."""
_GROWING: Final = "scale"
_OPEN: Final = 2  # models whose plots are shown at once
_READING: Final = (
    "Hollow: too noisy to tell, or not right. Bars: intervals of 95 %. Lines join what nothing beats in both, or "
    "models of one kind by their size."
)


def page(one: Told) -> str:
    """The whole page."""
    templates = resources.files("graphopt.report").joinpath("templates")
    styles = [templates.joinpath(name).read_text(encoding="utf-8") for name in ("report.css", "tuned.css")]
    css = "".join([*styles, Path(__file__).with_name("report.css").read_text(encoding="utf-8")])
    digest = "sha256-" + base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src '{digest}'; base-uri 'none'; form-action 'none'"
    names = [(section.suite, section.suite.capitalize()) for section in one.sections]
    names += [("again", AGAIN)] if one.again else []
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for anchor, name in names)
    tools = kinds([record for section in one.sections for record in section.records])
    parts = [
        '<!doctype html>\n<html lang="en" data-theme="auto"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<title>graphopt: {TITLE}</title><style>{css}</style></head><body class="tuned bench">',
        f"<header><h1>{TITLE}</h1><p>{escape(summary(one))}</p>",
        f'<nav aria-label="suites"><ul>{links}</ul></nav></header><main>',
        _machines(one),
        *(_section(section, tools) for section in one.sections),
        _again(one),
        "</main></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def summary(one: Told) -> str:
    """What there is, in two sentences."""
    records = [record for section in one.sections for record in section.records]
    counts = [
        (len(records), "measurement"),
        (len({record.contender for record in records}), "contender"),
        (len({record.model for record in records}), "model"),
        (len(one.sections), "suite"),
    ]
    said = [f"{count:,} {name}{'' if count == 1 else 's'}" for count, name in counts]
    failed = sum(bool(record.failure) for record in records)
    noisy = sum(record.words.get("noise") == NOISE for record in records)
    failures = f"{failed} failed, each with its reason" if failed else "none failed"
    noise = f"{noisy} {'is' if noisy == 1 else 'are'} {NOISE} to tell" if noisy else f"none is {NOISE} to tell"
    return f"{said[0]}: {said[1]} on {said[2]} in {said[3]}. Of them {failures}, and of the ratios {noise}."


def _machines(one: Told) -> str:
    found = "".join(_facts(machine) for machine in one.machines) or f'<p class="soft">{UNNOTED}</p>'
    tools = f"<h3>Versions</h3>{_facts(one.versions)}" if one.versions else ""
    return f'<section id="machine"><h2>Measured on</h2>{found}{tools}</section>'


def _facts(facts: Mapping[str, str]) -> str:
    items = "".join(
        f"<dt>{escape(printable(name))}</dt><dd>{escape(printable(value))}</dd>" for name, value in facts.items()
    )
    return f'<dl class="facts">{items}</dl>'


def _section(section: Section, tools: Mapping[str, int]) -> str:
    about = section.about[:1].upper() + section.about[1:].rstrip(".")
    parts = [f'<section id="{section.suite}"><h2>{section.suite.capitalize()}</h2>']
    parts.append(f'<p class="soft">{escape(about)}.</p>')
    parts += _plots(section, tools)
    for number, (title, table) in enumerate(section.tables):
        opened = " open" if number == 0 else ""
        parts.append(f"<details{opened}><summary>{escape(printable(title))}</summary>{html_of(table)}</details>")
    return "\n".join([*parts, _failures(section.failures), "</section>"])


def _plots(section: Section, tools: Mapping[str, int]) -> list[str]:
    models = by_model([_with_shares(one) for one in section.records], section.suite)
    if section.suite == _GROWING:
        drawn_whole = [line_plot(section.records, tools, *figures) for figures in _LINES]
    else:
        drawn_whole = [dot_plot(models, figure, said, tools, at_1) for figure, (said, at_1) in _DOTS.items()]
    parts = [f'<div class="scroll" tabindex="0">{plot}</div>' for plot in drawn_whole if plot]
    for number, (model, records) in enumerate(models.items()):
        both = [
            front_plot(records, tools),
            dot_plot(_by_tool(records), "latency_ratio", "latency, of the original's", tools),
        ]
        drawn = "".join(f'<div class="scroll" tabindex="0">{plot}</div>' for plot in both if plot)
        if drawn:
            opened = " open" if number < _OPEN else ""
            head = f"{escape(printable(model))} <small>bytes against SQNR, and latency</small>"
            parts.append(f"<details{opened}><summary>{head}</summary>{drawn}</details>")
    own = {tool: number for tool, number in tools.items() if tool in kinds(section.records)}
    return [legend(own), *parts, f'<p class="soft">{_READING}</p>'] if parts else []


def _with_shares(record: Record) -> Record:
    """A record with its nodes as a share of those that there were before."""
    figures = record.figures
    if "nodes" not in figures or not figures.get("nodes_before"):
        return record
    share = figures["nodes"] / figures["nodes_before"]
    return dataclasses.replace(record, figures={**figures, "nodes_ratio": share})


def _by_tool(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(tool_of(record), []).append(record)
    return found


def _failures(records: Sequence[Record]) -> str:
    if not records:
        return ""
    rows = "".join(
        f'<tr><th scope="row" class="words">{escape(printable(one.contender))}</th>'
        f'<td class="words">{escape(printable(one.model))}</td>'
        f'<td class="words sentence">{escape(printable(one.failure))}</td></tr>\n'
        for one in records
    )
    heads = "".join(f'<th scope="col" class="words">{name}</th>' for name in ("contender", "model", "why"))
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    what = f"{len(records)} that failed"
    return f'<details><summary>{what}</summary><div class="scroll" tabindex="0">{table}</div></details>'


def _again(one: Told) -> str:
    if not one.again:
        return ""
    about = "Two runs agree where their ratios are within the limit; where an interval is wider, nobody can tell."
    table = html_of(repeated(one.again))
    return f'<section id="again"><h2>{escape(AGAIN)}</h2><p class="soft">{escape(about)}</p>{table}</section>'
