"""Texts that no runtime reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from graphopt.ir import Graph, Node, Tensor
from graphopt.ir.strip import DOCS, METADATA, Change, node_names, texts, value_infos, value_names
from graphopt.pipeline.protocol import Context, Contract, Pass, option


@dataclass(frozen=True)
class Strip(Pass):
    """Take doc strings, and on request metadata, declared shapes and names, off a model.

    What it does
        Precondition: something in the model has one. Rewrite, each once for the whole model: `docs`
        takes off the doc strings of the model, its graphs, functions, nodes, attributes, values and
        tensors; `metadata` all their metadata entries; `value_info` what is declared of values
        between inputs and outputs; `names` the names of nodes; `values` gives what lies between inputs
        and outputs, weights too, short names in place of long ones.

    Example
        before: y = Relu(x)    doc: 'model.py, line 12'
        after:  y = Relu(x)

    When not
        What is said of the model's inputs and outputs is part of its signature and stays. Some programs
        read the metadata of a model (class names, image sizes, licences), tell nodes by name, or show doc
        strings: only doc strings go unless more is asked for. Without their names values cannot be found
        again in the program that a model was exported from, so let this be the last pass of a pipeline.
        Names of inputs and outputs, of bodies and functions too, stay.

    Contract
        EXACT. No operator reads any of this.

    Source
        ONNX IR specification, `doc_string`, `metadata_props` and `value_info`.
    """

    name = "strip"
    contract = Contract.EXACT

    docs: bool = option(True, "doc strings")
    metadata: bool = option(False, "metadata entries")
    value_info: bool = option(False, "declared types and shapes of intermediate values")
    names: bool = option(False, "names of nodes")
    values: bool = option(
        False, "long names of values that are neither inputs nor outputs; short ones take their place"
    )

    def run(self, graph: Graph, ctx: Context) -> None:
        subject = _subject(graph)
        if subject is None:
            return
        if self.docs:
            _carry_out("docs", texts(graph, DOCS), subject, ctx)
        if self.metadata:
            _carry_out("metadata", texts(graph, METADATA), subject, ctx)
        if self.value_info:
            _carry_out("value-info", value_infos(graph), subject, ctx)
        if self.names:
            _carry_out("names", node_names(graph), subject, ctx)
        if self.values:
            _carry_out("values", value_names(graph), subject, ctx)


def _carry_out(rule: str, changes: Iterator[Change], subject: Node | Tensor, ctx: Context) -> None:
    found = list(changes)
    if not found or not ctx.rewrite(rule, subject, f"in {len(found)} places"):
        return
    for change in found:
        change()


def _subject(graph: Graph) -> Node | Tensor | None:
    """What remarks name: a node where there is one."""
    node = next((one for scope in graph.scopes() for one in scope.nodes), None)
    return node if node is not None else next(iter((*graph.outputs, *graph.inputs)), None)
