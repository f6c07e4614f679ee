"""A changed model fitted to what it was, part by part in the order of the graph, as long as the outputs gain by it.

Each part is fitted to what the model as it was read has in its place, on the data that it reads now, all parts in
front of it fitted already. A fit lowers the error of its part on the calibration feeds, and yet may
raise that of the outputs: what lies behind has learned to live with errors, or reads directions in which it is
worse. So each fit is tried on the outputs before it is written, and one that would raise their error is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphopt.analysis.asker import Asker
from graphopt.analysis.batches import batches
from graphopt.analysis.changes import Change, in_decibels
from graphopt.analysis.float_layers import FloatLayer
from graphopt.analysis.layer_goals import Goal, goals
from graphopt.analysis.layer_levels import layer_depths
from graphopt.analysis.layer_parts import WIDEST, Answer, Layer, Part, factor_of
from graphopt.analysis.layer_repair import FAITHFUL, SAME
from graphopt.ir import Graph, Node


@dataclass(frozen=True)
class Terms:
    """How parts are fitted: see the options of the same names of the pass `reconstruct`."""

    damping: float = 0.0
    absorb: bool = True
    rounds: int = 1
    rows: int = 4096
    stages: int = 0
    samples: int = 64


@dataclass(frozen=True)
class Reconstruction:
    """One run; `rule` is that of its remarks."""

    ask: Asker
    terms: Terms
    rule: str

    def run(self, parts: Sequence[Part], graph: Graph) -> None:
        """Fit parts of the main graph."""
        parts = list(self._comparable(parts, graph))
        wanted = self._goals(parts)
        parts = [one for one in parts if one.node in wanted]
        changed = False
        for round_ in range(self.terms.rounds):
            for stage in _staged(parts, wanted, graph, self.terms.stages):
                apart = [one for one in stage if changed or wanted[one.node].apart > FAITHFUL]
                for one in stage:
                    if one not in apart and round_ == 0:
                        self.ask.missed(self.rule, one.node, SAME)
                if apart:
                    changed = self._fit(apart, wanted, round_ == 0) or changed

    def _comparable(self, parts: Sequence[Part], graph: Graph) -> Iterator[Part]:
        for part in parts:
            why = part.why_not()
            if why is None and part.node.graph is not graph.root:
                why = "values inside bodies and functions cannot be compared with those of the original"
            if why is None:
                yield part
            else:
                self.ask.missed(self.rule, part.node, why)

    def _goals(self, parts: list[Part]) -> Mapping[Node, Goal]:
        """The goals of all parts; first factors get those of the second ones, which `parts` then says."""
        found = goals({one.node: one.result for one in parts}, self.ask, self.terms.absorb, waits=True)
        known = dict[Node, Goal]()
        for at, one in enumerate(parts):
            goal = found[one.node]
            behind = factor_of(one.layer) if isinstance(one, Layer) and isinstance(goal, str) else None
            if isinstance(one, Layer) and isinstance(behind, FloatLayer):
                through = found.get(behind.node)
                if isinstance(through, Goal) and not through.more and through.beside is None:
                    parts[at], goal = Layer(one.layer, behind), through
            if isinstance(goal, str):
                self.ask.missed(self.rule, one.node, goal)
            else:
                known[one.node] = goal
        return known

    def _fit(self, parts: Sequence[Part], wanted: Mapping[Node, Goal], told: bool) -> bool:
        """Fit parts that do not depend on each other; whether any of them was changed. With `told`, say of the
        others why not."""
        shapes = self.ask.shapes
        asked = {one: one.questions(wanted[one.node], self.terms.rows, shapes) for one in parts}
        every = [one for each in asked.values() if not isinstance(each, str) for one in each]
        refused = self.ask.calibration.observe(every).refused
        answers = dict[Part, Answer]()
        for part, questions in asked.items():
            why = questions if isinstance(questions, str) else next((refused[q] for q in questions if q in refused), "")
            found: Answer | str = why
            if not why and not isinstance(questions, str):
                found = part.answer(questions, wanted[part.node], self.terms.damping, shapes)
            if isinstance(found, Answer):
                answers[part] = found
            elif told:
                self.ask.missed(self.rule, part.node, found)
        changed = False
        for part, effect in self._helpful(answers, told).items():
            if self.ask.rewrite(self.rule, part.node, f"{answers[part].text}; {effect}"):
                answers[part].write()
                changed = True
        return changed

    def _helpful(self, answers: Mapping[Part, Answer], told: bool) -> dict[Part, str]:
        """The parts whose fits, all of them together, do not raise the error of the outputs, and what it is then.

        All together, and each by itself, are tried in one run. Where all together are no help, those are that
        help alone, if they do together; else the best one.
        """
        if not answers:
            return {}
        parts = list(answers)
        single = {part: Change(answers[part].replaced) for part in parts}
        whole = _joined([answers[part] for part in parts])
        measured = self.ask.measure.changes([*single.values(), whole], self.terms.samples)
        now = measured.now.error
        errors = {part: measured.original[one].error for part, one in single.items() if one in measured.original}
        good = [part for part in parts if part in errors and errors[part] <= now]
        chosen, error = parts, measured.original[whole].error if whole in measured.original else None
        if error is None or error > now:
            chosen = sorted(good, key=lambda part: errors[part])[:1]
            error = errors[chosen[0]] if chosen else now
            if 1 < len(good) < len(parts):
                both = _joined([answers[part] for part in good])
                again = self.ask.measure.changes([both], self.terms.samples).original
                if both in again and again[both].error <= error:
                    chosen, error = good, again[both].error
        for part in parts if told else ():
            if part not in chosen:
                self.ask.missed(self.rule, part.node, _why(measured.refused.get(single[part]), now, errors.get(part)))
        return dict.fromkeys(chosen, f"{in_decibels(error)}, {in_decibels(now)} before")


def _why(refused: str | None, now: float, then: float | None) -> str:
    if refused is not None or then is None:
        return f"what a fit would do to the outputs could not be measured: {refused}"
    if then <= now:
        return "others of its stage help more, and together they do not help"
    return f"a fit would leave {in_decibels(then)}, and there is {in_decibels(now)}"


def _joined(answers: Sequence[Answer]) -> Change:
    return Change(tuple(pair for one in answers for pair in one.replaced))


def _staged(parts: Sequence[Part], wanted: Mapping[Node, Goal], graph: Graph, most: int) -> Iterator[list[Part]]:
    """Parts that are fitted in one run over the feeds, shallow ones first: those of one level, or in at most `most`
    stages (0: as many as there are), and no more than fit in memory.

    One that answers for a sum waits for all that the other addend is made of.
    """
    depth = layer_depths(graph, [one.node for one in parts])
    when = dict[Part, float]()
    for part in parts:
        beside = wanted[part.node].beside
        level = max((depth.get(tensor, 0) for tensor in part.node.inputs), default=0)
        other = 0 if beside is None else depth.get(beside, 0)
        when[part] = level if other <= level else other - 0.5
    distinct = sorted(set(when.values()))
    count = min(most or len(distinct), len(distinct))
    place = {one: index * count // len(distinct) for index, one in enumerate(distinct)}
    for stage in range(count):
        due = sorted((one for one in parts if place[when[one]] == stage), key=lambda one: when[one])
        yield from batches(due, lambda one: min(one.bytes, WIDEST), WIDEST)
