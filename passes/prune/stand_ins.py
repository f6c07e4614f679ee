"""What stands for a part of a graph that goes: what it was given, or little that is computed from that.

The closest offset, the closest factor and offset of each channel, and the closest matrix, by least squares over the
calibration feeds, towards what the part gave in the model as it was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.changes import Affine, Replacement
from graphopt.analysis.layer_fit import Distance, LayerFit, Sums
from graphopt.analysis.layer_inputs import Points, Vectors
from graphopt.analysis.least_squares import fitted
from graphopt.analysis.shapes import Shapes
from graphopt.ir import Node, Tensor, Variable
from graphopt.ir.dtypes import np_dtype
from graphopt.pipeline.protocol import Context
from passes.prune.spans import Span

Array = np.ndarray[Any, Any]
Form = Literal["nothing", "mean", "scale", "linear"]

NAMES: dict[Form, str] = {
    "nothing": "nothing",
    "mean": "its mean",
    "scale": "a factor and an offset for each channel",
    "linear": "a linear layer",
}

_MOST_NAMES = 12  # of values that one may stand for, the nearest by provenance come first
_WIDEST = 4096  # channels whose products are summed
_BROADCASTS = 7  # the opset from which on Add and Mul broadcast


@dataclass(frozen=True, eq=False)
class StandIn:
    """One of the forms for one span: `value` is what would be read in place of its end."""

    span: Span
    form: Form
    value: Replacement
    macs: int = 0

    def write(self) -> Tensor:
        """Add the nodes that compute it in front of the span's end; what they give."""
        graph, value = self.span.graph, self.value
        if not isinstance(value, Affine):
            assert not isinstance(value, np.ndarray)
            return value
        stem, made = self.span.end.name or "block", value.of
        convolved = value.kernel is not None and value.kernel.ndim > 2
        steps = [("Conv" if convolved else "MatMul", value.kernel), ("Mul", value.factors), ("Add", value.offset)]
        for op, array in steps:
            if array is None or (op == "Add" and convolved):
                continue
            inputs = [made, graph.constant(array, f"{stem}_{op}")]
            if op == "Conv" and value.offset is not None:
                inputs.append(graph.constant(value.offset.reshape(-1), f"{stem}_bias"))
            node = Node(op, graph.fresh_name(f"{stem}_{op}"), {}, inputs, [graph.variable(f"{stem}_kept")])
            made = graph.insert(node, before=self.span.subject).outputs[0]
        return made


def stand_ins(
    spans: Sequence[Span], forms: Sequence[Sequence[Form]], rows: int, damping: float, ctx: Context
) -> list[StandIn]:
    """For each span, of each of several lists of forms the first that it can have."""
    fitting = any(form != "nothing" for several in forms for form in several)
    targets = _targets([span for span in spans if fitting and _can_be_fitted(span, ctx.shapes)], ctx)
    asked = {
        span: Observation((span.start, target), LayerFit(_rows_of(span, ctx.shapes), rows, _kept(span, target)))
        for span, target in targets.items()
    }
    refused = ctx.calibration.observe(list(asked.values())).refused if asked else {}
    found = list[StandIn]()
    for span in spans:
        question = asked.get(span)
        seen = None if question is None or question in refused else question.accumulator
        fit = seen if isinstance(seen, LayerFit) and seen.trouble is None else None
        for several in forms:
            made = (_made(span, form, fit, damping, ctx.shapes) for form in several)
            found += [one for one in made if one is not None][:1]
    return found


def _can_be_fitted(span: Span, shapes: Shapes) -> bool:
    dims = shapes.dims(span.start)
    if not dims or len(dims) < 2 or span.graph.opset_of() < _BROADCASTS:
        return False
    width = dims[channel_axis(span, len(dims))]
    return isinstance(width, int) and 0 < width <= _WIDEST


def _targets(spans: Sequence[Span], ctx: Context) -> dict[Span, Tensor | Original]:
    """What the end of each span is fitted to: what it was in the model as it was read, else what it is.

    Of several values that it may stand for, the nearest.
    """
    names: dict[Span, tuple[str, ...]] = dict.fromkeys(spans, ())
    for span in spans:
        axis = channel_axis(span, ctx.shapes.rank(span.start) or 0)
        if span.graph is span.graph.root and set(_narrowed(span)) <= {axis}:
            names[span] = ctx.originals(span.end)[:_MOST_NAMES]
    asked = {
        (span, name): Observation((span.end, Original(name)), Distance(_narrowed(span)))
        for span, several in names.items()
        for name in several
        if len(several) > 1
    }
    refused = ctx.calibration.observe(list(asked.values())).refused if asked else {}
    found: dict[Span, Tensor | Original] = {}
    for span, several in names.items():
        shares = dict.fromkeys(several, 0.0)
        for name in several if len(several) > 1 else ():
            seen = asked[span, name].accumulator
            known = isinstance(seen, Distance) and asked[span, name] not in refused
            shares[name] = seen.share if known and isinstance(seen, Distance) else np.inf
        best = min(shares, key=lambda name: shares[name], default=None)
        found[span] = span.end if best is None or not np.isfinite(shares[best]) else Original(best)
    return found


