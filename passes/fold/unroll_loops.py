"""Loops that run once, or not at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.conditions import Conditions
from graphopt.analysis.file_bytes import node_bytes
from graphopt.analysis.liveness import Effects
from graphopt.analysis.matching import operand
from graphopt.ir import Constant, Graph, Node, Tensor, Variable
from graphopt.ir.dissolve import Dissolver, constants_are_nodes, hand_through
from graphopt.ir.dtypes import Array
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fold.folding import sweep

_FRESH = 6  # bytes that a fresh name is longer than the one it is made from, at most
_AXES_INPUT = 13  # the opset from which Unsqueeze takes its axes as an input
_INITIALIZER, _CONSTANT_NODE, _UNSQUEEZE = 24, 60, 35  # bytes of one, besides names that are given, at most
_IDENTITY_OF_ALL = 16  # the opset from which on Identity takes sequences and optionals


@dataclass(frozen=True)
class UnrollLoops(Pass):
    """Put the body of a Loop that runs once in its place, and remove one that never runs.

    What it does
        Precondition: the trip count or the condition of a Loop is the same in every run, because it is
        computed from constants or from sizes that the declared inputs fix. `once`: it runs exactly once,
        since the count is 1 and the condition is left out or true, or since the condition is true at first
        and the body always ends it. `never`: the count is 0 or less, or the condition is false. Rewrite:
        the nodes and initializers of the body move to where the Loop stands, under names that nothing else
        in the model has; the iteration number becomes 0, and a stacked output an Unsqueeze. Of a Loop that
        never runs the initial values are what comes out. Main graph, bodies and functions.

    Example
        before: y = Loop(1, , x) { body: (i, c, s) => (c, n): n = Tanh(s) }
        after:  y = Tanh(x)

    When not
        A Loop that may run more than once: its body would be there several times. More than one stacked
        output, which would take a node each; and a stacked output of a Loop that never runs, which is an
        empty tensor of unknown shape. A body with quantization annotations. Where longer names made the
        file grow.

    Contract
        EXACT. The nodes of the body run on the same values as before.

    Source
        ONNX operators: Loop (1, 11, 13, 16, 19, 21 ...), Unsqueeze (1, 11, 13, 21 ...).
    """

    name = "unroll-loops"
    contract = Contract.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        work = _Work(graph, ctx)
        while work.sweep():  # sizes behind a Loop that is gone may be known now
            pass
        for node, (rule, why) in work.stayed.items():
            ctx.missed(rule, node, why)


class _Work:
    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.graph, self.ctx = graph, ctx
        self.annotations, self.effects = Annotations(graph), Effects(graph)
        self.stayed: dict[Node, tuple[str, str]] = {}
        self.dissolver: Dissolver | None = None

    def sweep(self) -> int:
        """Decide about every Loop, then carry out, inner ones first; how many went."""
        loops = [
            node
            for scope in self.graph.scopes()
            for node in scope.nodes
            if node.is_op("Loop") and len(node.inputs) >= 2 and isinstance(node.attrs.get("body"), Graph)
        ]
        if not loops:
            return 0
        self.stayed = {}
        conditions = Conditions(self.graph, lambda: self.ctx.shapes, self.ctx.evaluate)
        decided = [(node, _trips(node, conditions)) for node in loops]
        applied = 0
        for node, trips in reversed(decided):
            if trips is not None:
                applied += self.once(node) if trips else self.never(node)
        if self.dissolver is not None:
            self.dissolver.finish()
        return applied

    def never(self, node: Node) -> int:
        scope, carried = _place(node), len(node.inputs) - 2
        pairs = [(old, new) for old, new in zip(node.outputs, node.inputs[2:], strict=False) if old.name]
        stacked = next((one.name for one in node.outputs[carried:] if one.is_read), None)
        if stacked is not None:
            self.stayed[node] = ("never", f"the shape of the stacked output {stacked!r}, which is empty, is not known")
            return 0
        if any(old.type != "tensor_type" for old, _ in pairs) and scope.opset_of() < _IDENTITY_OF_ALL:
            self.stayed[node] = ("never", "an output that is no tensor may need an Identity, which cannot copy it")
            return 0
        longer = sum((len(new.name.encode()) - len(old.name.encode())) * len(old.outputs) for old, new in pairs)
        if longer + 20 * len(pairs) > node_bytes(node):
            self.stayed[node] = ("never", "the file would grow: readers of its outputs would spell out longer names")
            return 0
        if not self.ctx.rewrite("never", node):
            return 0
        freed = list(node.inputs[:2])
        for old, new in pairs:
            hand_through(node, old, new)
        scope.remove(node)
        self.retire(freed)
        return 1

    def once(self, node: Node) -> int:
        body, carried = node.attrs["body"], len(node.inputs) - 2
        self.dissolver = self.dissolver or Dissolver()
        if len(body.inputs) != carried + 2 or len(body.outputs) < len(node.outputs) + 1:
            return 0
        stacked = [index for index in range(carried, len(node.outputs)) if node.outputs[index].is_read]
        if len(stacked) > 1:
            self.stayed[node] = ("once", f"its {len(stacked)} stacked outputs would take an Unsqueeze each")
            return 0
        ending = self.ending(body)
        arguments: dict[Tensor, Tensor] = dict(zip(body.inputs[2:], node.inputs[2:], strict=True))
        given = {body.inputs[0]: np.array(0, np.int64), body.inputs[1]: np.array(True)}
        for one in list(given):
            if one.graph_outputs or any(reader is not ending for reader in one.readers):
                arguments[one] = Constant("", given[one])
            else:
                del given[one]
        each = _CONSTANT_NODE if constants_are_nodes(_place(node)) else _INITIALIZER
        extra = sum(each + len(one.name.encode()) + _FRESH * (1 + len(one.outputs)) for one in given)
        extra -= 0 if ending is None else node_bytes(ending)
        extra += sum(each + _UNSQUEEZE + len(body.outputs[index + 1].name.encode()) for index in stacked)
        why = self.dissolver.why_not(node, body, arguments, first=1, extra=extra)
        if why is not None:
            self.stayed[node] = ("once", why)
            return 0
        if not self.ctx.rewrite("once", node):
            return 0
        for one, value in given.items():
            arguments[one] = _constant(node, value, one.name)
        for index in stacked:
            self.stack(node, body, index + 1)
        freed = [*node.inputs[:2], body.outputs[0]]
        del body.outputs[0]
        if ending is not None:
            sweep(ending, self.annotations, self.effects)
        self.dissolver.dissolve(node, body, arguments)
        self.retire(freed)
        return 1

    def ending(self, body: Graph) -> Node | None:
        """The node that only says whether the body runs again, if there is one."""
        result = body.outputs[0]
        maker: Node | None = result.inputs[0] if result.inputs else None
        if maker is None or maker.graph is not body or maker.bodies or self.effects.of(maker) is not None:
            return None
        alone = len(maker.outputs) == 1 and not result.outputs and len(result.graph_outputs) == 1
        return maker if alone and self.annotations.needs(result) is None else None

    def stack(self, node: Node, body: Graph, index: int) -> None:
        """Let output `index` of the body have the axis that a Loop puts in front."""
        inner, result = body.outputs[index], Variable(body.fresh_name(body.outputs[index].name))
        axes = np.zeros(1, np.int64)
        if body.opset_of() >= _AXES_INPUT:
            made = Node("Unsqueeze", "", {}, [inner, _constant(node, axes, "axes")], [result])
        else:
            made = Node("Unsqueeze", "", {"axes": [0]}, [inner], [result])
        body.nodes.append(made)
        body.outputs[index] = result

    def retire(self, tensors: list[Tensor]) -> None:
        """Take out what made `tensors`, as far as nobody else reads them."""
        for one in tensors:
            home: Graph | None = one.__dict__.get("home")
            if one.inputs:
                sweep(one.inputs[0], self.annotations, self.effects)
            elif isinstance(one, Constant) and home is not None and not self.needed(one):
                home.remove_initializer(one)

    def needed(self, constant: Constant) -> bool:
        return constant.is_read or self.annotations.needs(constant) is not None


def _place(node: Node) -> Graph:
    assert node.graph is not None, "a node that is walked is in a graph"
    return node.graph


def _trips(node: Node, conditions: Conditions) -> int | None:
    """How often a Loop runs: 0, 1, or None for anything else."""
    count, start = operand(node, 0), operand(node, 1)
    most: int | None = None
    if count is not None:
        values = conditions.values(count)
        one = values.reshape(-1)[0] if values is not None and values.size == 1 else None
        most = one if isinstance(one, int) else None
        if most is not None and most <= 0:
            return 0
    goes = True if start is None else conditions.truth(start)
    if goes is False:
        return 0
    if goes is not True:
        return None
    if most == 1:
        return 1
    if start is None:
        return None  # then what the body says of going on does not count
    ends = conditions.truth(node.attrs["body"].outputs[0]) is False
    return 1 if ends and (count is None or most is not None) else None


def _constant(node: Node, value: Array, stem: str) -> Tensor:
    """A constant that can be read where `node` stands."""
    scope = _place(node)
    if not constants_are_nodes(scope):
        return scope.constant(value, stem)
    output = Variable(scope.fresh_name(stem), value.dtype, value.shape)
    scope.insert(Node("Constant", "", {"value": Constant("", value)}, [], [output]), before=node)
    return output
