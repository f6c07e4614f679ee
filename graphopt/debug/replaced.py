"""The reference's weights in place of the candidate's, so that what changed weights cost can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import NodeProto, TensorProto

from graphopt.debug.matching import Match
from graphopt.debug.readings import as_element
from graphopt.debug.wiring import Wiring
from graphopt.ir.tensors import Stored
from graphopt.validation.values import Array

if TYPE_CHECKING:
    from graphopt.debug.survey import Pairing


@dataclass(frozen=True)
class Replaced:
    """`arrays`: the candidate's weights, or what it computes from weights alone, as the reference has them.

    `how` says for a value of the candidate whether the weights of its node were changed by
    `pruning` (what differs became zero) or otherwise (`weights`).
    """

    arrays: dict[str, Array]
    how: dict[str, str]


def replaced_weights(pairing: Pairing, pairs: Sequence[Match]) -> Replaced:
    """What can be put back for the nodes of some pairs: weights in the same place of the same operator."""
    old, new = pairing.old.wiring, pairing.new.wiring
    fixed = constant_values(new)
    found = Replaced({}, {})
    for one in pairs:
        mine, theirs = old.node(one.reference), new.node(one.candidate)
        if mine is None or theirs is None or mine.op_type != theirs.op_type:
            continue
        for ours, name in zip(mine.input, theirs.input, strict=False):
            array = weight(old, ours)
            if array is None or not (name in new.weights or name in fixed):
                continue
            present = weight(new, name)
            if present is not None and (present.shape != array.shape or np.array_equal(present, array)):
                continue
            if present is None and pairing.shapes[1].get(name, ((),))[0] != array.shape:
                continue
            element = _element(new, name) if present is not None else pairing.new.tensors.get(name, 0)
            if not element:
                continue
            found.arrays[name] = as_element(array, element)
            how = "pruning" if present is not None and _pruned(array, present) else "weights"
            if found.how.get(one.candidate) != "weights":
                found.how[one.candidate] = how
    return found


def constant_values(wiring: Wiring) -> set[str]:
    """The values that nodes make of weights and constants alone."""
    fixed: set[str] = set()
    for position, node in enumerate(wiring.source.proto.graph.node):
        if all(name in fixed or name in wiring.weights for name in wiring.reads[position]) and _steady(node):
            fixed.update(name for name in node.output if name)
    return fixed


def weight(wiring: Wiring, name: str) -> Array | None:
    """The values of an initializer or of a Constant with a tensor; None for anything else."""
    tensor = _tensor(wiring, name)
    return None if tensor is None else Stored(tensor, wiring.source.store).load()


def _tensor(wiring: Wiring, name: str) -> TensorProto | None:
    if name in wiring.weights:
        return wiring.tensors.get(name)
    node = wiring.node(name)
    if node is None or node.op_type != "Constant":
        return None
    return next((one.t for one in node.attribute if one.name == "value"), None)


def _element(wiring: Wiring, name: str) -> int:
    tensor = _tensor(wiring, name)
    return 0 if tensor is None else int(tensor.data_type)


def _pruned(before: Array, after: Array) -> bool:
    changed = before != after
    return bool(np.all(after[changed] == 0))


def _steady(node: NodeProto) -> bool:
    return not node.op_type.startswith(("Random", "Multinomial", "Bernoulli"))
