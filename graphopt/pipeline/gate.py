"""Which rewrites may happen: the numbered gate behind `--disable`, `--only`, `--until`, `--limit`.

Every rewrite that a pass announces is a candidate with a number of its own; a gate says yes or
no to it. Switching candidates off one by one is how a wrong rewrite is found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from graphopt.errors import UsageError


@dataclass(frozen=True)
class Candidate:
    """One announced rewrite: the `number`-th of its pass in this run, the `total`-th of all.

    `scope` is the path of the body or function that holds the node, "" for the main graph.
    """

    pass_name: str
    number: int
    rule: str
    node: str
    total: int
    scope: str = ""


class Gate(Protocol):
    """Decides about candidates. Must be a function of the candidate alone."""

    def allows(self, candidate: Candidate) -> bool:
        """Whether the rewrite may be carried out."""
        ...


@dataclass(frozen=True)
class Open:
    """Allows everything."""

    def allows(self, candidate: Candidate) -> bool:
        return True


@dataclass(frozen=True)
class Limits:
    """The gate that the command line describes.

    `disabled` holds (pass, number) pairs, number None for the whole pass; `limit` is how many
    rewrites may be carried out at most, counted over the run.
    """

    disabled: frozenset[tuple[str, int | None]] = field(default_factory=frozenset)
    limit: int | None = None

    def allows(self, candidate: Candidate) -> bool:
        if self.limit is not None and candidate.total > self.limit:
            return False
        name = candidate.pass_name
        return (name, None) not in self.disabled and (name, candidate.number) not in self.disabled


def parse_disabled(texts: tuple[str, ...], known: frozenset[str]) -> frozenset[tuple[str, int | None]]:
    """Read `--disable` values: `PASS` or `PASS:NUMBER`.

    Raises UsageError for a pass that is not in the pipeline and for a number that is none.
    """
    found: set[tuple[str, int | None]] = set()
    for text in texts:
        name, colon, digits = text.partition(":")
        if name not in known:
            raise UsageError(f"--disable {text}: the pipeline has no pass {name!r}; it has {', '.join(sorted(known))}")
        if colon and not (digits.isascii() and digits.isdigit() and int(digits) >= 1):
            raise UsageError(f"--disable {text}: {digits!r} is not the number of a rewrite (1, 2, ...)")
        found.add((name, int(digits) if colon else None))
    return frozenset(found)
