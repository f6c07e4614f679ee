"""Other weights for a linear operator: computed in float64, checked, weighed, and put in place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_of
from graphopt.analysis.file_bytes import constant_node_bytes, initializer_bytes
from graphopt.analysis.matching import only_reader, operand
from graphopt.ir import Constant, Graph, Node, Tensor, Variable
from graphopt.ir.shelf import scratch
from graphopt.ir.values import Array
from passes.fold.linear import Linear, Vector

_INITIALIZERS_ALONE = 4  # the IR version from which on an initializer need not be an input
_FAINT = 2.0**-60  # a scale so small that what it takes below the normal numbers may have mattered
_COVER = 2.0**-40  # a bias beside which that does not matter
LARGEST = {1: 2.0**100, 11: 2.0**900}
"""What weights may reach, by element type, so that sums of products stay finite."""
_PIECE = 1 << 19  # elements that are worked on together
_SLOT = 8  # bytes for the name of one more input, its tag, and longer length prefixes


@dataclass(frozen=True, eq=False)
class Change:
    """New values for the weight of `linear`, and for its bias (None: the bias stays)."""

    linear: Linear
    weight: Array
    bias: Array | None

    @property
    def makes_bias(self) -> bool:
        """Whether the operator gets a bias where it had none, or none that is its own."""
        return self.bias is not None and _own_bias(self.linear) is None

    def cost(self, donor: Constant | None) -> int:
        """Bytes by which the file grows, at most; `donor` is an initializer that the bias may take."""
        if self.bias is None:
            return 0
        held = _own_bias(self.linear) or donor
        if held is not None:
            return self.bias.nbytes - held.nbytes + (_SLOT + len(held.name) if held is donor else 0)
        name, size = f"{self.linear.weight_name}_bias_00", self.bias.nbytes
        weigh = constant_node_bytes if needs_nodes(self.linear.node) else initializer_bytes
        return weigh(name, self.bias.shape, size) + len(name.encode()) + _SLOT

    def apply(self, donor: Constant | None) -> None:
        """Put the values in place."""
        linear, node = self.linear, self.linear.biased
        scope = node.graph
        assert scope is not None, "a linear operator is in a graph"
        scope.set_values(linear.node.inputs[linear.slot], self.weight)
        if self.bias is None:
            return
        if _own_bias(linear) is not None:
            assert linear.bias_slot is not None, "there is a bias"
            scope.set_values(node.inputs[linear.bias_slot], self.bias)
            return
        tensor = bias_of(self, scope, donor)
        assert linear.bias_slot is not None, "a bias that changes has a slot"
        while len(node.inputs) <= linear.bias_slot:
            node.inputs.append(Variable.empty())
        scope.rewire(node, linear.bias_slot, tensor)


def bias_of(change: Change, scope: Graph, donor: Constant | None) -> Tensor:
    """A constant with the new bias: the `donor`, or a new one."""
    assert change.bias is not None, "asked for where there is a bias"
    if donor is not None:
        scope.set_values(donor, change.bias)
        return donor
    return stored(scope, change.bias, f"{change.linear.weight_name}_bias", change.linear.node)


def stored(scope: Graph, values: Array, stem: str, reader: Node) -> Tensor:
    """A new constant for `reader` to read: an initializer, or a Constant node where there can be none."""
    if not needs_nodes(reader):
        return scope.constant(values, stem)
    tensor = scope.variable(stem, values.dtype, values.shape)
    scope.insert(Node("Constant", "", {"value": Constant("", values)}, [], [tensor]), before=reader)
    return tensor


def needs_nodes(node: Node) -> bool:
    """Whether a new constant beside `node` must be a Constant node: in functions, and where every
    initializer is an input."""
    scope = node.graph
    while scope is not None and not scope.is_function:
        parent = scope.parent
        if not isinstance(parent, Node):
            return 0 < int(scope.ir_version or 0) < _INITIALIZERS_ALONE
        scope = parent.graph
    return True


def scaled_after(linear: Linear, scale: Vector, shift: Vector | None) -> Change | str:
    """The operator with its result scaled and shifted by channel; a clause where that cannot be."""
    why = linear.why_not_own()
    bias = linear.bias()
    needed = shift is not None or linear.bias_slot is not None
    if why is None and (bias is None or (shift is not None and linear.bias_slot is None and not _becomes_gemm(linear))):
        why = linear.why_no_bias()
    if why is not None or bias is None:
        return why or "its bias is not known"
    moved = bias * scale + (0.0 if shift is None else shift) if needed else bias
    if linear.beta == 0 and np.any(moved):
        return linear.why_no_bias() or "its bias counts for nothing"
    covered = np.abs(moved) >= _COVER
    spread = linear.spread(np.broadcast_to(scale, (linear.outputs,)), out=True)
    cover = linear.spread(np.broadcast_to(covered, (linear.outputs,)).astype(np.float64), out=True) > 0
    return _change(linear, spread, cover, moved if needed else None)


def scaled_before(linear: Linear, scale: Vector, shift: Vector | None) -> Change | str:
    """The operator that scales and shifts its operand by channel itself; a clause where that cannot be."""
    node = linear.node
    why = linear.why_not_own()
    if why is None and node.attrs.get("transA", 0):
        why = f"{node.label!r} transposes what it reads"
    if why is None and shift is not None:
        why = linear.why_no_bias() or why_pads(node)
    if why is not None:
        return why
    bias = linear.bias()
    moved = None if shift is None or bias is None else bias + linear.response(shift)
    spread = linear.spread(np.broadcast_to(scale, (linear.inputs,)), out=False)
    return _change(linear, spread, np.zeros((), bool), moved)


def why_pads(node: Node) -> str | None:
    """Why what is added to the input of a convolution is not the same at each place of its output."""
    if node.op == "ConvTranspose":
        return f"the border of {node.label!r} reads fewer elements than its middle"
    if node.op != "Conv":
        return None
    auto = node.attrs.get("auto_pad", "NOTSET")
    pads = any(node.attrs.get("pads", ())) if auto == "NOTSET" else auto != "VALID"
    return f"{node.label!r} pads what it reads with zeros" if pads else None


def _change(linear: Linear, spread: Vector, cover: Array, bias: Vector | None) -> Change | str:
    old = linear.weight.values
    dtype = old.dtype
    if linear.beta == 0:
        bias = None  # it counts for nothing, and was found to be nothing
    if bias is not None:
        bias = bias / linear.beta
        if not np.any(bias) and linear.bias_slot is not None and operand(linear.biased, linear.bias_slot) is None:
            bias = None
    beyond = f"the weights of {linear.node.label!r} would leave the range of {dtype}"
    largest = LARGEST[linear.weight.onnx_dtype]
    if bias is not None and not (np.abs(bias) <= largest).all():  # also where it is NaN
        return beyond
    tiny = float(np.finfo(dtype).tiny)
    faint = (np.abs(spread) < _FAINT) & ~cover
    made, any_faint = scratch(old.shape, dtype), bool(faint.any())
    scales, faints = np.broadcast_to(spread, old.shape), np.broadcast_to(faint, old.shape)
    rows = max(_PIECE * len(old) // max(old.size, 1), 1)
    lost = False
    for start in range(0, len(old), rows):
        part = slice(start, start + rows)
        with np.errstate(over="ignore"):  # what is infinite then leaves the range, and that is said
            exact = old[part].astype(np.float64) * scales[part]
        if not (np.abs(exact) <= largest).all():
            return beyond
        if any_faint:
            lost |= bool(((np.abs(exact) < tiny) & (exact != 0) & (np.abs(old[part]) >= tiny) & faints[part]).any())
        made[part] = exact
    if lost:
        return f"the weights of {linear.node.label!r} would fall below the range of {dtype}"
    return Change(linear, made, None if bias is None else _shaped(linear, bias).astype(dtype))


def _becomes_gemm(linear: Linear) -> bool:
    return linear.node.op == "MatMul" and linear.data == 0 and linear.rank == 2


def _shaped(linear: Linear, bias: Vector) -> Vector:
    if linear.node.op.startswith("Conv"):
        return np.ascontiguousarray(np.broadcast_to(bias, (linear.outputs,)))
    held = None if linear.bias_slot is None else operand(linear.biased, linear.bias_slot)
    old = None if held is None else constant_of(held)
    if old is not None and int(np.prod(old.shape, dtype=np.int64)) == bias.size:
        return bias.reshape([int(one) for one in old.shape])
    return bias.reshape(-1, 1) if linear.axis == -2 else bias.reshape(-1)


def _own_bias(linear: Linear) -> Constant | None:
    """The constant of the bias, where nothing else reads it."""
    held = None if linear.bias_slot is None else operand(linear.biased, linear.bias_slot)
    return constant_of(held) if held is not None and only_reader(held) is linear.biased else None
