"""Load, remove dead nodes, sort, save: graphopt against graphsurgeon and onnx-ir, by graph size.

usage: python -m benchmarks.scale [--sizes 1000,10000,100000] [--rounds 5] [--shape chains|chain]

The model is a row of chains of 50 nodes in which every second node is dead, its nodes in reverse
order (`--shape chain`: one long chain). Each contender reads the file, removes what is dead, sorts,
and writes a file; the facts are the nodes left.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.pairs import race, ratio


def make(path: Path, nodes: int, depth: int) -> None:
    """Chains of `depth` operators, `nodes` in all, in reverse order, every second one dead."""
    from onnx import TensorProto, helper

    made = []
    ends = []
    for index in range(nodes):
        if index % depth == 0:
            live = "x"
        op, attributes = ("LeakyRelu", {"alpha": 0.1}) if index % 3 == 0 else ("Relu", {})
        made.append(helper.make_node(op, [live], [f"t{index}"], name=f"n{index}", **attributes))
        if index % 2 == 0:
            live = f"t{index}"
        if index % depth == depth - 1 or index == nodes - 1:
            ends.append(live)
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8]) for name in ("x", *ends)]
    graph = helper.make_graph(made[::-1], "chains", infos[:1], infos[1:])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


def graphopt_run(source: str, target: str) -> dict[str, Any]:
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
    return {"nodes": len(graph.nodes)}


def graphsurgeon_run(source: str, target: str) -> dict[str, Any]:
    import onnx
    import onnx_graphsurgeon as gs

    graph = gs.import_onnx(onnx.load(source))
    graph.cleanup().toposort()
    onnx.save(gs.export_onnx(graph), target)
    return {"nodes": len(graph.nodes)}


def onnx_ir_run(source: str, target: str) -> dict[str, Any]:
    import onnx_ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

    model = onnx_ir.load(source)
    TopologicalSortPass()(model)
    RemoveUnusedNodesPass()(model)
    onnx_ir.save(model, target)
    return {"nodes": len(list(model.graph))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shape", choices=("chains", "chain"), default="chains")
    arguments = parser.parse_args()
    targets = ["graphopt", "graphsurgeon"] + (["onnx_ir"] if importlib.util.find_spec("onnx_ir") else [])
    names = [f"benchmarks.scale:{name}_run" for name in targets]
    print(f"{'nodes':>8} {'contender':<14} {'CPU s':>8} {'left':>7} {'graphopt / it':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for size in (int(text) for text in arguments.sizes.split(",")):
            source, target = Path(folder) / f"{size}.onnx", Path(folder) / "out.onnx"
            make(source, size, 50 if arguments.shape == "chains" else size)
            found = race(names, [str(source), str(target)], arguments.rounds)
            ours = found[names[0]]
            for target_name, short in zip(names, targets, strict=True):
                runs = found[target_name]
                if runs.error is not None:
                    print(f"{size:>8} {short:<14} {runs.error}")
                    continue
                against = "" if runs is ours or ours.error else f"{ratio(ours, runs):>14.2f}"
                print(f"{size:>8} {short:<14} {runs.median:>8.3f} {runs.facts['nodes']:>7} {against}")


if __name__ == "__main__":
    main()
