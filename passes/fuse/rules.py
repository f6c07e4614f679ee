"""How a fusion is carried out: patterns, what has to hold besides, and the nodes that take over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.dims import Dim
from graphopt.analysis.pattern import Match, Pattern, first_match
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.supersede import supersede
from graphopt.pipeline.protocol import Context

FLOAT, FLOAT16, DOUBLE, BFLOAT16 = 1, 10, 11, 16
TYPE_NAMES = {FLOAT: "float", FLOAT16: "float16", DOUBLE: "double", BFLOAT16: "bfloat16"}

Build = Callable[[Graph], Sequence[Node]]
"""Makes the nodes that take over, the last one without outputs; constants are added to the graph given."""


@dataclass
class Facts:
    """What a rule may ask about the values of a match. Shapes are inferred at the first question."""

    ctx: Context
    opset: int = 0
    _shapes: Shapes | None = None

    @property
    def shapes(self) -> Shapes:
        """Shapes as they were when the sweep began: values that are still there have them still."""
        if self._shapes is None:
            self._shapes = self.ctx.shapes
        return self._shapes

    def dtype(self, tensor: Tensor) -> int:
        """ONNX's number of the element type, 0 when unknown."""
        return self.shapes.onnx_dtype(tensor)

    def dims(self, tensor: Tensor) -> tuple[Dim, ...] | None:
        """The dims as expressions, None when the rank is unknown."""
        return self.shapes.dims(tensor)

    def why_not_dtype(self, tensor: Tensor, *admitted: int) -> str | None:
        """Why the element type is none of `admitted`, in a clause."""
        found = self.dtype(tensor)
        if found in admitted:
            return None
        if not found:
            return f"the element type of {tensor.name!r} is not known"
        names = " or ".join(TYPE_NAMES.get(one, str(one)) for one in admitted)
        return f"{tensor.name!r} is {_type_name(found)}, not {names}"

    def why_not_same_shape(self, one: Tensor, other: Tensor) -> str | None:
        """Why two values may have different shapes, in a clause."""
        dims = self.dims(one)
        if dims is None:
            return f"the rank of {one.name!r} is not known"
        return None if dims == self.dims(other) else f"{other.name!r} may be of another shape than {one.name!r}"


@dataclass(frozen=True)
class Rule:
    """One rewrite. `build` answers with what to build, or why not in a clause; None: no near miss even.

    `since` is the first opset that has the operator `makes`.
    """

    name: str
    patterns: tuple[Pattern, ...]
    build: Callable[[Match, Facts], Build | str | None]
    makes: str = ""
    since: int = 0
    until: int = 1 << 30
    roots: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        ops = frozenset(op for one in self.patterns for domain, op in one.root.ops if not domain)
        object.__setattr__(self, "roots", ops)


def fuse(graph: Graph, ctx: Context, rules: Sequence[Rule]) -> None:
    """Try the rules at every node, in order, until none fits any more."""
    by_root: dict[str, list[Rule]] = {}
    for rule in rules:
        for op in rule.roots:
            by_root.setdefault(op, []).append(rule)
    annotations = Annotations(graph)
    facts = Facts(ctx)
    for scope in graph.scopes():
        facts.opset = scope.opset
        for node in list(scope.nodes):
            last: Node | None = node
            while last is not None and last.graph is not None and last.is_standard:
                last = _try_rules(by_root.get(last.op, ()), last, facts, annotations)


def _try_rules(rules: Sequence[Rule], root: Node, facts: Facts, annotations: Annotations) -> Node | None:
    """The node that took over by the first rule that fits, None when none does."""
    misses: list[tuple[str, str]] = []
    for rule in rules:
        if facts.opset >= rule.until:
            continue
        found = first_match(rule.patterns, root)
        if found is None:
            continue
        if not isinstance(found, Match):
            misses.append((rule.name, found.why))
            continue
        plan = _plan(rule, found, facts, annotations)
        if plan is None:
            continue
        if isinstance(plan, str):
            misses.append((rule.name, plan))
        elif facts.ctx.rewrite(rule.name, root):
            scope = root.graph
            assert scope is not None
            new = plan(scope)
            new[-1].name = root.name
            supersede(root, found.nodes, new, lambda tensor: annotations.needs(tensor) is not None)
            return new[-1]
    for name, why in misses:  # of no interest where another rule fitted
        facts.ctx.missed(name, root, why)
    return None


def _plan(rule: Rule, match: Match, facts: Facts, annotations: Annotations) -> Build | str | None:
    plan = rule.build(match, facts)
    if plan is None or isinstance(plan, str):
        return plan
    if facts.opset < rule.since:
        return f"{rule.makes} needs opset {rule.since}, the model has {facts.opset}"
    return next((why for one in match.inner() if (why := annotations.about(one)) is not None), None) or plan


def single(op: str, inputs: Sequence[Tensor], attrs: dict[str, object] | None = None) -> Build:
    """Builds one node."""
    return lambda _: [Node(op, "", attrs or {}, inputs, [])]


def _type_name(number: int) -> str:
    return TYPE_NAMES.get(number, f"of element type {number}")


__all__ = ["BFLOAT16", "DOUBLE", "FLOAT", "FLOAT16", "Build", "Facts", "Rule", "fuse", "single"]
