"""Nodes: graphsurgeon's class with identity, an owner, and attributes decoded when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import onnx
import onnx_graphsurgeon as gs

from graphopt.ir.attributes import Attrs
from graphopt.ir.links import Slots
from graphopt.ir.names import renamed

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.ir.values import Tensor


class Node(gs.Node):
    """One operator call. `graph` is the graph, body or function whose node list holds it."""

    inputs: Slots
    outputs: Slots
    graph: Graph | None

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        op: str,
        name: str | None = None,
        attrs: dict[str, Any] | None = None,
        inputs: Iterable[Tensor] | None = None,
        outputs: Iterable[Tensor] | None = None,
        domain: str | None = None,
    ) -> None:
        own = self.__dict__
        own["op"], own["name"], own["domain"] = op, name or "", domain
        own["graph"], own["_proto"] = None, None
        own["inputs"], own["outputs"] = Slots(self, "outputs", inputs or ()), Slots(self, "inputs", outputs or ())
        own["_attrs"] = Attrs(self, attrs or {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("inputs", "outputs"):
            slots, tensors = self.__dict__[name], list(value)
            if value is not slots:
                slots[:] = tensors
            return
        object.__setattr__(self, name, value)
        if name == "name":
            renamed(self, value)

    @property
    def attrs(self) -> Attrs:
        """Attributes by name: int, float, str, bytes, lists of these, Constant, Graph, or the
        protobuf message itself (`Opaque`) for the rare kinds."""
        attrs: Attrs | None = self.__dict__["_attrs"]
        if attrs is None:
            own = self.__dict__
            attrs = own["_attrs"] = Attrs.decode(self, own["_proto"].attribute, own["_store"])
        return attrs

    @attrs.setter
    def attrs(self, value: dict[str, Any]) -> None:
        old = self.attrs
        if value is not old:
            self.__dict__["_attrs"] = Attrs(self, value, like=old)

    @property
    def is_standard(self) -> bool:
        """Whether the operator is of ONNX's default domain."""
        return self.domain in (None, "", "ai.onnx")

    def is_op(self, *ops: str) -> bool:
        """Whether this is one of the named operators of the default domain."""
        return self.op in ops and self.domain in (None, "", "ai.onnx")

    @property
    def overload(self) -> str:
        """Which overload of a model-local function the node calls; "" for the plain one."""
        proto = self.__dict__["_proto"]
        return "" if proto is None else str(proto.overload)

    @property
    def label(self) -> str:
        """How remarks and reports name the node: its name, or its first output's."""
        if self.name:
            return self.name
        first = next((out.name for out in self.outputs if out.name), "")
        return f"{self.op}({first})"

    @property
    def bodies(self) -> list[Graph]:
        """The graphs among the attributes, in attribute order."""
        attrs: Attrs | None = self.__dict__["_attrs"]
        return [] if attrs is None else attrs.graphs()  # nodes with bodies are decoded eagerly

    def subgraphs(self, recursive: bool = False) -> Iterator[Graph]:
        """The bodies of this node; with `recursive`, the bodies inside them too."""
        pending = list(reversed(self.bodies))
        while pending:
            body = pending.pop()
            yield body
            if recursive:
                pending.extend(reversed([inner for node in body.nodes for inner in node.bodies]))

    def copy(
        self,
        inputs: Iterable[Tensor] | None = None,
        outputs: Iterable[Tensor] | None = None,
        tensor_map: dict[str, Tensor] | None = None,
    ) -> Node:
        """A node of the same operator, name and attributes on other tensors.

        Bodies are copied; in them, outer values named in `tensor_map` are replaced.
        """
        from graphopt.ir.clone import clone_node

        return clone_node(self, list(inputs or ()), list(outputs or ()), tensor_map or {})

    def __str__(self) -> str:
        ins = ", ".join(t.name for t in self.inputs)
        outs = ", ".join(t.name for t in self.outputs)
        domain = "" if self.is_standard else f"{self.domain}."
        return f"{self.name or '(unnamed)'}: {outs} = {domain}{self.op}({ins})"

    __repr__ = __str__

    @property
    def proto(self) -> onnx.NodeProto | None:
        """The message this node was decoded from; None for a new node."""
        found: onnx.NodeProto | None = self.__dict__["_proto"]
        return found
