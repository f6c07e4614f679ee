"""One edit for code that knows nothing of edits: a whole model takes the place of another one."""

from __future__ import annotations

from graphopt.errors import InternalError
from graphopt.ir.graph import Graph

_OWNED = ("initializers", "nodes", "outputs")


def supplant(graph: Graph, new: Graph) -> None:
    """Let `graph` hold what `new` holds, which is of no use afterwards: nodes, weights, signature, functions,
    metadata. Both are main graphs. Whoever holds `graph` holds the new model; its old nodes are in no graph.

    The journal hears of every name that is gone. Raises InternalError for a body or a function.
    """
    if graph.root is not graph or new.root is not new:
        raise InternalError("only a main graph takes the place of another one")
    gone = _names(graph) - _names(new)
    journal = graph.journal
    for node in graph.nodes.snapshot():
        node.__dict__["graph"] = None
    own = graph.__dict__
    own.clear()
    own.update(new.__dict__)
    own["journal"], own["_names"] = journal, None
    for name in _OWNED:
        own[name].owner = graph
    for node in graph.nodes.snapshot():
        node.__dict__["graph"] = graph
    for constant in graph.initializers.declared():
        constant.__dict__["home"] = graph
    for output in graph.outputs:
        places = output.__dict__["_graph_outputs"]
        places[:] = [graph if one is new else one for one in places]
    for function in own["_functions"]:
        function.__dict__["parent"] = graph
    graph._note("remove", sorted(gone))


def _names(graph: Graph) -> set[str]:
    names = {one.name for one in graph.initializers.declared()}
    return names | {one.name for scope in graph.scopes() for node in scope.nodes for one in node.outputs if one.name}
