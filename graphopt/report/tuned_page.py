"""The page of a search: one file with the plot of its front, the model that was taken, and every candidate's verdict.

It needs no server and no network. A policy in the page lets the browser run the script that sorts the table, and
nothing else; without scripts all is there but the sorting.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from graphopt.report.plain import cut, printable
from graphopt.report.text import duration
from graphopt.report.tuned_figures import (
    MINIMIZED,
    budgets_of,
    figures_shown,
    head,
    interval,
    model_name,
    rungs,
    techniques,
    times_smaller,
    title,
    tried,
    value_of,
    written,
)
from graphopt.report.tuned_plot import legend_mark, tuned_plot
from graphopt.storage.files import replacing
from graphopt.tune.trial import KEPT, Trial, Tuned

_READING = (
    "filled: keeps the budgets",
    "hollow: misses one",
    "small: tried on a part of the samples",
    "large, on the line: the front, which no other is better than in both",
    "ring: the one that was taken",
)


def save_tuned_page(path: Path, found: Tuned) -> None:
    """Write the page, atomically. Raises UsageError or OverLimit when it cannot be written."""
    with replacing(path, "the page") as stream:
        stream.write(tuned_page(found).encode("utf-8", "backslashreplace"))


def tuned_page(found: Tuned) -> str:
    """The whole page."""
    css, js = _template("report.css") + _template("tuned.css"), _template("tuned.js")
    rules = ("default-src 'none'", f"style-src '{_digest(css)}'", f"script-src '{_digest(js)}'")
    policy = "; ".join((*rules, "base-uri 'none'", "form-action 'none'"))
    name = escape(printable(model_name(found)))
    parts = [
        '<!doctype html>\n<html lang="en" data-theme="auto"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<title>graphopt tune: {name}</title><style>{css}</style></head><body class="tuned">',
        f"<header><h1>What a search found for {name}</h1>{_summary(found)}</header>",
        _chosen(found),
        _front(found),
        _rungs(found),
        _trials(found),
        _recipe(found),
        _sentences("Warnings", found.warnings, "warnings"),
        _sentences(f"Assumed for {found.preset}" if found.preset else "Assumed", found.assumptions, "assumptions"),
        f"<script>{js}</script></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _summary(found: Tuned) -> str:
    how = f"Minimized: {MINIMIZED.get(found.minimize, found.minimize)}" + (
        f", for {found.preset}" if found.preset else ""
    )
    asked = f"budgets: {', '.join(found.budgets)}" if found.budgets else "no budgets"
    took = f"{tried(found)}, in {duration(found.seconds)}" + (
        f" by {found.workers} processes" if found.workers > 1 else ""
    )
    stopped = f" The search ended early: {found.stopped}." if found.stopped else ""
    feeds = f" Samples: {found.feeds}." if found.feeds else ""
    return f"<p>{escape(printable(f'{how}; {asked}. {took.capitalize()}.{stopped}{feeds}'))}</p>"


def _chosen(found: Tuned) -> str:
    if found.chosen is None:
        why = "Nothing that was tried keeps the budgets, so nothing was written. The plot shows how near it came."
        return f'<section class="chosen"><h2>Taken</h2><p class="none">{why}</p></section>'
    trial, original = found.trials[found.chosen], found.original
    tiles = []
    for field in ("bytes", "compressed", "macs", "latency", "energy"):
        after = value_of(trial, field)
        if after is None or (field == "compressed" and found.axes[0] != "compressed"):
            continue
        if field == "macs" and times_smaller(found, field) == "x 1.00":
            continue
        shown, before = written(field, after), written(field, value_of(original, field))
        if field == "latency":
            small = interval(trial.latency).partition(" (")[2].rstrip(")")
            small = f"95 %: {small.replace(')', '')}"
        elif field == "energy":
            small = "a proxy, not measured"
        else:
            small = f"of {before}, {times_smaller(found, field)}" if before else ""
        tiles.append(_tile(_capital(title(field).partition(",")[0]), shown, small))
    limits = budgets_of(found)
    for field, value in found.held_out.items():
        budget = limits.get(field)
        kind = "" if budget is None else "good" if budget.holds(value) else "bad"
        small = f"asked: {budget}" if budget is not None else "held out"
        tiles.append(_tile(_capital(head(field)), written(field, value), small, kind))
    of = f"{printable(trial.candidate.technique)}, candidate {found.chosen + 1} of {len(found.trials)}"
    about = "Figures of the outputs are of held-out samples, which the search never saw." if found.held_out else ""
    mark = legend_mark(techniques(found).index(trial.candidate.technique))
    return (
        f'<section class="chosen"><h2>Taken</h2><p class="what">{mark} '
        f"{escape(printable(trial.candidate.name))}<small>{escape(of)}</small></p>"
        f'<dl class="tiles">{"".join(tiles)}</dl><p class="soft">{about}</p></section>'
    )


def _tile(name: str, value: str, small: str, kind: str = "") -> str:
    return (
        f'<div class="tile {kind}"><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(small)}</small></dd></div>'
    )


def _front(found: Tuned) -> str:
    plot = tuned_plot(found)
    if not plot:
        return '<section><h2>The front</h2><p class="soft">No candidate has both figures of the front.</p></section>'
    keys = []
    for number, name in enumerate(techniques(found)):
        several = [one for one in found.trials if one.candidate.technique == name]
        kept = sum(one.status == KEPT for one in several)
        keys.append(f"<li>{legend_mark(number)}{escape(printable(name))} <small>{kept} of {len(several)}</small></li>")
    reading = "".join(f"<li>{one}</li>" for one in _READING)
    return (
        f'<section><h2>The front</h2><div class="scroll">{plot}</div><ul class="keys">{"".join(keys)}</ul>'
        f'<ul class="reading">{reading}</ul></section>'
    )


def _rungs(found: Tuned) -> str:
    several = rungs(found)
    if not several:
        return ""
    most = max(one.ended for one in several)
    rows = []
    for one in several:
        kept, all_of = 1000 * one.kept / most, 1000 * one.ended / most
        bar = (
            f'<rect class="other" width="{all_of:.0f}" height="14"/><rect class="kept" width="{kept:.0f}" height="14"/>'
        )
        rows.append(
            f"<span>{one.rows} row{_s(one.rows)}</span>"
            '<span class="bar"><svg viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true">'
            f"{bar}</svg></span>"
            f'<span class="soft">{one.ended} candidate{_s(one.ended)}, {one.kept} kept</span>'
        )
    about = "How far candidates came: the better half of those tried on few rows was tried on more."
    return f'<section><h2>Samples</h2><p class="soft">{about}</p><div class="rungs">{"".join(rows)}</div></section>'


def _trials(found: Tuned) -> str:
    fields = figures_shown(found)
    heads = [("#", "number", ""), ("candidate", "text", "words"), ("verdict", "text", "words")]
    heads += [(head(field), "number", "") for field in fields] + [("rows", "number", ""), ("time", "number", "")]
    cells = "".join(
        f'<th scope="col" data-kind="{kind}" class="{style}"><button type="button">{escape(name)}</button></th>'
        for name, kind, style in heads
    )
    kinds = {name: number for number, name in enumerate(techniques(found))}
    rows = [_row(found, None, found.original, fields, kinds)]
    rows += [_row(found, place, one, fields, kinds) for place, one in enumerate(found.trials)]
    return (
        f'<section><h2>Every candidate</h2><div class="scroll"><table class="trials"><thead><tr>{cells}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _row(found: Tuned, place: int | None, trial: Trial, fields: Sequence[str], kinds: dict[str, int]) -> str:
    limits = budgets_of(found)
    number = -1 if place is None else place
    style = "original" if place is None else "taken" if place == found.chosen else ""
    cells = [f'<td data-key="{number}">{"" if place is None else place + 1}</td>', _candidate(place, trial, kinds)]
    status = "reference" if place is None else trial.status
    shown = "original" if place is None else "taken" if place == found.chosen else status
    cells.append(f'<td class="words" data-key="{status}"><span class="status {status}">{shown}</span></td>')
    for field in fields:
        value = value_of(trial, field)
        over = field in limits and value is not None and place is not None and not _keeps(value, field, found)
        text = written(field, value)
        hint = f' title="{escape(interval(trial.latency))}"' if field == "latency" and trial.latency is not None else ""
        key = "" if value is None else repr(value) if math.isfinite(value) else ("1e999" if value > 0 else "-1e999")
        cells.append(f'<td data-key="{key}"{" class=over" if over else ""}{hint}>{escape(text)}</td>')
    cells.append(f'<td data-key="{trial.rows}">{trial.rows or ""}</td>')
    cells.append(f'<td data-key="{trial.seconds}">{duration(trial.seconds) if trial.seconds else ""}</td>')
    identity = "" if place is None else f' id="trial-{place}"'
    return f'<tr{identity} class="{style}" data-place="{number}">{"".join(cells)}</tr>'


def _keeps(value: float, field: str, found: Tuned) -> bool:
    budget = budgets_of(found)[field]
    return budget.holds(value / found.original.bytes if budget.is_fraction and found.original.bytes else value)


def _candidate(place: int | None, trial: Trial, kinds: dict[str, int]) -> str:
    candidate = trial.candidate
    if place is None:
        return '<td class="candidate words" data-key=""><span class="name">the model as it is</span></td>'
    mark = legend_mark(kinds[candidate.technique])
    said = printable(candidate.technique) + (f", made from {printable(candidate.parent)}" if candidate.parent else "")
    why = f'<small class="why">{escape(printable(trial.why))}</small>' if trial.why and trial.status != KEPT else ""
    text = printable(trial.pipeline or candidate.pipeline)
    pipeline = f"<details><summary>pipeline</summary><code>{escape(text)}</code></details>" if text else ""
    return (
        f'<td class="candidate words" data-key="{escape(printable(candidate.name))}">{mark}<span class="name">'
        f'{escape(cut(candidate.name, 80))}</span><br><small class="made">{escape(said)}</small>{pipeline}{why}</td>'
    )


def _recipe(found: Tuned) -> str:
    if not found.recipe:
        return ""
    about = (
        "This makes the chosen model again without a search: save it as tuned.toml, then "
        "<code>graphopt optimize model.onnx -o out.onnx --recipe tuned.toml --feeds samples.npz</code>"
    )
    text = "\n".join(printable(line) for line in found.recipe.splitlines())
    return f'<section><h2>The recipe</h2><p class="soft">{about}</p><pre class="recipe">{escape(text)}</pre></section>'


def _sentences(name: str, several: Iterable[str], style: str) -> str:
    items = "".join(f"<li>{escape(printable(one))}</li>" for one in several)
    return (
        f'<section><h2>{escape(printable(name))}</h2><ul class="sentences {style}">{items}</ul></section>'
        if items
        else ""
    )


def _template(name: str) -> str:
    return resources.files("graphopt.report").joinpath("templates", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _s(number: int) -> str:
    return "" if number == 1 else "s"
