"""Constants that are added, or multiplied, one after the other become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.analysis.annotations import Annotations
from graphopt.analysis.constants import constant_of
from graphopt.analysis.file_bytes import constant_node_bytes, held_bytes, initializer_bytes, node_bytes
from graphopt.analysis.matching import maker, only_reader
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.dtypes import np_dtype
from graphopt.ir.tensors import SparseStored
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fold.folding import sweep
from passes.fold.linear import FIRST_OPSET
from passes.fold.reweighting import needs_nodes, stored

_FLOATS = (1, 10, 11)  # float32, float16, float64 (ONNX IR, TensorProto.DataType)
_INTEGERS = (2, 3, 4, 5, 6, 7, 12, 13)  # of 8 to 64 bits
_CANCELS = 16.0  # times that a sum may be smaller than what it is the sum of


@dataclass(frozen=True)
class Reassociate(Pass):
    """Join constants that are added, or multiplied, one after the other.

    What it does
        Precondition: an Add or Sub of a constant reads the result of an Add or Sub of a constant that
        nobody else reads; or likewise a Mul or a Div by a constant that of a Mul or a Div by one.
        Rewrite: one Add (a Sub, where the value itself is subtracted), or one Mul, of the joined
        constant. Integers wrap around; floating point is computed in float64 and rounded once. A Div
        of integers drops its remainder, so it stays. Main graph, bodies and functions.

    Example
        before: a = Div(x, six)    b = Mul(a, half)    c = Add(b, one)    y = Sub(c, three)
        after:  b = Mul(x, twelfth)    y = Add(b, minus_two)

    When not
        Where the joined constant is zero, infinite or subnormal although its parts are not; where the
        constants of a sum nearly cancel, as in the addition and subtraction of a large number that
        rounds to integers; where the first result is read elsewhere too, or is an output; where
        broadcasting the constants against each other makes the joined one larger than both. Default
        values of inputs that callers may override are no constants. The file must not grow.

    Contract
        ROUNDING for floating point. For integers, whose arithmetic is modulo a power of two, the result
        is bit for bit the same.

    Source
        Reassociation: Muchnick, "Advanced Compiler Design and Implementation", 12.3.
    """

    name = "reassociate"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        annotations = Annotations(graph)
        for scope in graph.scopes():
            if scope.opset_of() < FIRST_OPSET:  # operators broadcast in another way
                continue
            for node in [one for one in scope.nodes if one.is_op("Add", "Sub", "Mul", "Div")]:
                second = _step(node)
                first = None if second is None else _step(maker(second.data, "Add", "Sub", "Mul", "Div"))
                if second is None or first is None or first.is_sum != second.is_sum:
                    continue
                rule = "sum" if second.is_sum else "product"
                joined = _joined(first, second, annotations)
                if isinstance(joined, str):
                    ctx.missed(rule, node, joined)
                elif joined is not None and ctx.rewrite(rule, node):
                    _put(first, second, joined, annotations)


@dataclass(frozen=True, eq=False)
class _Step:
    """An Add, Sub, Mul or Div of `data` and a constant, which is at `place`."""

    node: Node
    data: Tensor
    place: int
    constant: Constant

    @property
    def is_sum(self) -> bool:
        return self.node.op in ("Add", "Sub")

    @property
    def tensor(self) -> Tensor:
        found: Tensor = self.node.inputs[self.place]
        return found

    @property
    def sign(self) -> int:
        """-1 where the data is subtracted from the constant."""
        return -1 if self.node.op == "Sub" and self.place == 0 else 1


def _step(node: Node | None) -> _Step | None:
    if node is None or len(node.inputs) != 2 or len(node.outputs) != 1:
        return None
    held = [constant_of(one) for one in node.inputs]
    place = 1 if held[1] is not None else 0
    constant = held[place]
    if constant is None or held[1 - place] is not None or isinstance(constant.stored, SparseStored):
        return None
    kinds = _FLOATS if node.op == "Div" else (*_FLOATS, *_INTEGERS)
    if constant.onnx_dtype not in kinds or 0 in constant.shape or (node.op == "Div" and place == 0):
        return None
    return _Step(node, node.inputs[1 - place], place, constant)


def _joined(first: _Step, second: _Step, annotations: Annotations) -> Array | str | None:
    """The constant that does what both did; a clause where there is none, None for what never is one."""
    if first.node.graph is not second.node.graph or first.constant.onnx_dtype != second.constant.onnx_dtype:
        return None
    if only_reader(second.data) is not second.node:
        return f"{second.data.name!r} is read elsewhere too"
    why = annotations.about(second.data)
    if why is not None:
        return why
    one, two = first.constant.values, second.constant.values
    try:
        size = int(np.prod(np.broadcast_shapes(one.shape, two.shape)))
    except ValueError:
        return None
    if size > max(one.size, two.size):
        return "the constants are along different axes"
    join = _of_integers if first.constant.onnx_dtype in _INTEGERS else _of_floats
    found = join(first, second)
    if isinstance(found, str):
        return found
    grown = _grown(first, second, found, annotations)
    return f"the file would grow by {grown} bytes" if grown > 0 else found


def _of_integers(first: _Step, second: _Step) -> Array:
    one, two = first.constant.values, second.constant.values
    with np.errstate(over="ignore"):  # it is meant to wrap around
        if not second.is_sum:
            return np.asarray(one * two)
        inner = _shift(first, one)
        return np.asarray(_shift(second, two) + (inner if second.sign > 0 else inner * 0 - inner))


def _of_floats(first: _Step, second: _Step) -> Array | str:
    dtype: Any = np_dtype(first.constant.onnx_dtype)
    one, two = (step.constant.values.astype(np.float64) for step in (first, second))
    if first.is_sum:
        terms = second.sign * _shift(first, one), _shift(second, two)
        exact = np.asarray(terms[0] + terms[1])
        if not (np.abs(exact) * _CANCELS >= np.maximum(*map(np.abs, terms))).all():
            return "its constants nearly cancel, which may be meant to round"
        with np.errstate(over="ignore"):
            unfit = ~np.isfinite(exact.astype(dtype))
    else:
        with np.errstate(all="ignore"):
            exact = np.asarray(
                (1 / one if first.node.op == "Div" else one) * (1 / two if second.node.op == "Div" else two)
            )
            size = np.abs(exact.astype(dtype))
        unfit = ~(np.isfinite(size) & (size >= np.finfo(dtype).tiny))
    return "the joined constant is not a normal number" if unfit.any() else exact.astype(dtype)


def _shift(step: _Step, values: Array) -> Array:
    """What a step adds; integers wrap around."""
    return values * 0 - values if step.node.op == "Sub" and step.place == 1 else values


def _is_theirs(tensor: Tensor, first: _Step, second: _Step, annotations: Annotations) -> bool:
    """Whether a constant is there for the two nodes alone."""
    if tensor.graph_outputs or len(tensor.outputs) > 2 or annotations.needs(tensor) is not None:
        return False
    return all(one is first.node or one is second.node for one in tensor.readers)


def _keeper(first: _Step, second: _Step, annotations: Annotations) -> _Step | None:
    """Whose constant can take the joined values in its place."""
    return next((one for one in (second, first) if _is_theirs(one.tensor, first, second, annotations)), None)


def _grown(first: _Step, second: _Step, values: Array, annotations: Annotations) -> int:
    """Bytes by which the file would grow, at most."""
    total, keeper = -node_bytes(first.node), _keeper(first, second, annotations)
    for tensor, step in {first.tensor: first, second.tensor: second}.items():
        if not _is_theirs(tensor, first, second, annotations):
            continue
        if keeper is not None and tensor is keeper.tensor:
            more = values.nbytes - step.constant.nbytes
            total += more + 3 * (more > 0) + 3 * max(0, values.ndim - len(step.constant.shape))  # dims, prefixes
            continue
        total -= held_bytes(tensor)
    if keeper is not None:
        return total
    name = f"{second.tensor.name}_00"
    weigh = constant_node_bytes if needs_nodes(second.node) else initializer_bytes
    return total + weigh(name, values.shape, values.nbytes) + len(name.encode()) - len(second.tensor.name.encode())


def _put(first: _Step, second: _Step, values: Array, annotations: Annotations) -> None:
    node, scope = second.node, second.node.graph
    assert scope is not None, "a node that is looked at is in a graph"
    keeper, sign = _keeper(first, second, annotations), first.sign * second.sign
    if keeper is not None:
        tensor = keeper.tensor
        scope.set_values(tensor, values)
    else:
        tensor = stored(scope, values, second.tensor.name, node)
    node.op = "Mul" if not second.is_sum else "Sub" if sign < 0 else "Add"
    place = 0 if node.op == "Sub" else second.place
    scope.rewire(node, place, tensor)
    scope.rewire(node, 1 - place, first.data)
    sweep(first.node, annotations)
