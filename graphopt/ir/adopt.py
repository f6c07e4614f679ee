"""Stock graphsurgeon objects that a script adds become ours, in place, on first contact.

The object keeps its identity (a script may still hold it); its class changes and its lists
become the linked ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx_graphsurgeon as gs

from graphopt.ir.attributes import Attrs
from graphopt.ir.links import Slots, Uses

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph


def adopt_tensor(tensor: Any) -> None:
    """Turn a stock `gs.Variable` or `gs.Constant` into ours.

    Raises TypeError for anything else.
    """
    from graphopt.ir.values import Constant, Variable

    if not isinstance(tensor, gs.Variable | gs.Constant):
        raise TypeError(f"a {type(tensor).__name__} is not a graphsurgeon tensor")
    own = tensor.__dict__
    makers, readers = list(own["inputs"]), list(own["outputs"])
    own["inputs"], own["outputs"] = Uses(tensor, "outputs"), Uses(tensor, "inputs")
    list.extend(own["inputs"], makers)
    list.extend(own["outputs"], readers)
    if isinstance(tensor, gs.Constant):
        tensor.__class__ = Constant
        own.setdefault("data_location", None)
        own.setdefault("_export_dtype", None)
        return
    shape = own.pop("shape", None)
    own["_dtype"], own["_shape"] = own.pop("dtype", None), None if shape is None else list(shape)
    own["_kind"] = own.pop("type", "tensor_type")
    tensor.__class__ = Variable


def adopt_node(node: Any) -> None:
    """Turn a stock `gs.Node`, and every stock tensor and body it holds, into ours.

    Raises TypeError for anything else.
    """
    from graphopt.ir.node import Node

    if not isinstance(node, gs.Node):
        raise TypeError(f"a {type(node).__name__} is not a graphsurgeon node")
    own = node.__dict__
    for key, field in (("inputs", "outputs"), ("outputs", "inputs")):
        tensors = list(own[key])
        slots = Slots(node, field)
        list.extend(slots, tensors)  # the tensors already know of this node
        own[key] = slots
        for tensor in tensors:
            if type(tensor.__dict__["inputs"]) is not Uses:
                adopt_tensor(tensor)
    own["_attrs"] = Attrs(own.pop("attrs", {}))
    own.update(graph=None, _proto=None)
    own.setdefault("domain", None)
    node.__class__ = Node
    adopt_bodies(node)


def adopt_bodies(node: Any) -> None:
    """Turn the stock graphs and constants among a node's attributes into ours."""
    for value in node.attrs.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, gs.Graph) and "_origin" not in one.__dict__:
                adopt_graph(one, node)
            elif isinstance(one, gs.Constant) and type(one.__dict__["inputs"]) is not Uses:
                adopt_tensor(one)


def adopt_graph(graph: Any, parent: Any) -> None:
    """Turn a stock `gs.Graph` that is a node's body into ours."""
    from graphopt.ir.graph import Graph

    own = graph.__dict__
    nodes, inputs, outputs = list(own["nodes"]), list(own["inputs"]), list(own["outputs"])
    made: Graph = Graph(
        name=own.get("name"),
        doc_string=own.get("doc_string"),
        opset=own.get("opset"),
        import_domains=own.get("import_domains"),
    )
    own.clear()
    own.update(made.__dict__)
    graph.__class__ = Graph
    own["parent"] = parent
    own["initializers"].owner = graph
    own["nodes"].owner = graph
    own["outputs"].owner = graph
    for tensor in (*inputs, *outputs):
        if type(tensor.__dict__["inputs"]) is not Uses:
            adopt_tensor(tensor)
    own["inputs"].extend(inputs)
    own["nodes"].extend(nodes)
    own["outputs"].extend(outputs)


def adopt_model(root: Graph) -> None:
    """Settle what scripts may leave loose in the whole model.

    Bodies set on nodes are adopted and know their node; constants that no graph declares get
    one: the main graph, or the scope that reads them inside functions.
    """
    for graph in list(root.scopes()):
        for node in graph.nodes:
            if node.__dict__["_attrs"]:
                adopt_bodies(node)
    for graph in list(root.scopes()):
        for node in list(graph.nodes):
            for tensor in list(node.inputs):
                if isinstance(tensor, gs.Constant):
                    _settle(graph, root, tensor)
        for tensor in list(graph.outputs):
            if isinstance(tensor, gs.Constant):
                _settle(graph, root, tensor)
    for graph in root.scopes():
        for tensor in graph.inputs:
            if type(tensor.__dict__["inputs"]) is not Uses:
                adopt_tensor(tensor)


def _settle(graph: Graph, root: Graph, constant: Any) -> None:
    if constant.__dict__.get("home") is not None:
        return
    top: Any = graph
    while top.is_body and top.parent.graph is not None:
        top = top.parent.graph
    if top.is_function:
        if graph is top:
            _as_node(graph, constant)
            return
        home = graph
    else:
        home = root
    taken = {one.name for one in home.initializers}
    if not constant.name or constant.name in taken:
        constant.name = root.fresh_name(constant.name or "constant")
    home.initializers.add(constant)


def _as_node(function: Graph, constant: Any) -> None:
    """In a function, which has no initializers, a constant becomes the output of a Constant node."""
    from graphopt.ir.node import Node
    from graphopt.ir.values import Constant, Variable

    value = Constant("", constant.__dict__["_values"], export_dtype=constant.__dict__.get("_export_dtype"))
    output = Variable(constant.name or function.fresh_name("constant"), constant.dtype, constant.shape)
    for reader in constant.readers:
        for index, tensor in enumerate(reader.inputs):
            if tensor is constant:
                reader.inputs[index] = output
    for index, tensor in enumerate(function.outputs):
        if tensor is constant:
            function.outputs[index] = output
    function.nodes.insert(0, Node("Constant", "", {"value": value}, [], [output]))
