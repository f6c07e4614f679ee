"""Every rewrite of a run with the nodes around it, before and after: what the report page turns the pages of.

Texts, values and nodes are kept once and referred to by number, since neighbouring rewrites share most of them. What is
kept is bounded: past `MAX_DRAWN` characters rewrites are kept without their pictures, past `MAX_TEXT` characters or
`MAX_REWRITES` they are only counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from graphopt.analysis.cost import MAC_OPERATORS, Facts, Macs, facts, macs
from graphopt.analysis.shapes import infer
from graphopt.instruments.shadow import Change, Described, Shadow, Value
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.instrument import Instrument, Place, StepDone, Turn
from graphopt.pipeline.protocol import Remark

MAX_DRAWN = 3_700_000  # characters of names, types and attributes, and some for each reference
MAX_TEXT = 4_300_000
MAX_REWRITES = 12_000
LONGEST = 320  # characters of one text that a page shows
_COUNTED = MAC_OPERATORS | {"If", "Loop", "Scan"}


class Tables:
    """Texts, values and nodes by number."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}
        self.values: dict[tuple[int, int, str], int] = {}
        self.nodes: dict[tuple[int, int, int, tuple[int, ...], tuple[int, ...], int], int] = {}
        self.weight = 0  # about how many characters they take in a page

    def text(self, text: str) -> int:
        found = self.texts.setdefault(text, len(self.texts))
        if found == len(self.texts) - 1:
            shown = text[:LONGEST]
            self.weight += len(json.dumps(shown)) + 5 * shown.count("<") + 1
        return found

    def value(self, value: Value) -> int:
        key = (self.text(value.name), self.text(value.text), value.kind)
        found = self.values.setdefault(key, len(self.values))
        if found == len(self.values) - 1:
            self.weight += 24
        return found

    def node(self, node: Described) -> int:
        ins, outs = tuple(map(self.value, node.ins)), tuple(map(self.value, node.outs))
        key = (self.text(node.op), self.text(node.label), self.text(node.scope), ins, outs, self.text(node.attrs))
        found = self.nodes.setdefault(key, len(self.nodes))
        if found == len(self.nodes) - 1:
            self.weight += 32 + 6 * (len(ins) + len(outs))
        return found


@dataclass(frozen=True)
class Frame:
    """One rewrite. `before`, `after` and `around` are numbers of nodes, of which the first `changed` of both sides
    are the same nodes; `hidden` is how many each side leaves out. `nodes` is how many the model has afterwards,
    and `drawn` is False where no picture is kept."""

    remark: Remark
    turn: int
    nodes: int
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    around: tuple[int, ...] = ()
    changed: int = 0
    hidden: tuple[int, int] = (0, 0)
    drawn: bool = True


@dataclass(frozen=True)
class Played:
    """One run of one pass that changed something. `rewrites` counts those before its end, over the run;
    `macs` is None where the pass left the operators that have any alone."""

    place: Place
    rewrites: int
    facts: Facts
    macs: Macs | None


@dataclass
class History(Instrument):
    """Hears every rewrite of a run. Takes a description of every node, and time for each rewrite."""

    hears_rewrites: ClassVar[bool] = True

    frames: list[Frame] = field(default_factory=list)
    turns: list[Played] = field(default_factory=list)
    ends_of_steps: dict[str, int] = field(default_factory=dict)  # text -> rewrites before its end
    tables: Tables = field(default_factory=Tables)
    rewrites: int = 0
    start: Facts | None = None
    start_macs: Macs = field(default_factory=lambda: Macs(0))

    def begins(self, graph: Graph) -> None:
        self.frames, self.turns, self.ends_of_steps, self.tables, self.rewrites = [], [], {}, Tables(), 0
        self._shadow = Shadow(graph)
        self._turn = 0
        self._linear = False  # whether the running pass touched an operator that has MACs
        self.start = facts(graph)
        self.start_macs = macs(graph, infer(graph))

    def before_pass(self, place: Place, graph: Graph) -> None:
        self._turn, self._linear = place.turn, False

    def rewritten(self, remark: Remark, subject: Node | Tensor, names: Iterable[str]) -> None:
        change = self._shadow.settle(subject, names)
        self._linear = self._linear or not change.touched.isdisjoint(_COUNTED)
        self.rewrites += 1
        if len(self.frames) < MAX_REWRITES and self.tables.weight < MAX_TEXT:
            self.frames.append(self._frame(remark, change))

    def _frame(self, remark: Remark, change: Change) -> Frame:
        place, nodes, tables = self._turn, len(self._shadow), self.tables
        for text in (remark.rule, remark.node, remark.op, remark.why, remark.scope):
            tables.text(text)
        tables.weight += 60
        if tables.weight > MAX_DRAWN:
            return Frame(remark, place, nodes, drawn=False)
        before, after, around = (tuple(map(tables.node, side)) for side in (change.before, change.after, change.around))
        tables.weight += 6 * (len(before) + len(after) + len(around))
        return Frame(remark, place, nodes, before, after, around, change.changed, change.hidden)

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        if not turn.changed:
            return
        counted = facts(graph)
        if counted.nodes != len(self._shadow):  # a function or body that went away as a whole
            self._shadow.renew()
        count = macs(graph, infer(graph)) if self._linear else None
        self.turns.append(Played(turn.place, self.rewrites, counted, count))

    def after_step(self, done: StepDone, graph: Graph) -> None:
        self.ends_of_steps[done.text] = self.rewrites
