"""What is said about axes that move together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.values import Array


@dataclass(frozen=True, eq=False)
class Member:
    """One axis of one tensor that gets shorter with its group.

    `axis` is counted from the front. `positions` is int64 [units, k]: row u has the k indices along the
    axis that belong to unit u, ascending. k is above 1 after a flattening (one channel is then many
    features), for heads, for gates of an LSTM; a Concat gives offsets. Indices of the axis that are in no
    row stay whatever happens, or belong to another group.

    `tensor` is a variable, an initializer, or the output of a Constant node. Where several nodes read one
    stored vector each for itself, `reader` is the node for which a copy gets shorter, else None. `length`
    is that of the axis.
    """

    tensor: Tensor
    axis: int
    positions: Array
    length: int
    reader: Node | None = None


@dataclass(frozen=True, eq=False)
class Site:
    """A weight of a linear operator, in input `slot` of `node`, and the axis of it that moves.

    `axis` and `positions` are in the layout that the operator reads, which may be a view of the stored
    tensor (transposed, dequantized). `groups` is the operator's own: a depthwise or grouped convolution
    has whole groups for units, and stands among the makers only, since the outputs that stay lose nothing.
    """

    node: Node
    slot: int
    axis: int
    positions: Array
    groups: int = 1

    @property
    def tensor(self) -> Tensor:
        """What the operator reads there."""
        found: Tensor = self.node.inputs[self.slot]
        return found


Kind = Literal["size", "split", "slice", "indices", "attribute"]


@dataclass(frozen=True, eq=False)
class Parameter:
    """A number in the model that depends on how long `axis` of `tensor` is.

    size: element `index` of the integers in input `slot` of `node` is that length; where `node` is a Concat
    that puts a target together, and others read its result, too, a copy of it for input `target` of `reader`
    follows. attribute: attribute `name` is that length over `per`. split: `node` is a Split, `values` are the
    sizes of its outputs. slice: `node` is a Slice that takes the range `values` (start and end) of that axis,
    its bounds are element `index` of what it is given. indices: `node` looks up the constant indices `values`
    of that axis, from `slot`. `values` are those of the time of the analysis.
    """

    kind: Kind
    node: Node
    tensor: Tensor
    axis: int
    slot: int = -1
    index: int = 0
    name: str = ""
    per: int = 1
    values: Array | None = None
    reader: Node | None = None
    target: int = -1


@dataclass(frozen=True, eq=False)
class Group:
    """Axes that get shorter together, in `size` units that can go or stay independently.

    `makers` are the weights whose output axis this is (Conv, ConvTranspose, Gemm, MatMul, gates of
    recurrent operators, tables of Gather), `readers` those whose input axis it is, both
    in the order of the graph; `subject`, the node of the first maker, names the group. `parameters` have to
    follow. `obstacle` is a clause that says why all units must stay, None when they need not. Where it is of
    `figures`, such as the mean that a normalization takes over the axis, units can go, but then what is
    computed for the others changes, too. `graph` is the graph (main graph, body or function) that holds the nodes.
    """

    size: int
    members: tuple[Member, ...]
    makers: tuple[Site, ...]
    readers: tuple[Site, ...]
    subject: Node
    obstacle: str | None
    parameters: tuple[Parameter, ...]
    graph: Graph
    figures: bool = False
