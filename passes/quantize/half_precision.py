"""Compute in 16 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from graphopt.analysis.activations import Extremes, Observation
from graphopt.analysis.constants import constant_of
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.half_islands import HEAVY, islands
from passes.quantize.half_slots import Slots, slots
from passes.quantize.half_writing import Writer

RULE = "halve"
_FLOAT = 1
_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}

# What sums squares or exponentials inside: its result may fit where what it computes on the way does not.
_INSIDE = ("CumSum", "InstanceNormalization", "LpNormalization", "LpPool", "LRN", "ReduceL2", "ReduceLogSumExp",
           "ReduceProd", "ReduceSumSquare", "LayerNormalization", "GroupNormalization", "RMSNormalization",
           "MeanVarianceNormalization", "BatchNormalization", "Range", "RandomNormalLike", "RandomUniformLike",
           "Dropout", "Bernoulli", "Multinomial")  # fmt: skip


@dataclass(frozen=True)
class HalfPrecision(Pass):
    """Compute in float16 or bfloat16 where the numbers fit, in float32 where they do not.

    What it does
        Lets operators read, compute and make 16-bit numbers, with their weights stored as such, and puts
        a Cast where a 16-bit value meets an operator that stays in float32. Inputs and outputs of the model,
        and of the bodies of If, Loop and Scan, keep their types; nodes inside bodies are changed like others.

        A node stays in float32, with the reason, when the schema of its operator does not allow the type, when
        the option keep names it or its operator, when it is one that sums squares or exponentials inside
        (normalizations, ReduceL2 ...), when a weight of it does not fit, or when one of its values came within
        the factor `headroom` of the largest number of the type on the calibration feeds, or was not seen there
        (unless unobserved=convert). So does an island of nodes without a MatMul, Conv or the like in it: casts
        to and from it would cost more than it saves.

    Example
        before: h = MatMul(x, w)  y = Relu(h)
        after:  x_float16 = Cast<to=FLOAT16>(x)  h_float16 = MatMul(x_float16, w_float16)
                y_float16 = Relu(h_float16)  y = Cast<to=FLOAT>(y_float16)

    When not
        On hardware that has no 16-bit arithmetic: runtimes then cast everything back, and weight-half gives
        the same file without the risk. Processors run it no faster in onnxruntime (measured: the same time).
        bfloat16 is not implemented for most operators on processors, so that such a model may not be
        validated there. Functions of the model are left alone: their types depend on who calls them.

    Contract
        LOSSY: needs a budget. float16 rounds to 2^-11 of each number, bfloat16 to 2^-8. Cost: one run of the
        model over the calibration feeds.

    Source
        Micikevicius et al., "Mixed Precision Training", ICLR 2018. ONNX operators' schemas; operator Cast.
    """

    name = "half-precision"
    contract = Contract.LOSSY
    calibrates = True

    to: Literal["float16", "bfloat16"] = option("float16", "the type to compute in")
    keep: tuple[str, ...] = option((), "patterns of operators, nodes and values that stay in float32")
    headroom: float = option(2.0, "how far below the largest number of the type the values seen have to stay")
    unobserved: Literal["keep", "convert"] = option("keep", "what to do with values that calibration does not see")

    def __post_init__(self) -> None:
        if not self.headroom >= 1:
            raise ValueError(f"headroom must be at least 1, and {self.headroom:g} is not")

    def run(self, graph: Graph, ctx: Context) -> None:
        shapes = ctx.shapes
        found = dict[Node, Slots]()
        opsets = {}
        for scope in graph.root.graphs():
            for node in scope.nodes:
                read = tuple(i for i, one in enumerate(node.inputs) if one.name and shapes.onnx_dtype(one) == _FLOAT)
                made = tuple(i for i, one in enumerate(node.outputs) if one.name and shapes.onnx_dtype(one) == _FLOAT)
                if not read or node.is_op("Constant"):
                    continue
                opsets[node] = scope.opset_of()
                found[node] = self._slots(node, scope.opset_of(), (read, made))
        ranges = self._ranges(ctx, (node for node, one in found.items() if one.why_not is None))
        chosen = dict[Node, Slots]()
        for node, one in found.items():
            why = one.why_not or self._too_large(node, one, ranges)
            if why is None:
                chosen[node] = one
            else:
                ctx.missed(RULE, node, why)
        for node in islands(chosen):
            ctx.missed(RULE, node, f"no {', '.join(HEAVY[:3])} or the like is beside it that becomes {self.to} too")
            del chosen[node]
        writer = Writer(graph, self.to)
        for node, one in chosen.items():
            if ctx.rewrite(RULE, node, self.to):
                writer.halve(node, one)

    def _slots(self, node: Node, opset: int, floats: tuple[tuple[int, ...], tuple[int, ...]]) -> Slots:
        names = (node.op, node.label, *(one.name for one in (*node.inputs, *node.outputs)))
        pattern = next((p for p in self.keep if any(fnmatchcase(name, p) for name in names)), None)
        if pattern is not None:
            return Slots(why_not=f"keep has {pattern!r}")
        if node.bodies:
            return Slots(why_not=f"the bodies of {node.op} keep their types")
        if node.is_op(*_INSIDE):
            return Slots(why_not=f"{node.op} may leave the range of {self.to} inside")
        return slots(node, opset, self.to, floats)

    def _ranges(self, ctx: Context, nodes: Iterable[Node]) -> Mapping[Tensor, Extremes | str]:
        """What calibration saw of every value that may change, or why it did not."""
        values = dict.fromkeys(one for node in nodes for one in (*node.inputs, *node.outputs) if one.name)
        seen: dict[Tensor, Extremes | str] = {}
        asked = []
        shapes = ctx.shapes
        for value in values:
            constant = constant_of(value)
            if shapes.onnx_dtype(value) != _FLOAT:
                continue
            if constant is not None:
                extremes = Extremes()
                extremes.update(constant.values)
                constant.forget()
                seen[value] = extremes
            else:
                asked.append(Observation((value,), Extremes()))
        if self.unobserved == "convert" and ctx.calibration.why_not is not None:
            return seen
        answer = ctx.calibration.observe(asked)
        for one in asked:
            (value,) = one.values
            assert isinstance(value, Tensor) and isinstance(one.accumulator, Extremes)
            seen[value] = answer.refused.get(one, one.accumulator)
        return seen

    def _too_large(self, node: Node, found: Slots, ranges: Mapping[Tensor, Extremes | str]) -> str | None:
        most = _LARGEST[self.to]
        values = [node.inputs[slot] for slot in found.inputs] + [node.outputs[slot] for slot in found.outputs]
        for value in values:
            seen = ranges.get(value)
            if seen is None:
                continue
            if isinstance(seen, str):
                if self.unobserved == "convert":
                    continue
                return f"the range of {value.name!r} was not seen: {seen}"
            peak = float(np.maximum(np.abs(seen.low), np.abs(seen.high)))
            if constant_of(value) is not None:
                if not seen.finite or peak > most:
                    return f"{value.name!r} has values that {self.to} cannot hold"
            elif np.isfinite(peak) and peak * self.headroom > most:
                return f"{value.name!r} reached {peak:.3g}, too near {most:.5g}, the most {self.to} can hold"
        return None
