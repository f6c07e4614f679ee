"""Let the grid of a quantized value take up a scalar factor or summand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphopt.analysis.constants import constant_values
from graphopt.analysis.quantized import quantized_weight
from graphopt.ir import Graph, Node, Tensor
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
    why_not_rebias,
)

RULE = "scalar"

_MANY = 8  # steps of a summand from which on the step may grow so that they are whole


@dataclass(frozen=True, eq=False)
class _Step:
    """A node that computes `factor` * x + `summand` of x, which `read` makes of codes; `writers` quantize
    the result, and `readers` make floats of that again."""

    node: Node
    read: Node
    factor: float
    summand: float
    writers: tuple[Node, ...]
    readers: tuple[Node, ...]


@dataclass(frozen=True)
class ScalarsIntoGrids(Pass):
    """Let codes stand for other numbers where they are multiplied by a scalar, or one is added.

    What it does
        Codes q with step s and zero point z stand for s * (q - z). Times a positive scalar c they stand
        for numbers with the step c * s; plus c, for those with the zero point z - c / s. So an
        operator that multiplies by a scalar or adds one between DequantizeLinear and QuantizeLinear
        goes, with that pair, and what read its codes reads those before it on the grid that they now
        are on. Integer biases are written again for their new step.

        c / s is rounded to whole steps. Where it is 8 or more and nothing else reads the codes, the
        step is first made so much larger, by an eighth at most, that c / s is whole.

    Example
        before: q = QuantizeLinear(h, s, z)   x = 0.5 * DequantizeLinear(q, s, z)
                p = QuantizeLinear(x, t, y)   Conv(DequantizeLinear(p, t, y), ...)
        after:  q = QuantizeLinear(h, s, z)   Conv(DequantizeLinear(q, 0.5 * s, z), ...)

    When not
        Left, with the reason: factors that are not positive, results that are read as floats, too, and
        summands that would put the zero point beyond the codes. Clipping that the second
        grid did, as for a Relu that static-int8 took into a range, is kept: then the grid is left.

    Contract
        LOSSY: needs a budget. A factor adds no error, and the one of the second grid goes; a summand is
        off by at most half a step.

    Source
        Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", CVPR 2018, on what scale and zero point mean.
    """

    name = "scalars-into-grids"
    contract = Contract.LOSSY
    grows = True

    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values to leave as they are")

    def run(self, graph: Graph, ctx: Context) -> None:
        grids = Regridder()
        for scope in graph.scopes():
            for node in list(scope.nodes):
                found = _step(node) if node.graph is not None else None
                if isinstance(found, _Step):
                    pattern = matching((node,), self.skip)
                    found = f"skip has {pattern!r}" if pattern is not None else found
                wanted = _grids(found) if isinstance(found, _Step) else found
                if isinstance(wanted, str):
                    ctx.missed(RULE, node, wanted)
                elif wanted is not None and isinstance(found, _Step):
                    text = f"step {wanted[1].scale:.4g}, zero point {wanted[1].zero}"
                    if ctx.rewrite(RULE, node, text):
                        _write(found, *wanted, grids)


def _step(node: Node) -> _Step | str | None:
    """What `node` computes of codes with a scalar; None where it is nothing of that kind."""
    if not node.is_op("Mul", "Add", "Sub", "Div") or len(node.inputs) != 2:
        return None
    slot = next((i for i in (0, 1) if (codes_behind(node.inputs[i])) is not None), None)
    if slot is None:
        return None
    read, c = codes_behind(node.inputs[slot]), _scalar(node.inputs[1 - slot])
    if read is None or c is None or (slot == 1 and node.is_op("Sub", "Div")):
        return None
    if node.is_op("Div") and c == 0:
        return None
    factor = {"Mul": c, "Div": 1 / c if c else 0.0}.get(node.op, 1.0)
    summand = {"Add": c, "Sub": -c}.get(node.op, 0.0)
    writers = only_quantized(node.outputs[0])
    if writers is None:
        return f"{node.outputs[0].name!r}, its result, is not only read as integers"
    readers = list[Node]()
    for one in writers:
        behind = only_dequantized(one.outputs[0])
        if behind is None or pair_of(one) is None:
            return f"{one.outputs[0].name!r}, the codes of its result, are not only read as floats"
        readers += behind
    return _Step(node, read, factor, summand, tuple(writers), tuple(readers))


def _scalar(tensor: Tensor) -> float | None:
    """The one number that a constant holds, as floats or as codes."""
    values = constant_values(tensor)
    if values is None:
        stored = quantized_weight(tensor)
        if stored is None or stored.values.size != 1 or stored.block:
            return None
        zero = 0 if stored.zero is None else int(stored.zero.reshape(()))
        return float((int(stored.values.reshape(())) - zero) * stored.scale.reshape(()))
    return float(values.reshape(())) if values.size == 1 and values.dtype == np.float32 and values.ndim <= 1 else None


def _grids(found: _Step) -> tuple[Pair | None, Pair] | str:
    """The grid that the codes get first (None: the one that they have), and the one that they are read on then;
    or a clause that says why there is none."""
    now = pair_of(found.read)
    assert now is not None
    if not (0 < found.factor < np.inf) or not np.isfinite(found.summand):
        return "it multiplies by a number that is not positive"
    first = None
    if found.summand and abs(found.summand) / now.scale >= _MANY and _is_free(found.read):
        whole = int(abs(found.summand) / now.scale * (1 + 1e-6))
        first = Pair(float(np.float32(abs(found.summand) / whole)), now.zero, now.code)
        now = first
    zero = now.zero - round(found.summand / now.scale)
    if not now.first <= zero <= now.last:
        return f"its zero point would be {zero}, beyond the codes"
    after = Pair(float(np.float32(now.scale * found.factor)), zero, now.code)
    if not 0 < after.scale < np.inf:
        return "its step would not be a positive number"
    for one in found.readers:
        then = pair_of(one)
        if then is None or then.code != now.code:
            return "its result has codes of another type"
        if _clips(after, then):
            return "the grid of its result limits it"
        why = next((why for reader in one.outputs[0].readers if (why := why_not_rebias(reader, after.scale))), None)
        if why is not None:
            return why
    return first, after


def _is_free(read: Node) -> bool:
    """Whether the grid of the codes can change: nothing else reads them, and one QuantizeLinear makes them."""
    codes = read.inputs[0]
    maker = codes.inputs[0] if len(codes.inputs) == 1 else None
    if maker is None or not maker.is_op("QuantizeLinear") or pair_of(maker) != pair_of(read):
        return False
    return only_dequantized(codes) == [read] and len(read.outputs[0].readers) == 1 and not read.outputs[0].graph_outputs


def _clips(after: Pair, then: Pair) -> bool:
    """Whether the second grid ends at zero while the new one goes on: then it stands for a limit such as Relu."""
    low, high = (after.first - after.zero) * after.scale, after.high
    return (then.zero == then.first and low < -after.scale / 2) or (then.zero == then.last and high > after.scale / 2)


def _write(found: _Step, first: Pair | None, after: Pair, grids: Regridder) -> None:
    graph = graph_of(found.node)
    codes = found.read.inputs[0]
    if first is not None:
        grids.put(codes.inputs[0], first, codes.name)
        grids.put(found.read, first, codes.name)
    for one in found.readers:
        graph_of(one).rewire(one, 0, codes)
        grids.put(one, after, codes.name if one.outputs[0].name == "" else found.node.outputs[0].name)
    scalars = [one for one in found.node.inputs if one is not found.read.outputs[0]]
    for one in found.writers:
        parameters = list(one.inputs[1:])
        graph_of(one).remove(one)
        for parameter in parameters:
            drop_unread(parameter, graph)
    graph.remove(found.node)
    for scalar in scalars:
        drop_unread(scalar, graph)
    value = found.read.outputs[0]
    if not value.is_read and not value.graph_outputs:
        parameters = list(found.read.inputs[1:])
        graph.remove(found.read)
        for parameter in parameters:
            drop_unread(parameter, graph)
