"""Writes pruned weights: in place, or as a sparse tensor where that is smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.analysis.weights import Weight
from graphopt.ir.sparse import INDEX_BYTES, sparse_constant
from graphopt.ir.tensors import SparseStored
from passes.prune.magnitudes import Array, count_zeros

_FIRST = 11  # the opset in which Constant could hold a sparse tensor
_IR = 6  # the IR version in which models could hold one


def is_sparse(weight: Weight) -> bool:
    """Whether the model keeps the weight as a sparse tensor now."""
    return isinstance(weight.constant.stored, SparseStored)


def why_not_sparse(weight: Weight, values: Array) -> str | None:
    """Why `values` are not to be stored as a sparse tensor, in a clause; None when they are."""
    opset, version = weight.home.opset_of(), weight.home.root.ir_version
    if opset < _FIRST:
        advice = f"raise it with opset{{to={_FIRST}}} first"
        return f"a sparse Constant needs opset {_FIRST} and the model has {opset}: {advice}"
    if version is not None and version < _IR:
        return f"a sparse tensor needs IR version {_IR} and the model has {version}"
    if not values.ndim:
        return "a scalar cannot be stored as a sparse tensor"
    name = len(weight.tensor.name.encode()) + 16
    node = 0 if weight.holder is not None else 2 * name + 64
    kept = values.size - count_zeros(values)
    then, now = kept * (values.dtype.itemsize + INDEX_BYTES) + node + 64, values.nbytes
    return None if then < now else f"it would not be smaller: {now} bytes dense, about {then} sparse"


@dataclass(frozen=True)
class Outcome:
    """What becomes of a weight: `text` for a remark, whether it is stored `sparse`, and whether all stays as it was."""

    text: str
    sparse: bool
    idle: bool


def outcome(weight: Weight, pruned: Array, storage: Literal["dense", "sparse"]) -> Outcome:
    """How `pruned` values are stored in place of those of a weight, and how many of them are zero."""
    values = weight.constant.values
    before, after = count_zeros(values), count_zeros(pruned)
    kept_sparse = is_sparse(weight)
    why = why_not_sparse(weight, pruned) if kept_sparse or storage == "sparse" else "storage is dense"
    if after == before and (why is not None or kept_sparse):
        return Outcome(f"{before} of its {values.size} elements are zero already, and no other is to go", False, True)
    text = f"{after} of {values.size} elements are zero, {before} were"
    if why is None:
        text += ", stored as a sparse tensor"
    elif storage == "sparse":
        text += f", stored dense: {why}"
    return Outcome(text, why is None, False)


def store(weight: Weight, values: Array, sparse: bool) -> None:
    """Give the weight other values of the same shape and dtype, in the same kind of place, or as the
    `sparse_value` of a Constant node."""
    home = weight.home
    if not sparse:
        home.set_values(weight.constant, values)
        return
    made = home.variable(f"{weight.tensor.name}_sparse")
    node = sparse_constant(values, made, home.fresh_name(f"{made.name}_node"))
    home.insert(node, before=weight.holder or next(iter(home.nodes), None))
    home.replace_uses(weight.tensor, made)
    if weight.holder is None:
        home.remove_initializer(weight.constant)
    else:
        home.remove(weight.holder)
