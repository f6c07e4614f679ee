"""Graphs: nodes, inputs, outputs and initializers, and every way to edit them.

`Graph` is the main graph or a body (of an If, Loop or Scan); `Function` is a model-local
function. All edits keep links, names and the journal right and cost what they touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import onnx
import onnx_graphsurgeon as gs

from graphopt.ir.adopt import adopt_graph
from graphopt.ir.attributes import Attrs
from graphopt.ir.edits import Edits
from graphopt.ir.initializers import Initializers
from graphopt.ir.names import Names
from graphopt.ir.node import Node
from graphopt.ir.nodelist import Nodes
from graphopt.ir.outputs import Outputs
from graphopt.ir.stock import StockMethods
from graphopt.ir.values import Constant, Tensor, Variable

if TYPE_CHECKING:
    from graphopt.ir.decode import Origin
    from graphopt.ir.journal import Journal

DEFAULT_OPSET = 17


class Graph(Edits, StockMethods, gs.Graph):
    """A graph of nodes. `parent` is the node whose body this is, None for a whole model's."""

    nodes: Nodes
    inputs: list[Variable]
    outputs: Outputs
    initializers: Initializers
    defaults: dict[Variable, Constant]
    parent: Any

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        nodes: Iterable[Node] | None = None,
        inputs: Iterable[Variable] | None = None,
        outputs: Iterable[Tensor] | None = None,
        name: str | None = None,
        doc_string: str | None = None,
        opset: int | None = None,
        import_domains: Iterable[onnx.OperatorSetIdProto] | None = None,
        producer_name: str | None = None,
        producer_version: str | None = None,
        functions: Iterable[Function] | None = None,
        ir_version: int | None = None,
    ) -> None:
        own = self.__dict__
        own["name"] = "graph" if name is None else name
        own["__name__"] = own["name"]
        own["doc_string"] = doc_string or ""
        own["producer_name"] = producer_name or ""
        own["producer_version"] = producer_version or ""
        own["import_domains"] = list(import_domains or [])
        own["opset"] = _default_opset(own["import_domains"]) or DEFAULT_OPSET if opset is None else opset
        own["ir_version"] = ir_version
        own["name_idx"] = 0
        own["parent"] = None
        own["journal"] = None
        own["_origin"] = None
        own["_names"] = None
        own["_functions"] = list(functions or [])
        own["initializers"] = Initializers(self)
        own["defaults"] = {}
        own["inputs"] = list(inputs or [])
        own["nodes"] = Nodes(self, nodes or [])
        own["outputs"] = Outputs(self, outputs or [])

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if name in ("nodes", "outputs"):
            if value is not own[name]:
                own[name][:] = list(value)
        elif name == "inputs":
            own["inputs"] = list(value)
        elif name == "functions":
            self.functions[:] = list(value)
        else:
            object.__setattr__(self, name, value)

    @property
    def functions(self) -> list[Function]:
        """The model-local functions; one list for the whole model."""
        root = self.root
        found: list[Function] = root.__dict__["_functions"]
        for function in found:
            if "_origin" not in function.__dict__:
                adopt_graph(function)  # stock graphsurgeon's
            function.__dict__["parent"] = root
        return found

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators that the nodes follow, the same in bodies; 0 when
        the model does not say."""
        return int(self._top.__dict__["opset"])

    @opset.setter
    def opset(self, version: int) -> None:
        self._top.__dict__["opset"] = version

    @property
    def _top(self) -> Graph:
        """The main graph or the function that this graph is, or is a body in."""
        scope: Any = self
        while isinstance(scope.parent, Node) and scope.parent.graph is not None:
            scope = scope.parent.graph
        return cast("Graph", scope)

    @property
    def root(self) -> Graph:
        """The outermost graph: the main graph, also for functions once they belong to one."""
        scope: Any = self
        while (node := scope.__dict__["parent"]) is not None:
            if isinstance(node, gs.Graph):  # a function's parent is the main graph
                scope = node
                continue
            if node.graph is None:
                break
            scope = node.graph
        return cast("Graph", scope)

    @property
    def is_body(self) -> bool:
        """Whether this graph is an attribute of a node."""
        return isinstance(self.parent, Node)

    @property
    def is_function(self) -> bool:
        return isinstance(self, Function)

    @property
    def journal(self) -> Journal | None:
        """Who is told of edits, kept on the main graph."""
        found: Journal | None = self.root.__dict__["journal"]
        return found

    @journal.setter
    def journal(self, journal: Journal | None) -> None:
        self.root.__dict__["journal"] = journal

    @property
    def names(self) -> Names:
        """Every name in use in the model, gathered at the first call."""
        root = self.root
        if root.__dict__["_names"] is None:
            root.__dict__["_names"] = Names(root)
        return cast("Names", root.__dict__["_names"])

    def graphs(self) -> Iterator[Graph]:
        """This graph and every body inside it, outer before inner, in node order."""
        pending: list[Graph] = [self]
        while pending:
            graph = pending.pop()
            yield graph
            inner: list[Graph] = []
            for node in graph.nodes.snapshot():
                if node.__dict__["_attrs"]:  # a node that holds bodies is always decoded
                    inner.extend(node.bodies)
            pending.extend(reversed(inner))

    def scopes(self) -> Iterator[Graph]:
        """Every graph of the model: main graph, functions, and the bodies inside them."""
        root = self.root
        yield from root.graphs()
        for function in list(root.functions):
            yield from function.graphs()

    def subgraphs(self, recursive: bool = False) -> Iterator[Graph]:
        """The bodies of this graph's nodes; with `recursive`, the bodies inside them too."""
        for node in self.nodes:
            yield from node.subgraphs(recursive)

    @property
    def path(self) -> str:
        """Where this graph is: "" for the main graph, else as in `if_3.then_branch`."""
        if isinstance(self, Function):
            return f"function {self.domain}.{self.name}" if self.domain else f"function {self.name}"
        if not isinstance(self.parent, Node):
            return ""
        attr = next((k for k, v in self.parent.attrs.items() if v is self), self.name)
        outer = self.parent.graph.path if self.parent.graph is not None else ""
        return f"{outer}/{self.parent.label}.{attr}" if outer else f"{self.parent.label}.{attr}"

    def opset_of(self, domain: str = "") -> int:
        """The version of `domain` that this graph's nodes follow; 0 when it is not imported."""
        if domain in ("", "ai.onnx"):
            return self.opset
        return next((int(o.version) for o in self._top.import_domains or () if o.domain == domain), 0)

    @property
    def origin(self) -> Origin | None:
        """What this graph was decoded from; None for a graph made from scratch."""
        found: Origin | None = self.__dict__["_origin"]
        return found

    def is_input(self, tensor: Tensor) -> bool:
        """Whether `tensor` is one of this graph's inputs."""
        return any(one is tensor for one in self.inputs)

    def __str__(self) -> str:
        return f"graph {self.name!r}: {len(self.nodes)} nodes, opset {self.opset}"

    __repr__ = __str__


