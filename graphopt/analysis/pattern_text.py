"""The text of a pattern, read into calls and terms.

A statement is `outputs = Op<attribute=value, ...>(operands)`; statements stand one after the other,
on lines of their own or not. See `graphopt.analysis.pattern` for what they mean.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

COMMUTATIVE: Final = frozenset(("Add", "Mul", "And", "Or", "Xor", "Max", "Min", "Sum", "Mean", "Equal"))
"""Operators whose two operands may stand in either order."""

_STATEMENT = re.compile(
    r"\s*(?P<outputs>\w+(?:\s*,\s*\w+)*)\s*=\s*(?P<ops>[\w.]+(?:\s*\|\s*[\w.]+)*)\s*(?:<(?P<attrs>[^>]*)>)?"
    r"\s*\((?P<operands>[^()]*)\)\s*"
)
_ATTRIBUTE = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<value>\[[^\]]*\]|'[^']*'|[^,\[\]']+)\s*(?:,|$)")
_NAME = re.compile(r"[?#]?[A-Za-z_]\w*")


@dataclass(frozen=True)
class Name:
    """A tensor. `kind`: "" any, "?" a constant, "#" a constant of one number; `_` is whatever there is."""

    name: str
    kind: str = ""


@dataclass(frozen=True)
class Number:
    """A constant of one element that is this number, up to what its dtype rounds away."""

    value: float | int | bool


Term = Name | Number


@dataclass(frozen=True)
class Call:
    """One node: the operators it may be (with their domains), attributes, operands, output names."""

    ops: tuple[tuple[str, str], ...]
    attrs: tuple[tuple[str, Any], ...]
    operands: tuple[Term, ...]
    outputs: tuple[str, ...]

    @cached_property
    def commutes(self) -> bool:
        """Whether the two operands may stand in either order."""
        return len(self.operands) == 2 and all(not domain and op in COMMUTATIVE for domain, op in self.ops)

    def fits(self, op: str, domain: str) -> bool:
        """Whether a node of this operator may be the call."""
        return (domain, op) in self.ops

    @property
    def ops_text(self) -> str:
        """The operators, as in a sentence."""
        return " or ".join(f"{domain}.{op}" if domain else op for domain, op in self.ops)


def parse(text: str) -> tuple[Call, ...]:
    """The statements of a pattern in order. Raises ValueError for what is no pattern."""
    calls: list[Call] = []
    place = 0
    while place < len(text):
        if not text[place:].strip():
            break
        found = _STATEMENT.match(text, place)
        if found is None:
            raise ValueError(f"no statement of a pattern: {text[place:].strip()!r}")
        calls.append(_call(found))
        place = found.end()
    _check(calls)
    return tuple(calls)


def _call(found: re.Match[str]) -> Call:
    ops = tuple(_op(op.strip()) for op in found["ops"].split("|"))
    operands = tuple(_term(one.strip()) for one in found["operands"].split(",") if found["operands"].strip())
    outputs = tuple(one.strip() for one in found["outputs"].split(","))
    return Call(ops, tuple(_attributes(found["attrs"] or "")), operands, outputs)


def _op(text: str) -> tuple[str, str]:
    domain, _, op = text.rpartition(".")
    return domain, op


def _term(text: str) -> Term:
    if _NAME.fullmatch(text):
        return Name(text.lstrip("?#"), text[0] if text[0] in "?#" else "")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = None
    if not isinstance(value, int | float):
        raise ValueError(f"no operand of a pattern: {text!r}")
    return Number(value)


def _attributes(text: str) -> list[tuple[str, Any]]:
    found = []
    place = 0
    while text[place:].strip():
        one = _ATTRIBUTE.match(text, place)
        if one is None:
            raise ValueError(f"no attributes of a pattern: {text!r}")
        found.append((one["name"], ast.literal_eval(one["value"].strip())))
        place = one.end()
    return found


def _check(calls: list[Call]) -> None:
    """Raise ValueError unless every call but the last is read by a later one, and names are clear."""
    if not calls:
        raise ValueError("a pattern has at least one statement")
    made: set[str] = set()
    read: set[str] = set()
    for call in calls:
        for term in call.operands:
            if isinstance(term, Name):
                read.add(term.name)
                if term.kind and term.name in made:
                    raise ValueError(f"{term.name!r} is made in the pattern, so it is no constant")
        for name in call.outputs:
            if name != "_" and (name in made or name in read):
                raise ValueError(f"{name!r} is made twice, or read before it is made")
            made.add(name)
    for call in calls[:-1]:
        if not read & set(call.outputs):
            raise ValueError(f"nothing reads {call.outputs[0]!r}, which is not the root")
