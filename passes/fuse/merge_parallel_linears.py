"""Parallel linears: several products of one value with weights become one, split afterwards."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_of
from graphopt.analysis.file_bytes import described_bytes, fresh, held_bytes, initializer_bytes, plain_bytes
from graphopt.analysis.matching import only_reader
from graphopt.analysis.pattern_terms import attribute, is_constant
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.supersede import remove_all
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.fuse.rules import DOUBLE, FLOAT, FLOAT16, TYPE_NAMES

RULE = "parallel-linears"
_EQUAL_PARTS = 18  # from this opset on a Split is told how many parts there are
_SIZES_AS_INPUT = 13
_FROM_BEHIND = 11  # from this opset on an axis may be negative


@dataclass(frozen=True)
class _Branch:
    """One product: its node, weight and bias, the Add of a MatMul, and the value that comes out."""

    node: Node
    weight: Constant
    bias: Constant | None
    add: Node | None
    transposed: bool

    @property
    def output(self) -> Tensor:
        made: Tensor = (self.add or self.node).outputs[0]
        return made

    @property
    def columns(self) -> int:
        return int(self.weight.shape[0 if self.transposed else 1])

    @property
    def nodes(self) -> list[Node]:
        return [self.node] if self.add is None else [self.node, self.add]

    @property
    def constants(self) -> list[Constant]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]


@dataclass(frozen=True)
class MergeParallelLinears(Pass):
    """Merge products of one value with several weights into one product with a wider weight.

    What it does
        Precondition: MatMul nodes (each perhaps with an Add of a constant row behind it) or Gemm nodes with
        the same attributes read the same value as their first operand, and a constant matrix each as
        their second one, which nothing else reads. Rewrite: one MatMul (and one Add), or one Gemm, with
        the weights side by side, and a Split of what comes out along the last axis; only where that
        leaves fewer nodes: three products, or two with an Add each. Main graph and bodies.

    Example
        before: q = MatMul(x, wq)    k = MatMul(x, wk)    v = MatMul(x, wv)
        after:  qkv = MatMul(x, w)    q, k, v = Split<axis=-1>(qkv)

    When not
        A weight or bias that others read too: it would have to be stored twice. Biases that are not one
        number for each column. Element types other than float, float16 and double. Two products without an Add,
        and two Gemm nodes: the Split would come on top.

    Contract
        ROUNDING. Each column is computed as before, but the kernel may cut the wider product into other blocks.

    Source
        Vaswani et al., "Attention is all you need", 2017, section 3.2.2: the projections of one input.
        ONNX operators MatMul (1, 9, 13), Gemm (7, 9, 11, 13), Split (2, 11, 13, 18).
    """

    name = "merge-parallel-linears"
    contract = Contract.ROUNDING
    largest: int = option(1 << 28, "bytes of weights that are merged at most, since they are read and written anew")

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        for scope in graph.scopes():
            if scope.is_function:
                continue
            for branches in _groups(scope):
                self._merge(scope, branches, ctx, annotations)

    def _merge(self, scope: Graph, branches: list[_Branch], ctx: Context, annotations: Annotations) -> None:
        before = sum(len(one.nodes) for one in branches)
        after = 2 + (branches[0].add is not None)
        if len(branches) < 2 or after >= before:
            return
        first = branches[0].node
        axis = _axis(scope, branches[0], ctx)
        why = self._why_not(branches, annotations)
        if why is None and _growth(scope, branches) > 0:
            why = "the file would grow"
        if why is None and axis is None:
            why = f"the rank of {branches[0].output.name!r} is not known"
        if why is not None or axis is None:
            ctx.missed(RULE, first, why or "")
        elif ctx.rewrite(RULE, first, f"{len(branches)} products"):
            _rewrite(scope, branches, axis)

    def _why_not(self, branches: list[_Branch], annotations: Annotations) -> str | None:
        if sum(one.weight.nbytes for one in branches) > self.largest:
            return f"the weights take more than {self.largest} bytes together"
        constants = [constant for one in branches for constant in one.constants]
        if len(set(constants)) < len(constants):
            return "two of the products share a weight or bias"
        for one in branches:
            for constant in one.constants:
                if len(constant.outputs) > 1 or constant.graph_outputs:
                    return f"{constant.name!r} is read by others too"
                if (why := annotations.about(constant)) is not None:
                    return why
            inner = one.node.outputs[0]
            if one.add is not None and (why := annotations.about(inner)) is not None:
                return why
        return None


def _groups(scope: Graph) -> Iterator[list[_Branch]]:
    """Products of the same value that can be one product, in order."""
    groups: dict[Hashable, list[_Branch]] = {}
    for node in list(scope.nodes):
        if node.is_op("MatMul", "Gemm") and len(node.inputs) >= 2:
            branch = _branch(node)
            if branch is not None:
                groups.setdefault(_key(branch), []).append(branch)
    yield from groups.values()


def _branch(node: Node) -> _Branch | None:
    weight = _matrix(node.inputs[1])
    if weight is None or node.inputs[0] is node.inputs[1]:
        return None
    if node.op == "MatMul":
        add = only_reader(node.outputs[0])
        if add is None or not add.is_op("Add") or add.graph is not node.graph:
            return _Branch(node, weight, None, None, False)
        other = add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0]
        bias = _row(other, int(weight.shape[1]))
        return _Branch(node, weight, bias, add if bias is not None else None, False)
    transposed = bool(attribute(node, "transB"))
    columns = int(weight.shape[0 if transposed else 1])
    if len(node.inputs) < 3 or not (node.inputs[2].name or isinstance(node.inputs[2], Constant)):
        return _Branch(node, weight, None, None, transposed)
    bias = _row(node.inputs[2], columns)
    return None if bias is None else _Branch(node, weight, bias, None, transposed)


def _key(branch: _Branch) -> Hashable:
    """What two products have in common that can be one: operator, input, attributes, kind of bias."""
    node = branch.node
    attrs = tuple(attribute(node, name) for name in ("alpha", "beta", "transA", "transB")) if node.op == "Gemm" else ()
    rows = int(branch.weight.shape[1 if branch.transposed else 0])
    return node.op, id(node.inputs[0]), attrs, branch.bias is not None, branch.weight.onnx_dtype, rows


def _matrix(tensor: Tensor) -> Constant | None:
    held = constant_of(tensor)
    fits = held is not None and held is tensor and is_constant(tensor) and len(held.shape) == 2
    return held if fits and held is not None and held.onnx_dtype in _ADMITTED and 0 not in held.shape else None


def _row(tensor: Tensor, columns: int) -> Constant | None:
    """A constant of one number for each column, without other axes."""
    held = constant_of(tensor)
    if held is None or held is not tensor or not is_constant(tensor):
        return None
    return held if [int(one) for one in held.shape] == [columns] else None


_ADMITTED = tuple(one for one in TYPE_NAMES if one in (FLOAT, FLOAT16, DOUBLE))


def _growth(scope: Graph, branches: list[_Branch]) -> int:
    """Bytes that the file grows by, at most; weights only move."""
    first = branches[0]
    constants = [one for branch in branches for one in branch.constants[: 2 if first.bias is not None else 1]]
    old = sum(plain_bytes(node) for one in branches for node in one.nodes) + sum(map(held_bytes, constants))
    moved = sum(one.nbytes for one in constants)
    made = fresh(first.node.outputs[0].name)
    new = initializer_bytes(first.weight.name, first.weight.shape, moved) + 8
    new += plain_bytes(first.node) + len(made) - len(first.node.outputs[0].name)
    if first.bias is not None:
        new += initializer_bytes(first.bias.name, first.bias.shape, 0)
    if first.add is not None:
        total = fresh(first.output.name)
        new += described_bytes("Add", [made, total, first.bias.name if first.bias else ""], {}, first.add.name)
        made = total
    sizes = [one.columns for one in branches]
    attrs: dict[str, object] = {"axis": -1 if scope.opset >= _FROM_BEHIND else 1}
    names = [made, *(one.output.name for one in branches)]
    if scope.opset >= _EQUAL_PARTS and len(set(sizes)) == 1:
        attrs["num_outputs"] = len(sizes)
    elif len(set(sizes)) > 1 and scope.opset < _SIZES_AS_INPUT:
        attrs["split"] = sizes
    elif len(set(sizes)) > 1:
        names.append(fresh("split"))
        new += initializer_bytes(names[-1], [len(sizes)], 8 * len(sizes))
    return new + described_bytes("Split", names, attrs) - old


def _rewrite(scope: Graph, branches: list[_Branch], axis: int) -> None:
    first = branches[0]
    outputs = [one.output for one in branches]
    sizes = [one.columns for one in branches]
    weight, bias = first.weight, first.bias
    scope.set_values(weight, _beside([one.weight for one in branches], 0 if first.transposed else 1))
    if bias is not None:
        scope.set_values(bias, _beside([one.bias for one in branches if one.bias is not None], 0))
    value = scope.variable(first.node.outputs[0].name)
    operands = [first.node.inputs[0], weight]
    if bias is not None and first.add is None:
        operands.append(bias)
    new = [Node(first.node.op, first.node.name, dict(first.node.attrs), operands, [value])]
    if bias is not None and first.add is not None:
        total = scope.variable(first.output.name)
        new.append(Node("Add", first.add.name, {}, [value, bias], [total]))
        value = total
    for one in branches:
        (one.add or one.node).outputs.clear()
    new.append(_split(scope, value, axis, sizes, outputs))
    for node in new:
        scope.insert(node, before=first.node)
    remove_all([node for one in branches for node in one.nodes])


def _axis(scope: Graph, branch: _Branch, ctx: Context) -> int | None:
    """The last axis of the product as a Split of this opset can be told of it."""
    if branch.node.op == "Gemm":
        return 1
    if scope.opset >= _FROM_BEHIND:
        return -1
    rank = ctx.shapes.rank(branch.output)
    return rank - 1 if rank else None


def _split(scope: Graph, value: Tensor, axis: int, sizes: list[int], outputs: list[Tensor]) -> Node:
    """A Split along the last axis; equal parts need no list of sizes."""
    attrs: dict[str, object] = {"axis": axis}
    operands: list[Tensor] = [value]
    equal = len(set(sizes)) == 1
    if scope.opset >= _EQUAL_PARTS and equal:
        attrs["num_outputs"] = len(sizes)
    elif scope.opset < _SIZES_AS_INPUT and not equal:
        attrs["split"] = sizes
    elif not equal:
        operands.append(scope.constant(np.asarray(sizes, np.int64), "split"))
    return Node("Split", "", attrs, operands, outputs)


def _beside(constants: list[Constant], axis: int) -> Array:
    joined: Array = np.concatenate([one.values for one in constants], axis=axis)
    return joined