class Function(Graph, gs.Function):
    """A model-local function: a graph with formal attributes that nodes call by name."""

    domain: str
    attrs: Attrs
    overload: str

    def __init__(
        self,
        name: str,
        domain: str | None = None,
        nodes: Iterable[Node] | None = None,
        inputs: Iterable[Variable] | None = None,
        outputs: Iterable[Tensor] | None = None,
        doc_string: str | None = None,
        opset: int | None = None,
        import_domains: Iterable[onnx.OperatorSetIdProto] | None = None,
        functions: Iterable[Function] | None = None,
        attrs: dict[str, Any] | None = None,
        ir_version: int | None = None,
        overload: str = "",
    ) -> None:
        self.__dict__["domain"] = gs.Function.DEFAULT_DOMAIN if domain is None else domain
        self.__dict__["attrs"] = Attrs(None, attrs or {})
        self.__dict__["overload"] = overload
        Graph.__init__(
            self,
            nodes,
            inputs,
            outputs,
            name,
            doc_string,
            opset,
            import_domains,
            None,
            None,
            functions,
            ir_version,
        )

    @property
    def unique_id(self) -> tuple[str, ...]:
        """Domain and name (and overload where there is one): what a call refers to."""
        return (self.domain, self.name, self.overload) if self.overload else (self.domain, self.name)


def _default_opset(domains: list[onnx.OperatorSetIdProto]) -> int | None:
    return next((int(o.version) for o in domains if o.domain in ("", "ai.onnx")), None)


__all__ = ["Constant", "Function", "Graph", "Node", "Tensor", "Variable"]
