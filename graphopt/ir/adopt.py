"""Stock graphsurgeon objects that a script adds become ours, in place, on first contact.

The object keeps its identity (a script may still hold it); its class changes and its lists
become the linked ones.
"""

from __future__ import annotations

from typing import Any

import onnx_graphsurgeon as gs

from graphopt.ir.links import Slots, Uses, uses_of


def adopt_tensor(tensor: Any) -> None:
    """Turn a stock `gs.Variable` or `gs.Constant` into ours.

    Raises TypeError for anything else.
    """
    from graphopt.ir.values import Constant, Variable

    if not isinstance(tensor, gs.Variable | gs.Constant):
        raise TypeError(f"a {type(tensor).__name__} is no tensor, so it cannot be an input or output")
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
    from graphopt.ir.attributes import Attrs
    from graphopt.ir.node import Node

    if not isinstance(node, gs.Node):
        raise TypeError(f"a {type(node).__name__} is no node, so it cannot be in a graph's nodes")
    own = node.__dict__
    for key, field in (("inputs", "outputs"), ("outputs", "inputs")):
        tensors = list(own[key])
        own[key] = slots = Slots(node, field)
        list.extend(slots, tensors)  # the tensors already know of this node
        for tensor in tensors:
            uses_of(tensor, field)
    own.update(graph=None, _proto=None, _attrs=Attrs(node, own.pop("attrs", {})))
    own.setdefault("domain", None)
    node.__class__ = Node


def adopt_value(value: Any, owner: Any) -> None:
    """Turn the stock graphs and constants of an attribute's value into ours; graphs become bodies
    of the node `owner`."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, gs.Graph):
            if "_origin" not in one.__dict__:
                adopt_graph(one)
            if owner is not None:
                one.__dict__["parent"] = owner
        elif isinstance(one, gs.Constant):
            uses_of(one, "inputs")


def adopt_graph(graph: Any) -> None:
    """Turn a stock `gs.Graph` (a body, say) or `gs.Function` and all that is in it into ours."""
    from graphopt.ir.graph import Function, Graph

    own = graph.__dict__
    old = dict(own)
    settings: dict[str, Any] = {
        key: old.get(key) for key in ("name", "doc_string", "opset", "import_domains", "ir_version")
    }
    made: Graph
    if isinstance(graph, gs.Function):
        made = Function(domain=old["domain"], attrs=old["attrs"], **settings)
    else:
        made = Graph(producer_name=old.get("producer_name"), producer_version=old.get("producer_version"), **settings)
    own.clear()
    own.update(made.__dict__)
    graph.__class__ = type(made)
    for owned in ("initializers", "nodes", "outputs"):
        own[owned].owner = graph
    own["_functions"] = [one for one in old["_functions"] if one is not graph]
    own["name_idx"] = old.get("name_idx", 0)
    for tensor in old["inputs"]:
        uses_of(tensor, "inputs")
    own["inputs"].extend(old["inputs"])
    own["nodes"].extend(old["nodes"])
    own["outputs"].extend(old["outputs"])
