"""Keep weights as indices into a few values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import ml_dtypes
import numpy as np

from graphopt.analysis.weights import Weight, weights
from graphopt.ir import Graph
from graphopt.ir.dtypes import onnx_dtype
from graphopt.ir.values import Array
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.quantize.candidates import Plan, Wishes, plan
from passes.quantize.codebooks import Codebook, exactly, scaled, shared
from passes.quantize.dequantize import Order, order_of
from passes.quantize.grid import spread, why_no_grid
from passes.quantize.storing import Steps, put

RULE = "share"
_WIDTHS = {2: (25, np.dtype(ml_dtypes.uint2)), 4: (21, np.dtype(ml_dtypes.uint4))}
"""The opset from which on indices of so many bits can be stored and cast."""
_SINGLE = np.dtype(np.float32)


@dataclass(frozen=True)
class WeightCodebook(Pass):
    """Keep a few values for each weight, found by k-means, and for each element the index of one.

    What it does
        Replaces each float weight by a codebook of 2^bits values and an index for each element, read
        through Cast and Gather. The values are the centres of the elements by k-means (Lloyd's
        algorithm, started from evenly spaced values and from the density of the elements, the better of
        the two), so they lie where the elements are: at 4 bits 3 to 4 dB nearer than evenly spaced
        ones with a scale for each channel, and never further away than evenly spaced ones.

        granularity=channel multiplies what is looked up by a scale for each output channel, and fits
        the two to each other by least squares; granularity=tensor has no scales. A weight that holds no
        more than 2^bits values anyway is kept exactly, whatever the granularity. Where as many elements
        are zero as one value takes on average, zero is a value, so that pruned
        weights stay pruned.

        Indices take a byte; 4 bits for bits up to 4 from opset 21 on and 2 bits for bits=2 from opset
        25 on. At older opsets a byte holds two indices of up to 4 bits or four of 2, and the codebook
        has a row of values for each byte, where that is smaller.

        Which weights is as in weight-int8, at any opset; tables of Gather too.

    Example
        weight-codebook{bits=4}
        before: y = Conv(x, w)                                            w: float[64,32,3,3]
        after:  i = Cast<to=int32>(w_indices)   v = Gather(w_codebook, i)   w_indices: uint4[64,32,3,3]
                u = Mul(v, w_scale)  y = Conv(x, u)                       w_codebook: float[16]

    When not
        Runtimes look constants up once, at load (measured: onnxruntime, in bodies too), so the model is
        as fast and takes as much memory as with floats. Where a runtime has kernels for integer weights,
        weight-int4 and weight-int8 are for those. With 8 bits and outliers in few channels,
        granularity=tensor is worse than weight-int8. Left, with the reason: as in weight-int8.

    Contract
        LOSSY: needs a budget. Each element becomes the value of the codebook (times its scale) that is
        nearest to it. Time: sorting up to 2^18 elements of a weight twice; about 0.5 s for
        a million elements.

    Source
        Han, Mao, Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained
        Quantization and Huffman Coding", ICLR 2016. Lloyd, "Least squares quantization in PCM", 1982.
        Panter, Dite, "Quantization distortion in pulse-count modulation with nonuniform spacing of
        levels", 1951. ONNX operators Gather, Cast.
    """

    name = "weight-codebook"
    contract = Contract.LOSSY

    bits: Literal[2, 3, 4, 5, 6, 7, 8] = option(4, "bits of an index: the codebook has 2^bits values")
    granularity: Literal["channel", "tensor"] = option("channel", "a scale for each output channel, or none")
    min_elements: int = option(1024, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")

    def run(self, graph: Graph, ctx: Context) -> None:
        wishes = Wishes(self.min_elements, self.skip, self.bits, self.granularity == "channel", form="table")
        order = order_of(graph)
        shapes = ctx.shapes
        plans = [(weight, plan(weight, wishes, shapes)) for weight in weights(graph)]
        for weight, planned in plans:
            why = self._share(planned, ctx, order) if isinstance(planned, Plan) else planned
            weight.constant.forget()
            if why is not None:
                ctx.missed(RULE, weight.subject, why)

    def _share(self, planned: Plan, ctx: Context, order: Order) -> str | None:
        weight = planned.weight
        values = weight.constant.values
        why = why_no_grid(spread(values, None), planned.dtype)
        if why is not None:
            return why
        book = exactly(values, self.bits)
        if book is None:
            book = shared(values, self.bits) if planned.axis is None else scaled(values, self.bits, planned.axis)
        layout = _layout(weight, book, self.bits)
        now, then = weight.constant.nbytes, layout.nbytes(weight)
        if then >= now:
            return f"it would not be smaller: {now} bytes now, about {then} with a codebook"
        detail = f"{book.values.size} values" + (", exactly its own" if book.exact else "")
        if book.scale is not None:
            detail += f", {book.scale.size} scales along axis {planned.axis}"
        elif planned.note and not book.exact:
            detail += f": {planned.note}"
        if ctx.rewrite(RULE, weight.subject, detail + layout.note):
            _write(planned, book, layout, order)
        return None


@dataclass(frozen=True)
class _Layout:
    """How indices are stored: `indices` as they go into the file, and a `table` that is looked up with
    them, which has a row for each of a byte of several indices or a value for each index."""

    indices: Array
    table: Array
    width: int
    note: str = ""

    def nbytes(self, weight: Weight) -> int:
        """About how many bytes it takes, with the nodes, and a scale for each row at most."""
        nodes = 6 * (len(weight.tensor.name.encode()) + 40)
        return self.indices.size * self.width // 8 + self.table.nbytes + nodes


def _layout(weight: Weight, book: Codebook, bits: int) -> _Layout:
    opset, count = weight.home.opset_of(), book.values.size
    for width, (least, dtype) in _WIDTHS.items():
        if bits > width or count > 1 << width:
            continue
        if opset >= least:
            return _Layout(book.indices.astype(dtype), book.values, width)
        each = 8 // width
        if (
            width == (2 if bits == 2 else 4)
            and book.indices.size % each == 0
            and 256 * each * 4 < book.indices.size // 4
        ):
            return _rows(book, width)
    return _Layout(book.indices, book.values, 8, ", a byte for each index" if bits < 8 else "")


def _rows(book: Codebook, width: int) -> _Layout:
    """Several indices to a byte, the first in the lowest bits, and a table of what each byte stands for."""
    each = 8 // width
    parts = book.indices.reshape(-1, each)
    packed = np.zeros(len(parts), np.uint8)
    values = np.zeros(1 << width, np.float32)
    values[: book.values.size] = book.values
    table = np.empty((256, each), np.float32)
    for place in range(each):
        packed |= parts[:, place] << np.uint8(place * width)
        table[:, place] = values[np.arange(256) >> place * width & (1 << width) - 1]
    return _Layout(packed, table, 8, f", {each} indices in a byte")


def _write(planned: Plan, book: Codebook, layout: _Layout, order: Order) -> None:
    weight, dtype = planned.weight, planned.dtype
    home, name = weight.home, weight.tensor.name
    steps = Steps(home, name)
    indices = home.constant(layout.indices, f"{name}_indices")
    whole = steps.add("Cast", [indices], {"to": onnx_dtype(np.int32)})
    plain = book.scale is None
    table = layout.table.astype(dtype) if plain else layout.table
    found = steps.add("Gather", [home.constant(table, f"{name}_codebook"), whole])
    if layout.table.ndim == 2:
        shape = np.array([int(size) for size in weight.constant.shape], np.int64)
        found = steps.add("Reshape", [found, home.constant(shape, f"{name}_shape")])
    if book.scale is not None:
        found = steps.add("Mul", [found, home.constant(book.scale, f"{name}_scale")])
        if dtype != _SINGLE:
            steps.add("Cast", [found], {"to": onnx_dtype(dtype)})
    put(weight, steps.nodes, order)
