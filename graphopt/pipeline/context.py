"""What a running pass talks to: numbers its rewrites, asks the gate, keeps remarks and provenance."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from graphopt.errors import InternalError
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.journal import Edit
from graphopt.pipeline.gate import Candidate, Gate, Open
from graphopt.pipeline.instrument import Instrument
from graphopt.pipeline.protocol import Calibration, Measure, Pass, Remark, Training
from graphopt.pipeline.services import NoServices, Services

if TYPE_CHECKING:
    from graphopt.analysis.evaluated import Evaluated
    from graphopt.analysis.shapes import Shapes

_NAMES_KEPT = 32  # names that one remark keeps of what went and came


@dataclass
class Ledger:
    """The numbers and remarks of one run, shared by the contexts of all its passes."""

    gate: Gate = field(default_factory=Open)
    remarks: list[Remark] = field(default_factory=list)
    numbers: Counter[str] = field(default_factory=Counter)
    total: int = 0
    refused: dict[tuple[str, str, Node | Tensor], int] = field(default_factory=dict)
    missed: set[tuple[str, str, Node | Tensor, str]] = field(default_factory=set)
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    revision: int = 0  # of the graph: it counts edits
    view: tuple[int, Shapes] | None = None  # of a revision
    made: set[str] = field(default_factory=set)  # names of values that the input did not have
    listeners: tuple[Instrument, ...] = ()  # those that hear of each rewrite

    def admit(
        self, pass_name: str, rule: str, subject: Node | Tensor, label: str, scope: str = ""
    ) -> tuple[int, bool, bool]:
        """Number a candidate and ask the gate: its number, whether it may go on, whether it is new.

        One that was refused keeps its number and stays refused when it is offered again, as it is
        in every round of a repeat group. Names need not be unique, so objects tell candidates apart.
        """
        key = (pass_name, rule, subject)
        if key in self.refused:
            return self.refused[key], False, False
        self.numbers[pass_name] += 1
        number = self.numbers[pass_name]
        allowed = self.gate.allows(Candidate(pass_name, number, rule, label, self.total + 1, scope))
        if allowed:
            self.total += 1
        else:
            self.refused[key] = number
        return number, allowed, True


class RunContext:
    """The context of one run of one pass over one graph. It hears the graph's edits."""

    def __init__(
        self, graph: Graph, running: Pass, ledger: Ledger, services: Services | None = None, step: int = 0
    ) -> None:
        self.graph = graph
        self.applied = 0
        self.missed_count = 0
        self.disabled = 0
        self._pass = running
        self._ledger = ledger
        self._services = services or NoServices()
        self._step = step
        self._subject: Node | Tensor | None = None
        self._open: int | None = None  # where the remark of the rewrite is that edits belong to
        self._before: dict[str, None] = {}
        self._after: dict[str, None] = {}

    @property
    def shapes(self) -> Shapes:
        """One view for each revision of the graph that is asked about, whichever pass asks; what was
        inferred before is kept."""
        ledger = self._ledger
        if ledger.view is None or ledger.view[0] != ledger.revision:
            ledger.view = (ledger.revision, self._services.shapes(self.graph))
        return ledger.view[1]

    @property
    def calibration(self) -> Calibration:
        """Asked of the session, about the graph as it is when a question is asked."""
        return self._services.calibration(self.graph)

    @property
    def measure(self) -> Measure:
        """Asked of the session, about the graph as it is when a question is asked."""
        return self._services.measure(self.graph)

    @property
    def training(self) -> Training:
        """Asked of the session, about the graph as it is when a lesson is given."""
        return self._services.training(self.graph)

    def originals(self, tensor: Tensor) -> tuple[str, ...]:
        """By the provenance of all rewrites so far."""
        self._settle()
        own = () if tensor.name in self._ledger.made else (tensor.name,)
        return tuple(dict.fromkeys((*own, *self._ledger.origins.get(tensor.name, ()))))

    def evaluate(self, values: Iterable[Tensor]) -> Evaluated:
        """Asked of the session; what is computed depends on the model alone."""
        return self._services.evaluate(self.graph, values)

    def rewrite(self, rule: str, subject: Node | Tensor, detail: str = "") -> bool:
        """Number one rewrite and ask the gate; edits from here on belong to it."""
        self._settle()
        scope, label, op = self._place(subject)
        number, allowed, new = self._ledger.admit(self._pass.name, rule, subject, label, scope)
        kind: Literal["applied", "disabled"] = "applied" if allowed else "disabled"
        made = () if allowed else _made(subject)
        remark = Remark(kind, self._pass.name, rule, label, op, detail, number, self._step, scope, values=made)
        if allowed:
            self.applied += 1
            self._subject = subject
            self._ledger.revision += 1  # what is edited besides links is not heard of
            self._open = len(self._ledger.remarks)
        if allowed or new:
            self.disabled += not allowed
            self._ledger.remarks.append(remark)
        return allowed

    def missed(self, rule: str, subject: Node | Tensor, why: str) -> None:
        """Keep one remark of what nearly happened; the same one is kept once a run."""
        key = (self._pass.name, rule, subject, why)
        if key not in self._ledger.missed:
            scope, label, op = self._place(subject)
            self._ledger.missed.add(key)
            self.missed_count += 1
            self._ledger.remarks.append(
                Remark("missed", self._pass.name, rule, label, op, why, None, self._step, scope, values=_made(subject))
            )

    def note(self, edit: Edit, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        """Hear of an edit of the graph (see `graphopt.ir.journal`)."""
        self._ledger.revision += 1
        if self._open is None:
            if edit in ("order", "free"):
                return
            raise InternalError(
                f"pass {self._pass.name} edited {(*before, *after, 'the graph')[0]!r} without announcing a rewrite"
            )
        self._before.update(dict.fromkeys(before))
        self._after.update(dict.fromkeys(after))
        if edit in ("insert", "constant"):
            self._ledger.made.update(after)

    def close(self) -> None:
        """End the run of the pass: the last rewrite's remark is complete."""
        self._settle()

    def _settle(self) -> None:
        if self._open is None:
            return
        self._ledger.revision += 1
        before, after = tuple(self._before), tuple(self._after)
        remarks, origins = self._ledger.remarks, self._ledger.origins
        remarks[self._open] = dataclasses.replace(
            remarks[self._open], before=before[:_NAMES_KEPT], after=after[:_NAMES_KEPT]
        )
        old = tuple(dict.fromkeys(origin for name in before for origin in origins.get(name, (name,))))
        for name in after:
            known = origins.get(name, () if name in self._ledger.made else (name,))
            stands_for = tuple(dict.fromkeys((*known, *old)))[:_NAMES_KEPT]
            if old and stands_for != (name,):
                origins[name] = stands_for
        if self._ledger.listeners and self._subject is not None:
            for listener in self._ledger.listeners:
                listener.rewritten(remarks[self._open], self._subject, (*before, *after))
        self._open = None
        self._before, self._after = {}, {}

    def _place(self, subject: Node | Tensor) -> tuple[str, str, str]:
        if isinstance(subject, Node):
            return (subject.graph.path if subject.graph is not None else "", subject.label, subject.op)
        home: Any = subject.__dict__.get("home") if isinstance(subject, Constant) else None
        return (home.path if home is not None else "", subject.name, "initializer" if home is not None else "value")


def _made(subject: Node | Tensor) -> tuple[str, ...]:
    """The values that a node makes, by which it can be asked for as well."""
    return tuple(out.name for out in subject.outputs[:_NAMES_KEPT] if out.name) if isinstance(subject, Node) else ()
