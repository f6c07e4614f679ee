"""The report page of a run: one file that shows every rewrite before and after, without a server or a network.

Everything that comes from the model goes into one block of JSON, in which no character can end the block, and the
page's script puts it on screen as text only. A policy in the page lets the browser run that script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from importlib import resources
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

from graphopt.instruments.history import LONGEST, History
from graphopt.report.plain import cut, printable
from graphopt.report.summary import Report, versions
from graphopt.storage.files import replacing
from graphopt.validation.verdict import Verdict

MAX_MISSED = 3000  # remarks of rewrites that did not happen; more are counted
MAX_MISSED_TEXT = 400_000  # characters of them


def page(report: Report, history: History) -> str:
    """The whole page as text that is plain ASCII where the model has a say."""
    parts = {name: _template(f"report.{name}") for name in ("css", "js")}
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{_digest(parts['css'])}'",
            f"script-src '{_digest(parts['js'])}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    pieces = {
        "policy": policy,
        "title": html.escape(_ascii(_model(report))),
        "css": parts["css"],
        "js": parts["js"],
        "data": _embedded(facts(report, history)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda marker: pieces[marker[1]], _template("report.html"))


def save_page(path: Path, report: Report, history: History) -> None:
    """Write the page, atomically. Raises UsageError or OverLimit when it cannot be written."""
    with replacing(path, "the page") as stream:
        stream.write(page(report, history).encode("utf-8"))


def facts(report: Report, history: History) -> dict[str, Any]:
    """What the page shows, as plain data. Texts, values and nodes are referred to by number."""
    tables = history.tables
    names = list(dict.fromkeys([row.name for row in report.passes] + [turn.place.pass_.name for turn in history.turns]))
    place = {name: index for index, name in enumerate(names)}
    turns = {turn.place.turn: index for index, turn in enumerate(history.turns)}
    frames = [
        [
            place[frame.remark.pass_name],
            frame.remark.number,
            *map(tables.text, (frame.remark.rule, frame.remark.node, frame.remark.op)),
            *map(tables.text, (frame.remark.why, frame.remark.scope)),
            turns.get(frame.turn, 0),
            frame.nodes,
            *((frame.before, frame.after, frame.around, frame.changed, frame.hidden) if frame.drawn else ()),
        ]
        for frame in history.frames
    ]
    others = [one for one in report.remarks if one.kind != "applied" and one.pass_name in place]
    missed = []
    most = tables.weight + MAX_MISSED_TEXT
    for one in others[:MAX_MISSED]:
        missed.append(
            [
                place[one.pass_name],
                *(tables.text(text) for text in (one.rule, one.node, one.op)),
                *(tables.text(text) for text in (one.why, one.scope)),
                one.number,
            ]
        )
        if tables.weight > most:
            break
    assert history.start is not None, "the run has begun"
    start = history.start
    return {
        "format": 1,
        "model": _model(report),
        "versions": versions(),
        "recipe": report.recipe,
        "pipeline": cut(report.pipeline, 4000),
        "changed": report.changed,
        "start": [start.nodes, start.weight_bytes, history.start_macs.count, history.start_macs.unknown],
        "bytes": [report.before.bytes, report.after.bytes],
        "passes": [
            [row.name, str(row.contract), row.applied, row.missed, row.nodes, row.weight_bytes, round(row.seconds, 4)]
            for row in report.passes
        ],
        "turns": [
            [
                place[turn.place.pass_.name],
                turn.place.step,
                turn.place.round,
                turn.rewrites,
                turn.facts.nodes,
                turn.facts.weight_bytes,
                None if turn.macs is None else [turn.macs.count, turn.macs.unknown],
            ]
            for turn in history.turns
        ],
        "frames": frames,
        "rewrites": history.rewrites,
        "missed": missed,
        "steps": [
            [cut(text, 400), history.ends_of_steps.get(text, 0), *_said(verdict)]
            for text, verdict in report.step_verdicts
        ],
        "verdict": _said(report.verdict),
        "latency": None if report.latency is None else [report.latency.a, report.latency.b, report.latency.noisy],
        "notes": _notes(report, history, len(others), len(missed)),
        "values": [[name, text, kind] for name, text, kind in tables.values],
        "nodes": [list(node) for node in tables.nodes],
        "texts": [cut(text, LONGEST) for text in tables.texts],
    }


def _notes(report: Report, history: History, others: int, missed: int) -> list[str]:
    notes = [f"{printable(one.pass_name)} was left out: {printable(one.why)}" for one in report.skipped]
    notes += [printable(warning) for warning in report.warnings]
    drawn = sum(frame.drawn for frame in history.frames)
    if drawn < len(history.frames):
        notes.append(
            f"Only the first {drawn} rewrites are drawn, so that this file stays small; the others have their remark."
        )
    if len(history.frames) < history.rewrites:
        notes.append(f"Only the first {len(history.frames)} of {history.rewrites} rewrites are in this file.")
    if missed < others:
        notes.append(f"Of {others} rewrites that did not happen the first {missed} are in this file.")
    macs = [history.start_macs, *(turn.macs for turn in history.turns if turn.macs is not None)]
    if any(later.count > earlier.count for earlier, later in pairwise(macs)):
        notes.append(
            "MACs take a size that is not known as 1, so their line also rises where a rewrite makes one known."
        )
    if any(one.unknown for one in macs):
        notes.append(
            f"MACs leave out nodes of unknown shape: {macs[0].unknown} at the start and {macs[-1].unknown} at the end."
        )
    return notes


def _said(verdict: Verdict) -> list[Any]:
    """Contract, outcome, whether it passed, the sentence, and the worst SQNR of its outputs in dB."""
    worst = min((one.sqnr_db for one in verdict.outputs if not math.isnan(one.sqnr_db)), default=None)
    shown = worst if worst is None or math.isfinite(worst) else str(worst)
    return [str(verdict.contract), str(verdict.outcome), verdict.passed, printable(verdict.sentence()), shown]


def _model(report: Report) -> str:
    path = report.before.path
    return "a model in memory" if path is None else cut(PurePath(path).name, 120)


def _embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the block it is in: that takes a `<`."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _template(name: str) -> str:
    return resources.files("graphopt.report").joinpath("templates", name).read_text(encoding="utf-8")


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")
