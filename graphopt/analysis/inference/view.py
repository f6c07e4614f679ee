"""The facts of one revision of a model: lazy, and without recursion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx_graphsurgeon import Node as StockNode

from graphopt.analysis.dims import Dim
from graphopt.analysis.inference import (
    control,
    elementwise,
    matrix,
    moving,
    selecting,
    sequences,
    sources,
    values,
    windows,
)
from graphopt.analysis.inference.engine import Entry, Inference
from graphopt.analysis.inference.fact import UNKNOWN, Call, Fact, Fresh, Rule
from graphopt.analysis.inference.ground import FAULTS, frozen, of_array, with_values
from graphopt.ir import Constant, Function, Graph, Node, Tensor

_RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **matrix.RULES,
    **moving.RULES,
    **selecting.RULES,
    **sequences.RULES,
    **sources.RULES,
    **windows.RULES,
}
_CONTRIB: dict[str, Rule] = {**elementwise.CONTRIB, **matrix.CONTRIB, **windows.CONTRIB}
_VALUES = values.RULES
_DEEPEST, _LONGEST = 8, 4096  # calls (and loops) within others, and nodes, that one is followed through
_ROUNDS = 4  # times that the body of a Loop is looked at


class View:
    """The facts of one revision of the model."""

    def __init__(self, inference: Inference, facts: Mapping[Tensor, Fact] | None = None, depth: int = 0) -> None:
        self.inference = inference
        self.facts: dict[Tensor, Fact] = dict(facts or {})
        self._depth = depth
        self._carried: dict[Node, list[Fact]] = {}
        self._opsets: dict[tuple[Graph, str], int] = {}
        self._inputs = dict.fromkeys(inference.root.inputs)
        self._body_inputs: dict[Tensor, tuple[Node, int]] | None = None
        self._functions: dict[tuple[str, ...], Function] | None = None

    def fact(self, tensor: Tensor) -> Fact:
        """What is known about a value."""
        if isinstance(tensor, Constant):
            return self.inference.constant(tensor)
        found = self.facts.get(tensor)
        if found is None:
            self._walk(tensor)
            found = self.facts.get(tensor, UNKNOWN)
        return found

    def _walk(self, tensor: Tensor) -> None:
        facts = self.facts
        pending: list[Tensor] = [tensor]
        opened: set[Tensor] = set()
        while pending:
            one = pending[-1]
            if one in facts:
                pending.pop()
                continue
            makers = one.__dict__["inputs"]
            node = makers[0] if len(makers) == 1 else None
            needs = self._needs(node) if node is not None else self._behind(one)
            missing = [each for each in needs if each not in facts and not isinstance(each, Constant)]
            if missing and one not in opened:
                opened.add(one)
                pending.extend(missing)
                continue
            pending.pop()
            if missing:  # it depends on itself: not a valid model
                facts[one] = UNKNOWN
            elif node is not None:
                self._settle(node)
                facts.setdefault(one, UNKNOWN)
            else:
                facts[one] = self._source(one)

    def _needs(self, node: Node) -> Sequence[Tensor]:
        bodies = node.bodies
        needs: Sequence[Tensor] = node.inputs
        return [*needs, *(out for body in bodies for out in body.outputs)] if bodies else needs

    def _behind(self, tensor: Tensor) -> Sequence[Tensor]:
        """What the fact of a value that no node makes depends on."""
        owner = self._owner(tensor)
        if owner is None:
            return []
        if owner[0].is_op("Loop"):
            return list(owner[0].inputs[2:])
        place = owner[1]
        return [owner[0].inputs[place]] if owner[0].is_op("Scan") and place < len(owner[0].inputs) else []

    def _owner(self, tensor: Tensor) -> tuple[Node, int] | None:
        if not tensor.name or tensor in self._inputs:
            return None
        if self._body_inputs is None:
            self._body_inputs = {
                one: (scope.parent, index)
                for scope in self.inference.root.scopes()
                if isinstance(scope.parent, Node)
                for index, one in enumerate(scope.inputs)
            }
        return self._body_inputs.get(tensor)

    def _source(self, tensor: Tensor) -> Fact:
        if isinstance(tensor, Constant):
            return self.inference.constant(tensor)
        if tensor in self._inputs:
            return self.inference.declared(tensor)
        owner = self._owner(tensor)
        if owner is None:
            return UNKNOWN
        node, index = owner
        if node.is_op("Loop") and index >= 2:
            carried = self._rounds(node)
            return carried[index - 2] if index - 2 < len(carried) else UNKNOWN
        behind = self._behind(tensor)
        return control.body_input(node, index, self._opset(node), tensor, self._given(behind[0]) if behind else UNKNOWN)

    def _rounds(self, node: Node) -> list[Fact]:
        """What is true in every round of the values that a Loop carries, whose first facts are known.

        The shape of the first round is taken for that of all; where the body then gives another one, it
        is not, and what depends on it is looked at again.
        """
        known = self._carried.get(node)
        if known is not None:
            return known
        first = [self._given(one) for one in node.inputs[2:]]
        facts = [Fact(one.dtype, one.dims) for one in first]
        bodies = node.bodies
        varying: set[tuple[int, int]] = set()
        for _ in range(_ROUNDS if len(bodies) == 1 and self._depth < _DEEPEST else 0):
            child = View(self.inference, self.facts, self._depth + 1)
            child._carried = {**self._carried, node: facts}
            made = [child.fact(one) for one in list(bodies[0].outputs)[1 : len(facts) + 1]]
            again = control.carried(facts, made, varying, self._fresh(node))
            if again is None:
                break
            facts = again
        else:
            facts = [Fact(one.dtype) for one in first]
        self._carried[node] = facts
        return facts

    def _given(self, tensor: Tensor) -> Fact:
        if isinstance(tensor, Constant):
            return self.inference.constant(tensor)
        return self.facts.get(tensor, UNKNOWN)

    def _opset(self, node: Node) -> int:
        graph = node.graph
        if graph is None:
            return 0
        key = (graph, node.domain or "")
        found = self._opsets.get(key)
        if found is None:
            found = self._opsets[key] = graph.opset_of(key[1])
        return found

    def _settle(self, node: Node) -> None:
        """Facts of all outputs of a node whose inputs are known."""
        facts, constant = self.facts, self.inference.constant
        deps: list[Fact | None] = [
            constant(one) if isinstance(one, Constant) else facts.get(one, UNKNOWN) if one.name else None
            for one in node.inputs
        ]
        bodies = [[self._given(one) for one in body.outputs] for body in node.bodies]
        everything = [*deps, *(one for body in bodies for one in body)] if bodies else deps
        outs = list(node.outputs)
        basis = (node.op, node.domain, self._opset(node), *frozen(node.attrs))
        entry = self.inference.entries.get(node)
        if (
            entry is None
            or entry.basis != basis
            or entry.outs != outs
            or len(entry.deps) != len(everything)
            or any(one is not other for one, other in zip(entry.deps, everything, strict=True))
        ):
            found = self._derive(node, self._opset(node), node.attrs, deps, bodies, 0)
            found += [UNKNOWN] * (len(outs) - len(found))
            entry = self.inference.entries[node] = Entry(basis, everything, outs, found)
        for one, fact in zip(outs, entry.facts, strict=False):
            if one.name:
                facts[one] = fact

    def _derive(
        self,
        node: Node,
        opset: int,
        attrs: Mapping[str, Any],
        inputs: list[Fact | None],
        bodies: list[list[Fact]],
        depth: int,
    ) -> list[Fact]:
        if any(isinstance(one, StockNode.AttributeRef) for one in attrs.values()):
            return []
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        call = Call(node.op, opset, attrs, inputs, len(node.outputs), self._fresh(node))
        try:
            if node.is_standard:
                if node.op == "Constant":
                    return [self._constant_node(attrs)]
                if bodies:
                    return control.outputs(call, bodies)
                rule = _RULES.get(node.op)
            else:
                function = self._called(node)
                if function is not None:
                    return self._through(function, attrs, inputs, depth)
                rule = _CONTRIB.get(node.op) if node.domain == "com.microsoft" else None
            found = sources.by_onnx(call, node.domain or "") if rule is None else rule(call)
        except FAULTS:
            found = sources.by_onnx(call, node.domain or "")  # the type at least
        made = [found] if isinstance(found, Fact) else list(found)
        return with_values(call, made) if node.is_standard and node.op in _VALUES else made

    def _fresh(self, node: Node) -> Fresh:
        stem = next((one.name for one in node.outputs if one.name), node.op)

        def fresh(low: int | None = 0) -> Dim:
            return self.inference.fresh(stem, low)

        return fresh

    def _constant_node(self, attrs: Mapping[str, Any]) -> Fact:
        for key, value in attrs.items():
            if key == "value" and isinstance(value, Constant):
                return self.inference.constant(value)
            if key in ("value_int", "value_ints"):
                return of_array(7, np.asarray(value, np.int64))
            if key in ("value_float", "value_floats"):
                return of_array(1, np.asarray(value, np.float32))
            if key in ("value_string", "value_strings"):
                return Fact(8, () if key == "value_string" else (len(value),))
        return UNKNOWN

    def _called(self, node: Node) -> Function | None:
        if self._functions is None:
            self._functions = {one.unique_id: one for one in self.inference.root.functions}
        name = (node.domain or "", node.op)
        return self._functions.get((*name, node.overload) if node.overload else name)

    def _through(
        self, function: Function, attrs: Mapping[str, Any], inputs: list[Fact | None], depth: int
    ) -> list[Fact]:
        """What a call of a function gives: its nodes in turn, with the caller's facts and attributes."""
        if depth >= _DEEPEST or len(function.nodes) > _LONGEST >> (depth * 2):
            return []
        known: dict[Tensor, Fact | None] = dict.fromkeys(function.inputs)
        known.update(zip(function.inputs, inputs, strict=False))
        for node in function.nodes:
            given = [
                self.inference.constant(one)
                if isinstance(one, Constant)
                else known.get(one, UNKNOWN)
                if one.name
                else None
                for one in node.inputs
            ]
            bound = {name: _bound(value, attrs, function) for name, value in node.attrs.items()}
            bound = {name: value for name, value in bound.items() if value is not None}
            found = [] if node.bodies else self._derive(node, self._opset(node), bound, given, [], depth + 1)
            known.update(dict.fromkeys(node.outputs, UNKNOWN))
            known.update(zip(node.outputs, found, strict=False))
        return [known.get(one) or UNKNOWN for one in function.outputs]


def _bound(value: Any, attrs: Mapping[str, Any], function: Function) -> Any:
    if not isinstance(value, StockNode.AttributeRef):
        return value
    return attrs.get(value.name, function.attrs.get(value.name))
