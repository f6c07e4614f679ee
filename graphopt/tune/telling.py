"""Names of candidates that tell them apart, and figures in words."""

from __future__ import annotations

from dataclasses import replace

from graphopt.tune.objective import Objective
from graphopt.tune.trial import Candidate, Trial


def apart(candidate: Candidate, taken: set[str]) -> Candidate:
    """The candidate under a name that no other has, which is then taken."""
    name, number = candidate.name, 1
    while name in taken:
        number += 1
        name = f"{candidate.name} {number}"
    taken.add(name)
    return candidate if name == candidate.name else replace(candidate, name=name)


def kind_of(candidate: Candidate) -> tuple[str, str]:
    """The technique, and what was changed against the parent, in words."""
    start = f"{candidate.parent}, "
    return candidate.technique, candidate.name.removeprefix(start)


def shown(objective: Objective, trial: Trial) -> str:
    """What is minimized, with its unit."""
    value = objective.value(trial)
    return f"{int(value):,} bytes" if objective.minimize == "size" else f"{value:.3f} of the original's"
