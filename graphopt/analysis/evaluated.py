"""Asking for the values of what is computed from constants: the answer, and the part that needs nobody's help."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from graphopt.analysis.arithmetic import MOST, MOVED, SIZES, compute
from graphopt.analysis.constants import constant_of, constant_values
from graphopt.analysis.determined import Determined
from graphopt.analysis.excerpt import closure
from graphopt.analysis.moves import MOVES
from graphopt.ir import Constant, Graph, Node, Tensor
from graphopt.ir.values import Array


@dataclass(frozen=True)
class Evaluated(Mapping[Tensor, Array]):
    """The values that could be computed, read-only arrays by tensor, and why others could not.

    `refused` has a clause for every value that was asked for and is not in the mapping.
    """

    arrays: dict[Tensor, Array] = field(default_factory=dict)
    refused: dict[Tensor, str] = field(default_factory=dict)

    def __getitem__(self, tensor: Tensor) -> Array:
        return self.arrays[tensor]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)


def evaluate_small(values: Iterable[Tensor], determined: Determined) -> dict[Tensor, Array]:
    """What can be computed right here of `values`, all of them determined, and of what they are computed
    from: small integers and small tensors whose elements are only moved (see `arithmetic`)."""
    found: dict[Tensor, Array] = {}
    for node in closure(values):
        operands = _operands(node, found)
        if operands is not None and determined.called(node) is None and node.graph is not None:
            result = compute(node, operands, node.graph.opset_of())
            if result is not None:
                found[node.outputs[0]] = result
    return found


def _operands(node: Node, found: Mapping[Tensor, Array]) -> list[Array | None] | None:
    operands: list[Array | None] = []
    for one in node.inputs:
        if not one.name and not isinstance(one, Constant):
            operands.append(None)
            continue
        value = found.get(one)
        if value is None:
            value = _stated(one, node.is_op(*SIZES), MOVED if node.op in MOVES else MOST)
        if value is None:
            return None
        operands.append(value)
    return operands


def _stated(tensor: Tensor, dims_only: bool, most: int) -> Array | None:
    held = constant_of(tensor)
    if held is None:
        return constant_values(tensor)
    shape = tuple(int(dim) for dim in held.shape)
    if dims_only:
        return np.broadcast_to(np.int8(0), shape)
    return held.values if math.prod(shape) <= most else None


def evaluate_here(graph: Graph, values: Iterable[Tensor]) -> Evaluated:
    """The values among those asked for that are stated in the model, or small enough for `evaluate_small`."""
    answer, determined = Evaluated(), Determined(graph)
    wanted = list(values)
    for value in wanted:
        if (why := determined.why_not(value)) is not None:
            answer.refused[value] = why
    small = evaluate_small((one for one in wanted if one not in answer.refused), determined)
    for value in wanted:
        found = small.get(value)
        if found is None and value not in answer.refused:
            found = constant_values(value)
        if found is not None:
            answer.arrays[value] = found
        elif value not in answer.refused:
            answer.refused[value] = "it takes onnxruntime to compute it, and no worker is at hand"
    return answer
