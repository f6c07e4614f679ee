"""What both kinds of tensor share: identity, and links to the nodes that make and read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.ir.links import Uses
from graphopt.ir.membership import in_place, stands
from graphopt.ir.names import renamed

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.node import Node


class Linked:
    """Identity semantics and two-way links. A copy of a tensor (`copy.copy` too) has no links."""

    name: str
    inputs: Uses
    outputs: Uses

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("inputs", "outputs") and name in self.__dict__:
            uses, nodes = self.__dict__[name], list(value)
            if value is not uses:
                uses.clear()
                uses.extend(nodes)
            return
        object.__setattr__(self, name, value)
        if name == "name":
            renamed(self, value)

    @property
    def graph_outputs(self) -> list[Graph]:
        """The graphs of the model that have this tensor among their outputs, once for each place."""
        return [graph for graph in self.__dict__.get("_graph_outputs", ()) if stands(graph)]

    @property
    def readers(self) -> list[Node]:
        """The nodes of the model that read this tensor, in bodies too, each once."""
        return list(dict.fromkeys(node for node in self.__dict__["outputs"] if in_place(node)))

    @property
    def is_read(self) -> bool:
        """Whether any node of the model reads it or any graph of it has it as an output."""
        for node in self.__dict__["outputs"]:
            if in_place(node):
                return True
        return bool(self.__dict__.get("_graph_outputs")) and bool(self.graph_outputs)

    def __copy__(self) -> Any:
        return self.copy()  # type: ignore[attr-defined]

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()  # type: ignore[attr-defined]
