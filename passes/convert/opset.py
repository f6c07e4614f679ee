"""Raise the opset version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from graphopt.ir import Graph, Tensor
from graphopt.ir.opsets import carry_out, plan_opset
from graphopt.pipeline.protocol import Context, Contract, Pass, option

_OVERRIDABLE: Final = 4  # the IR version from which on callers may override an initializer that is an input
_SLOWER: Final = (
    "which callers may override from IR version 4 on, so that runtimes take them for constants no more and are"
    " slower: initializers-from-inputs before this takes them off"
)


@dataclass(frozen=True)
class Opset(Pass):
    """Raise the model to a newer opset version.

    What it does:
        Lets the main graph and its bodies follow a newer version of ONNX's operators. An operator
        that means the same at both versions stays as it is; one that does not is converted by
        ONNX's version converter, alone, and what comes back takes its place. Everything else of
        the model, its metadata included, is left untouched. All or nothing: when one node cannot
        be converted, none is, and the remarks name it.

    Example:
        `opset{to=13},weight-int8` on a model of opset 11: Squeeze gets its axes as an input, and
        weights can be quantized per channel, which needs DequantizeLinear of opset 13.

    When not:
        A runtime that is older than the version. Functions of the model import versions of their
        own and are not raised. There is no way down. A model of IR version 3 lists its weights as inputs,
        and newer IR versions let callers override such: runtimes take them for constants no more, and may be
        much slower. A remark says so; put `initializers-from-inputs` first where nobody gives them.

    Contract:
        ROUNDING. Converted operators compute the same function; some become several nodes. The
        opset import changes, which is part of the signature; nothing else of it does. The file may
        grow by a few bytes, where an attribute became an input.

    Source:
        ONNX, "ONNX Version Converter" and the operator change log (docs/Changelog.md).
    """

    name = "opset"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    to: int = option(21, "the version of the default operator domain to raise to")

    def __post_init__(self) -> None:
        if not 1 <= self.to <= 100:
            raise ValueError(f"to must be a version such as 21, not {self.to}")

    def run(self, graph: Graph, ctx: Context) -> None:
        if graph.opset >= self.to:
            return
        subject = next(iter(graph.nodes), None)
        if subject is None:
            return
        shapes = ctx.shapes

        def facts(tensor: Tensor) -> tuple[int, tuple[int | str | None, ...] | None]:
            return shapes.onnx_dtype(tensor), shapes.shape(tensor)

        before = graph.root.ir_version or 0
        plan = plan_opset(graph, self.to, facts)
        for node, why in plan.refused.items():
            ctx.missed("raise", node, why)
        if not plan.refused and ctx.rewrite("raise", subject, f"opset {graph.opset} to {self.to}"):
            carry_out(graph, plan)
            if 0 < before < _OVERRIDABLE <= (graph.root.ir_version or 0) and graph.defaults:
                ctx.missed("raise", subject, f"{len(graph.defaults)} weights are inputs, {_SLOWER}")
