"""Merge views: a Reshape, Squeeze, Unsqueeze, Flatten or Transpose of another one."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.file_bytes import held_bytes, plain_bytes
from graphopt.analysis.views import is_view
from graphopt.ir import Graph, Node, Variable
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.layout.facts import Facts
from passes.layout.integer_lists import IntegerLists
from passes.layout.view_plans import AXES_STEM, SHAPE_STEM, Plan, Planner

RULE = "view-of-view"


@dataclass(frozen=True)
class MergeViews(Pass):
    """Let one node do what a chain of reshapes, or of transposes, does.

    What it does
        Precondition: a Reshape, Squeeze, Unsqueeze, Flatten or Transpose reads another one of them in
        the same graph. Rewrite: it reads what that one reads, as a Reshape with a constant target, a
        Squeeze, an Unsqueeze or a Transpose; or, where it restores dims and order, its readers read
        that value and it goes. The view that was read goes when nobody else reads it. A Transpose
        that moves only axes of size 1 is a reshape, and a reshape that moves only such axes is a
        Transpose. A target may copy a dim (0), and leave one to be inferred (-1) where no other dim
        can be 0. Main graph, bodies and functions.

    Example
        before: a = Reshape(x, [-1, 6])    b = Unsqueeze(a, [0])    c = Transpose(w)    d = Transpose(c)
        after:  b = Reshape(x, [1, -1, 6])    d is w

    When not
        Where the dims are not known well enough: two of them are symbolic and move, or one that could
        be 0 stands beside one that would be inferred. Where a new target would take more bytes than
        goes; a target that the model holds already costs nothing. A reader in a body is left alone.
        A Reshape or Transpose that changes nothing by itself is not looked at here.

    Contract
        EXACT. Elements are moved, never computed. A run in which a view that goes would have failed
        (dims that do not fit) may succeed.

    Source
        ONNX operators: Reshape (1, 5, 13, 14 ...), Squeeze and Unsqueeze (1, 11, 13 ...), Flatten (1, 9,
        11, 13 ...), Transpose (1, 13 ...).
    """

    name = "merge-views"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        lists = IntegerLists(graph, annotations)
        work = _Work(ctx, annotations, lists, Planner(Facts(ctx), lists, annotations))
        # Again while something happens: a constant that one rewrite adds is free for the next one.
        while work.sweep(graph):
            pass
        for node, why in work.stayed.items():
            ctx.missed(RULE, node, why)


class _Work:
    def __init__(self, ctx: Context, annotations: Annotations, lists: IntegerLists, planner: Planner) -> None:
        self.ctx, self.annotations, self.lists, self.planner = ctx, annotations, lists, planner
        self.stayed: dict[Node, str] = {}
        self.disabled: set[Node] = set()

    def sweep(self, graph: Graph) -> int:
        """Go over the model once; how many rewrites there were."""
        self.stayed = {}
        return sum(
            self.merge(node) for scope in graph.scopes() for node in list(scope.nodes) if node.graph and is_view(node)
        )

    def merge(self, first: Node) -> int:
        """Let the views that read a view read what it reads."""
        if first in self.disabled:
            return 0
        value = first.outputs[0]
        readers = list(dict.fromkeys(one for one in value.readers))
        plans: dict[Node, Plan] = {}
        for reader in readers:
            plan = self.plan(first, reader)
            if isinstance(plan, Plan):
                plans[reader] = plan
            elif plan is not None:
                self.stayed[reader] = plan
        takes_name = next((one for one, plan in plans.items() if not plan.op and one.outputs[0].graph_outputs), None)
        if takes_name is not None:  # which changes what the others cost: they are looked at again
            plans = {takes_name: plans[takes_name]}
        if not plans:
            return 0
        frees = (
            len(plans) == len(readers) == len(value.outputs)
            and not value.graph_outputs
            and self.annotations.about(value) is None
        )
        if frees and sum(plan.growth for plan in plans.values()) <= plain_bytes(first) + self.freed(first, plans):
            return self.apply(first, first, plans)
        applied = 0
        for reader, plan in plans.items():
            if plan.growth > 0:
                self.stayed[reader] = f"the file would grow by {plan.growth} bytes"
            elif reader not in self.disabled:
                applied += self.apply(first, reader, {reader: plan})
        return applied

    def freed(self, first: Node, plans: dict[Node, Plan]) -> int:
        """Bytes of the constants that go with `first`, besides those that a plan counts."""
        gone = {first, *(reader for reader, plan in plans.items() if not plan.keep)}
        reused = {plan.reused for plan in plans.values()}
        return sum(
            held_bytes(one)
            for one in dict.fromkeys(one for node in gone for one in node.inputs[1:])
            if one not in reused
            and self.lists.is_freed(one, gone)
            and (first in one.readers or len(dict.fromkeys(one.readers)) > 1)
        )

    def plan(self, first: Node, reader: Node) -> Plan | str | None:
        same = reader.graph is first.graph and is_view(reader) and reader.inputs[0] is first.outputs[0]
        if not same or any(one is first.outputs[0] for one in reader.inputs[1:]):
            return None
        return self.planner.plan(first, reader)

    def apply(self, first: Node, subject: Node, plans: dict[Node, Plan]) -> int:
        detail = ", ".join(plan.op.lower() or "nothing" for plan in plans.values())
        if not self.ctx.rewrite(RULE, subject, detail):
            self.disabled.add(subject)
            return 0
        source, scope = first.inputs[0], first.graph
        assert scope is not None, "a view that is merged is in a graph"
        constants = [one for node in (first, *plans) for one in node.inputs[1:]]
        for reader, plan in plans.items():
            if plan.op == "":
                scope.replace_uses(reader.outputs[0], source)
                scope.remove(reader)
            elif plan.keep:
                scope.rewire(reader, 0, source)
            else:
                inputs = [source]
                if plan.values is not None:
                    stem = SHAPE_STEM if plan.op == "Reshape" else AXES_STEM
                    inputs.append(self.lists.get(reader, plan.values, stem))
                result = reader.outputs[0]
                reader.outputs[0] = Variable.empty()
                scope.insert(Node(plan.op, reader.name, dict(plan.attrs), inputs, [result]), before=reader)
                scope.remove(reader)
        value = first.outputs[0]
        if not value.is_read and self.annotations.about(value) is None:
            scope.remove(first)
        for one in constants:
            self.lists.drop(one)
        return 1
