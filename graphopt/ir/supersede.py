"""One edit for fusions: new nodes make the values that a group of nodes made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from graphopt.ir.graph import Graph
from graphopt.ir.node import Node
from graphopt.ir.values import Constant, Tensor


def supersede(
    root: Node, nodes: Iterable[Node], new: Sequence[Node], needed: Callable[[Tensor], bool] = lambda _: False
) -> None:
    """Let `new` stand where `root` stands and make what it makes; take out `nodes`, of which it is one.

    The last node of `new` takes over root's outputs, the very tensors, in order: so names, graph outputs and
    readers stay as they are. It is given without outputs, the others with theirs. Whatever else
    `nodes` make is read by nobody but them. Constants that only they read go too, unless `needed`.
    """
    scope = root.graph
    assert scope is not None, "nodes that are superseded are in a graph"
    kept = list(root.outputs)
    root.outputs.clear()
    new[-1].outputs.extend(kept)
    for node in new:
        scope.insert(node, before=root)
    remove_all([root, *(node for node in nodes if node is not root)], needed)


def remove_all(nodes: Sequence[Node], needed: Callable[[Tensor], bool] = lambda _: False) -> None:
    """Take out nodes that only each other read, readers before what they read or not, and with them the
    constants that nobody else reads, unless `needed`."""
    freed = list(dict.fromkeys(tensor for node in nodes for tensor in node.inputs))
    going = set(nodes)
    for node in nodes:
        for output in node.outputs:
            for reader in output.readers:
                if reader in going:
                    reader.inputs.clear()
    for node in nodes:
        if node.graph is not None:
            node.graph.remove(node)
    for tensor in freed:
        if tensor.is_read or needed(tensor):
            continue
        home: Graph | None = tensor.__dict__.get("home")
        if isinstance(tensor, Constant) and home is not None:
            home.remove_initializer(tensor)
        elif len(tensor.inputs) == 1 and tensor.inputs[0].is_op("Constant") and tensor.inputs[0].graph is not None:
            tensor.inputs[0].graph.remove(tensor.inputs[0])
