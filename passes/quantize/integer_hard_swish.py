"""Compute HardSwish between integers in integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.matching import only_reader
from graphopt.ir import Graph, Node, Tensor, Variable
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.names import matching
from passes.quantize.regrid import (
    Pair,
    Regridder,
    codes_behind,
    drop_unread,
    graph_of,
    only_dequantized,
    only_quantized,
    pair_of,
)

RULE = "hard-swish"

_CLIP = 12  # the opset in which Clip took integers
_THIRD = 1e-4  # by how much alpha may differ from 1/6


@dataclass(frozen=True, eq=False)
class _Swish:
    """x * HardSigmoid(x) of codes: `nodes` compute it of what `read` made of them.

    `made` is the result; `quantized` says whether all that reads it makes codes of it again.
    """

    nodes: tuple[Node, ...]
    read: Node
    made: Tensor
    quantized: bool


@dataclass(frozen=True)
class IntegerHardSwish(Pass):
    """Compute HardSwish between quantized values with a Clip and a Mul of integers.

    What it does
        Runtimes that compute Conv in integers have no integer kernel for HardSwish: codes are made
        floats before it and codes again behind it. This puts x * clip(x / 6 + 1/2, 0, 1) together from
        operators that do have one. The grid of x is moved so that its first code stands for -3 and
        3 is n steps above zero, n whole. Nothing below -3 matters, where HardSwish is 0, so
        the codes that were spent there make the steps finer. Then codes limited to 2n, read with the step
        s / 6 and zero at the first code, are x / 6 + 1/2 limited to 0 and 1, and the product of both
        readings is HardSwish(x). Also for HardSigmoid (alpha 1/6, beta 1/2) times its input. Where the
        result is read as floats, only the grid of x changes.

        The result is off by at most 3/4 of a step of x, HardSwish being 3/2 at its steepest, and half a step
        of its own.

    Example
        before: y = QuantizeLinear(HardSwish(DequantizeLinear(q, s, z)), sy, zy)
        after:  c = Clip(q, max=2n)                          q: made with s = 3 / n and zero point n
                y = QuantizeLinear(Mul(DequantizeLinear(q, s, n), DequantizeLinear(c, s / 6, 0)), sy, zy)

    When not
        Behind static-int8 for onnxruntime, which computes the Clip and the Mul in integers; other
        runtimes may know HardSwish itself. Left, with the reason: values that something else than
        HardSwish reads, opsets before 12. Codes of 16 bits are left without a word.

    Contract
        LOSSY: needs a budget. As above; the step of x is at most that of a grid over -3 to the
        largest x, and usually smaller than before.

    Source
        Howard et al., "Searching for MobileNetV3", ICCV 2019, section 5.2, on HardSwish and why it suits
        integers. ONNX operators HardSwish (14, 22) and Clip (12, 13).
    """

    name = "integer-hard-swish"
    contract = Contract.LOSSY
    grows = True

    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")

    def run(self, graph: Graph, ctx: Context) -> None:
        grids = Regridder()
        for scope in graph.scopes():
            for node in list(scope.nodes):
                if node.graph is None or not node.is_op("HardSwish", "HardSigmoid"):
                    continue
                found = _swish(node)
                if isinstance(found, _Swish):
                    pattern = matching((*found.nodes,), self.skip)
                    found = f"skip has {pattern!r}" if pattern is not None else found
                wanted = _grid(found) if isinstance(found, _Swish) else found
                if isinstance(wanted, Pair) and isinstance(found, _Swish):
                    text = f"in steps of 3/{wanted.zero - wanted.first}"
                    if not found.quantized:
                        text += f"; {found.made.name!r} stays floating point, as it is not only read as integers"
                    if ctx.rewrite(RULE, node, text):
                        _write(found, wanted, grids)
                elif isinstance(wanted, str):
                    ctx.missed(RULE, node, wanted)


def _swish(node: Node) -> _Swish | str | None:
    """The HardSwish that `node` computes, or begins to; None where there is nothing quantized about it."""
    read = codes_behind(node.inputs[0])
    if read is None:
        return None
    nodes: tuple[Node, ...] = (node,)
    made = node.outputs[0]
    if node.is_op("HardSigmoid"):
        times = only_reader(made)
        if times is None or not times.is_op("Mul") or node.inputs[0] not in times.inputs:
            return None
        if abs(float(node.attrs.get("alpha", 0.2)) - 1 / 6) > _THIRD or float(node.attrs.get("beta", 0.5)) != 0.5:
            return "its alpha is not 1/6 or its beta not 1/2"
        nodes, made = (node, times), times.outputs[0]
    if any(reader not in nodes for reader in node.inputs[0].readers) or node.inputs[0].graph_outputs:
        return f"{node.inputs[0].name!r}, which it reads, is read by something else, too"
    return _Swish(nodes, read, made, only_quantized(made) is not None)


def _grid(found: _Swish) -> Pair | str:
    """The grid on which its input is made, or a clause that says why there is none."""
    codes = found.read.inputs[0]
    maker = codes.inputs[0] if len(codes.inputs) == 1 else None
    if maker is None or not maker.is_op("QuantizeLinear") or pair_of(maker) is None:
        return f"{codes.name!r}, the codes that it reads, are not made by QuantizeLinear with one scale"
    if only_dequantized(codes) != [found.read]:
        return f"{codes.name!r}, the codes that it reads, are read by something else, too"
    now, read = pair_of(maker), pair_of(found.read)
    if now != read or now is None:
        return f"{codes.name!r} are written on another grid than they are read on"
    graph = graph_of(found.read)
    if graph.opset_of() < _CLIP:
        advice = f"raise it with opset{{to={_CLIP}}} first"
        return f"Clip of integers needs opset {_CLIP} and the model has {graph.opset_of()}: {advice}"
    span = now.last - now.first
    steps = int(span * 3 / (3 + now.high) + 1e-6)  # down, so that the largest x still has a code
    if steps < 1:
        return f"it is computed for values of up to {now.high:.3g}, and 3 would be less than a step"
    return Pair(float(np.float32(3 / steps)), now.first + steps, now.code)


def _write(found: _Swish, pair: Pair, grids: Regridder) -> None:
    graph = graph_of(found.read)
    value, codes = found.read.outputs[0], found.read.inputs[0]
    last = found.nodes[-1]
    grids.put(codes.inputs[0], pair, codes.name)
    grids.put(found.read, pair, codes.name)
    if not found.quantized:
        return
    stem = found.made.name
    limited, top = codes, 2 * (pair.zero - pair.first) + pair.first
    if top < pair.last:
        limited = graph.variable(f"{codes.name}_limited", pair.code)
        bound = grids.constant(graph, np.asarray(top, pair.code), f"{codes.name}_limit")
        graph.insert(
            Node("Clip", graph.fresh_name(f"{stem}_Clip"), {}, [codes, Variable.empty(), bound], [limited]), before=last
        )
    gate = graph.variable(f"{stem}_gate")
    step = grids.constant(graph, np.asarray(pair.scale / 6, np.float32), f"{codes.name}_gate_scale")
    zero = grids.constant(graph, np.asarray(pair.first, pair.code), f"{codes.name}_gate_zero_point")
    name = graph.fresh_name(f"{stem}_DequantizeLinear")
    graph.insert(Node("DequantizeLinear", name, {}, [limited, step, zero], [gate]), before=last)
    product = graph.variable(f"{stem}_product")
    graph.insert(Node("Mul", graph.fresh_name(f"{stem}_Mul"), {}, [value, gate], [product]), before=last)
    graph.replace_uses(found.made, product)
    for node in reversed(found.nodes):
        inputs = list(node.inputs)
        graph.remove(node)
        for one in inputs[1:]:
            drop_unread(one, graph)
