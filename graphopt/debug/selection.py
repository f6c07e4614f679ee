"""Which rewrites of a run are carried out, and a name for each that other runs know it by."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from graphopt.pipeline.gate import Candidate, Gate, Open


@dataclass(frozen=True)
class Handle:
    """One rewrite across runs that differ in what else is carried out.

    Numbers shift when an earlier rewrite is left out; pass, rule and node do not. `nth` tells apart
    what has these in common, in the order in which it is offered.
    """

    pass_name: str
    rule: str
    scope: str
    node: str
    nth: int = 1


@dataclass(frozen=True)
class Selection:
    """What may be carried out: the first `limit` rewrites, of these only `only`, and nothing of `without`."""

    limit: int | None = None
    only: frozenset[Handle] | None = None
    without: frozenset[Handle] = frozenset()


@dataclass
class Selected:
    """The gate of one run: what `base` allows and the selection names. Keeps what it was asked.

    `carried` are the rewrites that were allowed, in order, with their candidates; `held` those that
    only the selection kept back. Of use for a single run.
    """

    selection: Selection
    base: Gate = field(default_factory=Open)
    carried: list[tuple[Handle, Candidate]] = field(default_factory=list)
    held: list[tuple[Handle, Candidate]] = field(default_factory=list)
    _offered: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)

    def allows(self, candidate: Candidate) -> bool:
        if not self.base.allows(candidate):
            return False
        key = (candidate.pass_name, candidate.rule, candidate.scope, candidate.node)
        self._offered[key] += 1
        handle = Handle(*key, self._offered[key])
        chosen = self.selection
        allowed = (
            (chosen.limit is None or candidate.total <= chosen.limit)
            and (chosen.only is None or handle in chosen.only)
            and handle not in chosen.without
        )
        (self.carried if allowed else self.held).append((handle, candidate))
        return allowed
