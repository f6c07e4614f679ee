"""How a fusion is carried out: patterns, what has to hold besides, and the nodes that take over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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

    `since` is the first opset that has the operator `makes`, `until` the first that needs the rule no
    longer. A `quiet` rule does not tell of near misses.
    """

    name: str
    patterns: tuple[Pattern, ...]
    build: Callable[[Match, Facts], Build | str | None]
    makes: str = ""
    since: int = 0
    until: int = 1 << 30
    quiet: bool = False
    roots: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        ops = frozenset(op for one in self.patterns for domain, op in one.root.ops if not domain)
        object.__setattr__(self, "roots", ops)


def fuse(graph: Graph, ctx: Context, rules: Sequence[Rule]) -> None:
    """Try the rules at every node, in order, until none fits any more."""
    annotations = Annotations(graph)
    facts = Facts(ctx)
    for scope in graph.scopes():
        facts.opset = scope.opset
        ops = {node.op for node in scope.nodes}
        by_root = _at_work(rules, ops)
        for node in list(scope.nodes) if by_root else ():
            last: Node | None = node
            while last is not None and last.graph is not None and last.is_standard:
                new = _try_rules(by_root.get(last.op, ()), last, facts, annotations)
                if new and not ops.issuperset(one.op for one in new):
                    ops.update(one.op for one in new)
                    by_root = _at_work(rules, ops)
                last = new[-1] if new else None


_Working = tuple[Rule, list[Pattern]]


def _at_work(rules: Sequence[Rule], ops: Collection[str]) -> dict[str, list[_Working]]:
    """For each operator the rules that may start there, in a graph with these operators."""
    found: dict[str, list[_Working]] = {}
    for rule in rules:
        for root in rule.roots:
            patterns = [one for one in rule.patterns if ("", root) in one.root.ops and one.possible(ops)]
            if patterns:
                found.setdefault(root, []).append((rule, patterns))
    return found


def _try_rules(rules: Sequence[_Working], root: Node, facts: Facts, annotations: Annotations) -> Sequence[Node]:
    """The nodes that took over by the first rule that fits, none when none does."""
    misses: list[tuple[str, str]] = []
    for rule, patterns in rules:
        if facts.opset >= rule.until:
            continue
        found = first_match(patterns, root)
        if found is None:
            continue
        if not isinstance(found, Match):
            if not rule.quiet:
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
            supersede(root, _going(found, new), new, lambda tensor: annotations.needs(tensor) is not None)
            return new
    for name, why in misses:  # of no interest where another rule fitted
        facts.ctx.missed(name, root, why)
    return ()


def _going(match: Match, new: Sequence[Node]) -> list[Node]:
    """The nodes of a match that the new nodes do not build upon."""
    kept: set[Node] = set()
    pending = [maker for node in new for tensor in node.inputs for maker in tensor.inputs]
    while pending:
        node = pending.pop()
        if node in match.nodes and node not in kept:
            kept.add(node)
            pending.extend(maker for tensor in node.inputs for maker in tensor.inputs)
    return [node for node in match.nodes if node not in kept]


def _plan(rule: Rule, match: Match, facts: Facts, annotations: Annotations) -> Build | str | None:
    if facts.opset < rule.since:  # said before anything costs more: shapes need not be inferred for it
        return f"{rule.makes} needs opset {rule.since}, the model has {facts.opset}"
    why = next((why for one in match.inner() if (why := annotations.about(one)) is not None), None)
    return why or rule.build(match, facts)


def single(op: str, inputs: Sequence[Tensor], attrs: dict[str, object] | None = None) -> Build:
    """Builds one node."""
    return lambda _: [Node(op, "", attrs or {}, inputs, [])]


def _type_name(number: int) -> str:
    return TYPE_NAMES.get(number, f"of element type {number}")


__all__ = ["BFLOAT16", "DOUBLE", "FLOAT", "FLOAT16", "Build", "Facts", "Rule", "fuse", "single"]