def _narrowed(span: Span) -> Mapping[int, Array]:
    """Which indices of the axes of a span's end are left of the model as it was read."""
    return span.end.kept if isinstance(span.end, Variable) else {}


def _kept(span: Span, target: Tensor | Original) -> Array | None:
    """Which channels of what a span is fitted to count; None for all."""
    return next(iter(_narrowed(span).values()), None) if isinstance(target, Original) else None


def _rows_of(span: Span, shapes: Shapes) -> Points | Vectors:
    rank = shapes.rank(span.start) or 0
    return Points() if rank > 2 and channel_axis(span, rank) == 1 else Vectors()


def channel_axis(span: Span, rank: int) -> int:
    """Which axis holds channels: the second one of what convolutions read, else the last."""
    convolutional = any(node.is_op("Conv", "ConvTranspose") for node in span.nodes)
    return 1 if rank > 3 or (convolutional and rank > 2) else rank - 1


def _made(span: Span, form: Form, seen: LayerFit | None, damping: float, shapes: Shapes) -> StandIn | None:
    """One form for a span, from what was seen of both its ends; None where it cannot be had."""
    if form == "nothing":
        return StandIn(span, form, span.start)
    sums = None if seen is None else seen.whole
    dims = shapes.dims(span.start) or ()
    width = 0 if sums is None else sums.cross.shape[2]
    if seen is None or sums is None or sums.gram.shape[1] != width + 1 or not sums.finite:
        return None
    place = _Place(span, shapes, channel_axis(span, len(dims)), len(dims))
    if form == "mean":
        offset = (sums.cross[0, -1] - sums.gram[0, :-1, -1]) / sums.count
        return StandIn(span, form, Affine(span.start, offset=place.channels(offset)))
    if form == "scale":
        each = fitted(_by_channel(seen), np.ones((width, 1, 1)), np.zeros((width, 1)), True, damping)
        if isinstance(each, str):
            return None
        factors, offset = place.channels(each.weights[:, 0, 0]), place.channels(each.bias[:, 0])
        return StandIn(span, form, Affine(span.start, factors=factors, offset=offset))
    macs = width * width * _positions(dims, place.axis)
    whole = fitted(seen, np.eye(width)[None], np.zeros((1, width)), True, damping) if macs < span.macs else ""
    if isinstance(whole, str):
        return None
    kernel, offset = place.kernel(whole.weights[0]), place.channels(whole.bias[0])
    return StandIn(span, form, Affine(span.start, kernel=kernel, offset=offset), macs)


def _positions(dims: Sequence[object], axis: int) -> int:
    sizes = [dim for at, dim in enumerate(dims) if at != axis and isinstance(dim, int) and dim > 0]
    return int(np.prod(sizes, dtype=np.int64))


@dataclass(frozen=True)
class _Place:
    """How arrays of channels are written for one span."""

    span: Span
    shapes: Shapes
    axis: int
    rank: int

    def channels(self, values: Array) -> Array:
        shape = (-1,) if self.axis == self.rank - 1 else (-1, *[1] * (self.rank - 1 - self.axis))
        return self._typed(values.reshape(shape))

    def kernel(self, matrix: Array) -> Array:
        """Of [inputs, outputs]; for a convolution turned."""
        if self.axis == self.rank - 1:
            return self._typed(matrix)
        return self._typed(matrix.T.reshape(*matrix.T.shape, *[1] * (self.rank - 2)))

    def _typed(self, values: Array) -> Array:
        dtype = np_dtype(self.shapes.onnx_dtype(self.span.start)) or np.dtype(np.float32)
        return np.ascontiguousarray(values).astype(dtype)


def _by_channel(seen: LayerFit) -> LayerFit:
    """The sums of each channel by itself, as a group of its own."""
    made = LayerFit(seen.rows, seen.most)
    made.halves = [None if half is None else _diagonal(half) for half in seen.halves]
    return made


def _diagonal(sums: Sums) -> Sums:
    width = sums.cross.shape[2]
    gram = np.empty((width, 2, 2))
    gram[:, 0, 0] = np.diagonal(sums.gram[0])[:-1]
    gram[:, 0, 1] = gram[:, 1, 0] = sums.gram[0, :-1, -1]
    gram[:, 1, 1] = sums.count
    cross = np.empty((width, 2, 1))
    cross[:, 0, 0] = np.diagonal(sums.cross[0, :-1])
    cross[:, 1, 0] = sums.cross[0, -1]
    return Sums(sums.count, gram, cross, sums.energy.reshape(width, 1))
