"""Load, remove dead nodes, sort, save: the same task in three libraries, for `benchmarks.pairs`."""

from __future__ import annotations

from typing import Any


def graphopt(source: str, target: str) -> dict[str, Any]:
    """With the pass `dead-nodes`."""
    import graphopt
    from graphopt.pipeline.context import Ledger, RunContext
    from passes.eliminate.dead_nodes import DeadNodes

    graph = graphopt.load(source)
    context = RunContext(graph, DeadNodes(), Ledger())
    graph.journal = context
    DeadNodes().run(graph, context)
    context.close()
    graph.journal = None
    graph.toposort()
    graphopt.save(graph, target)
    return {"nodes": len(graph.nodes), "version": graphopt.__version__}


def graphsurgeon(source: str, target: str) -> dict[str, Any]:
    """With `cleanup` and `toposort`."""
    import onnx
    import onnx_graphsurgeon as gs

    graph = gs.import_onnx(onnx.load(source))  # type: ignore[attr-defined]
    graph.cleanup().toposort()
    onnx.save(gs.export_onnx(graph), target)  # type: ignore[attr-defined]
    return {"nodes": len(graph.nodes), "version": gs.__version__}


def onnx_ir(source: str, target: str) -> dict[str, Any]:
    """With the passes of its own."""
    import onnx_ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

    model = onnx_ir.load(source)
    TopologicalSortPass()(model)
    RemoveUnusedNodesPass()(model)
    onnx_ir.save(model, target)
    return {"nodes": len(list(model.graph)), "version": onnx_ir.__version__}
