"""The gate of a bisection: which rewrites it lets through, and by what it knows them."""

from __future__ import annotations

from graphopt.debug.finding import changed_lines
from graphopt.debug.selection import Handle, Selected, Selection
from graphopt.pipeline.gate import Candidate, Limits


def offered(gate: Selected, *nodes: str) -> list[str]:
    """The nodes among these whose rewrite is allowed."""
    allowed: list[str] = []
    for number, node in enumerate(nodes, 1):
        if gate.allows(Candidate("p", number, "r", node, len(allowed) + 1)):
            allowed.append(node)
    return allowed


def test_a_prefix() -> None:
    gate = Selected(Selection(limit=2))
    assert offered(gate, "a", "b", "c", "d") == ["a", "b"]
    assert [handle.node for handle, _ in gate.carried] == ["a", "b"]
    assert [candidate.number for _, candidate in gate.held] == [3, 4]


def test_only_some_and_all_without_some() -> None:
    b = Handle("p", "r", "", "b")
    assert offered(Selected(Selection(only=frozenset({b}))), "a", "b", "c") == ["b"]
    assert offered(Selected(Selection(without=frozenset({b}))), "a", "b", "c") == ["a", "c"]


def test_the_second_of_one_name_is_another_one() -> None:
    second = Handle("p", "r", "", "a", 2)
    gate = Selected(Selection(only=frozenset({second})))
    assert offered(gate, "a", "a", "a") == ["a"]
    assert gate.carried[0][1].number == 2


def test_what_the_user_switched_off_is_neither_carried_nor_held() -> None:
    gate = Selected(Selection(limit=1), Limits(frozenset({("p", 1)})))
    assert offered(gate, "a", "b", "c") == ["b"]
    assert [handle.node for handle, _ in gate.held] == ["c"]


def test_lines_that_differ() -> None:
    before = "graph {\n  a = F(x)\n  b = F(a)\n  b = F(a)\n}"
    after = "graph {\n  b = F(a)\n    a = F(x)\n  c = G(a)\n}"
    assert changed_lines(before, after) == (("b = F(a)",), ("c = G(a)",))
