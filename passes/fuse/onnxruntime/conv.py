"""Conv with what is added to it and the activation function behind it."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.analysis.matching import only_reader, operand
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass
from passes.fuse.onnxruntime.activations import IN_CONV, Activation, activation
from passes.fuse.onnxruntime.site import Site, single


@dataclass(frozen=True)
class OrtConv(Pass):
    """Let Conv add a residual and apply the activation function: com.microsoft.FusedConv.

    What it does
        Precondition: float32; a Conv is read by Relu, LeakyRelu, Sigmoid, Tanh, HardSigmoid or a Clip
        with constant bounds only, or by an Add of a value of the very same shape, whose sum may be
        read by such a function only; all in one graph. Rewrite: one FusedConv. Main graph and bodies.

    Example
        before: c = Conv<pads=[1, 1, 1, 1]>(x, w, b)    s = Add(c, z)    y = Relu(s)
        after:  y = com.microsoft.FusedConv<activation="Relu", pads=[1, 1, 1, 1]>(x, w, b, z)

    When not
        Other runtimes than onnxruntime do not know the operator, nor do all of its execution providers: it is
        written for its CPU. Sizes of its result are not known to ONNX's shape inference. The file may grow by
        the domain's import and name.

    Contract
        ROUNDING. The same kernel computes the convolution, and the function on its result.

    Source
        onnxruntime, "Contrib Operators": com.microsoft.FusedConv.
    """

    name = "ort-conv"
    contract = Contract.ROUNDING
    changes = ("opsets",)
    grows = True

    def run(self, graph: Graph, ctx: Context) -> None:
        site = Site(graph, ctx)
        for node in site.nodes():
            if node.is_op("Add"):
                _sum(site, node)
            else:
                _function(site, node)


def _function(site: Site, node: Node) -> None:
    """A function of a Conv, or of a sum with one."""
    if not node.is_op(*IN_CONV) or not node.inputs:
        return
    value = node.inputs[0]
    conv, add = single(value, node, "Conv"), single(value, node, "Add")
    if conv is None and add is None:
        return
    found = activation(node, IN_CONV)
    if not isinstance(found, Activation):
        if found is not None:
            site.ctx.missed("activation", node, found)
        return
    if conv is not None:
        _fuse(site, "activation", node, [node, conv], conv, found, None)
    elif add is not None and (pair := _addend(site, add, node)) is not None:
        _fuse(site, "add-activation", node, [node, add, pair[0]], pair[0], found, pair[1])


def _sum(site: Site, add: Node) -> None:
    """A sum with a Conv that no function is applied to alone."""
    reader = only_reader(add.outputs[0])
    if reader is not None and reader.graph is add.graph and isinstance(activation(reader, IN_CONV), Activation):
        return
    pair = _addend(site, add, add)
    if pair is not None:
        _fuse(site, "add", add, [add, pair[0]], pair[0], None, pair[1])


def _addend(site: Site, add: Node, root: Node) -> tuple[Node, Tensor] | None:
    """The Conv that is only there for this sum, and what is added to it."""
    if len(add.inputs) != 2:
        return None
    for value, other in (add.inputs, add.inputs[::-1]):
        conv = single(value, add, "Conv")
        if conv is None:
            continue
        dims = site.shapes.dims(value)
        if dims is None or dims != site.shapes.dims(other):
            site.ctx.missed("add", root, f"{other.name!r} is not known to have the shape of {value.name!r}")
            continue
        return conv, other
    return None


def _fuse(
    site: Site, rule: str, root: Node, nodes: list[Node], conv: Node, found: Activation | None, addend: Tensor | None
) -> None:
    if not site.is_float(*conv.inputs, *conv.outputs):
        site.ctx.missed(rule, root, "it is not known to be float32, which is all that FusedConv has a kernel for")
        return
    attrs = dict(conv.attrs)
    if found is not None:
        attrs["activation"] = found.op
        if found.numbers:
            attrs["activation_params"] = list(found.numbers.values())
    inputs = [operand(conv, 0), operand(conv, 1), operand(conv, 2), addend]
    while inputs[-1] is None:
        inputs.pop()
    site.fuse(rule, root, nodes, "FusedConv", inputs, attrs, name=conv.name)
