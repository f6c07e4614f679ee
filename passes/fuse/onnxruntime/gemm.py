"""Gemm with the activation function behind it."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.activations import IN_GEMM, Activation, activation
from passes.fuse.onnxruntime.site import Site, single

_SINCE = 7  # before, Gemm said of C whether it is broadcast


@dataclass(frozen=True)
class OrtGemm(Pass):
    """Let Gemm apply the activation function: com.microsoft.FusedGemm.

    What it does
        Precondition: float32; a Gemm (of opset 7 or later) is read by Relu, LeakyRelu, Sigmoid, Tanh, Elu,
        Selu, HardSigmoid, Softplus, Softsign or ThresholdedRelu only, in the same graph. Rewrite: one
        FusedGemm. Main graph and bodies.

    Example
        before: g = Gemm<transB=1>(x, w, b)    y = Relu(g)
        after:  y = com.microsoft.FusedGemm<activation="Relu", transB=1>(x, w, b)

    When not
        Other runtimes than onnxruntime do not know the operator, nor do all of its execution providers: it is
        written for its CPU. Sizes of its result are not known to ONNX's shape inference. The file may grow by
        the domain's import and name.

    Contract
        ROUNDING. The same kernel computes the product, and the function on its result.

    Source
        onnxruntime, "Contrib Operators": com.microsoft.FusedGemm.
    """

    name = "ort-gemm"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        for node in site.nodes():
            found = activation(node, IN_GEMM)
            if found is None:
                continue
            gemm = single(node.inputs[0], node, "Gemm")
            if gemm is None or gemm.graph is None or gemm.graph.opset < _SINCE:
                continue
            if not isinstance(found, Activation):
                ctx.missed("activation", node, found)
            elif not site.is_float(*gemm.inputs, *gemm.outputs):
                ctx.missed("activation", node, "it is not known to be float32, which is all that FusedGemm computes")
            else:
                attrs = {**gemm.attrs, "activation": found.op}
                attrs.update({f"activation_{name}": number for name, number in found.numbers.items()})
                site.fuse("activation", node, [node, gemm], "FusedGemm", gemm.inputs, attrs, name=gemm.name)
