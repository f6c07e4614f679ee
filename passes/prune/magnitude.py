"""Set the smallest weights to zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphopt.analysis.weights import Weight, weights
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.prune import groups, storing
from passes.prune.candidates import DOUBLE, Wishes, channel_axis, dtype_of, input_axis, is_bystander, why_not
from passes.prune.groups import Blocks
from passes.prune.magnitudes import Array, cut, has_nan, share, zeroed

RULE = "prune"

Mask = Callable[[int, Array], Array]
"""Which elements of weight number i, whose values are given, become zero."""


@dataclass(frozen=True)
class Magnitude(Pass):
    """Set the weights of smallest magnitude to zero.

    What it does
        Of the weights of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN, whether initializers
        or Constant nodes, in bodies and functions, the `sparsity` share that is smallest in
        magnitude becomes zero: exactly sparsity * elements of them, to the nearest, half up.
        Elements that are zero already count. Equal magnitudes go in the order of the model's
        tensors and of the elements in them.

        scope=global looks for the smallest of all weights together, so that some tensors lose more
        than others; scope=layer takes the share of each tensor. A tensor that several operators
        read counts once.

        pattern=N:M, such as 2:4, keeps the N largest of every M neighbours along the axis that the
        operator sums over (input channels of Conv, K of Gemm and MatMul), for hardware that skips
        the others; the pattern itself says how many zeros there are.

        pattern=RxC, such as 4x1 or 16x1, takes blocks of R neighbouring outputs and C neighbouring inputs (of
        a convolution: channels under one place of its kernel) out as a whole, those of the smallest sum of squares:
        exactly sparsity * blocks of them.

        storage=sparse writes what has become sparse enough as index and value (a Constant node with
        a `sparse_value`), where that takes fewer bytes: beyond two thirds of zeros in float32.

    Example
        magnitude{sparsity=0.5 scope=layer}
        before: w = 0.1 -0.5 0.3 0.0            after: w = 0.0 -0.5 0.3 0.0

    When not
        Left, with the reason: weights that callers may override, that are graph outputs, or that
        something else reads too; biases; integers; weights with a NaN; tensors below min-elements.
        Tables of Gather are left unless embeddings=true: their rows are not summed, and rare rows
        are not unimportant. N:M leaves weights whose input axis M does not divide, RxC those with an axis that
        R or C does not divide.

        Zeros alone make nothing faster in onnxruntime on a CPU, which multiplies by them as by
        anything else; they make files that compress, and weights ready for hardware and for
        runtimes that skip zeros. A sparse tensor is made dense when a model is loaded. Without
        training afterwards, half of the weights is already much for a small model.

    Contract
        LOSSY: needs a budget.

    Source
        Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural
        Networks", NeurIPS 2015. Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021,
        for N:M. Gray, Radford, Kingma, "GPU Kernels for Block-Sparse Weights", 2017, for blocks. ONNX IR,
        SparseTensorProto, and operator Constant (11, 13, 19, 21, 23 ...).
    """

    name = "magnitude"
    contract = Contract.LOSSY
    strength = "sparsity"

    sparsity: float = option(0.5, "share of zeros among the weights, from 0 to 1; an N:M pattern brings its own")
    scope: Literal["global", "layer"] = option("global", "smallest of all weights together, or of each tensor")
    pattern: str = option(
        "unstructured", "unstructured; N:M: of every M neighbours at most N stay; RxC: blocks of R outputs, C inputs"
    )
    embeddings: bool = option(False, "prune tables of Gather too")
    storage: Literal["dense", "sparse"] = option("dense", "sparse writes index and value where that is smaller")
    min_elements: int = option(256, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:
            raise ValueError(f"sparsity must be from 0 to 1, and {self.sparsity:g} is not")
        if self.min_elements < 0:
            raise ValueError(f"min-elements must not be negative, and {self.min_elements} is")
        pattern = groups.parse(self.pattern)
        if isinstance(pattern, groups.Pattern) and self.sparsity not in (0.5, pattern.sparsity):
            raise ValueError(f"pattern {pattern} means a sparsity of {pattern.sparsity:g}, not {self.sparsity:g}")

    def run(self, graph: Graph, ctx: Context) -> None:
        wishes = Wishes(self.min_elements, self.skip, self.embeddings, groups.parse(self.pattern))
        chosen = list[Weight]()
        for weight in weights(graph):
            if is_bystander(weight, wishes):
                continue
            why = why_not(weight, wishes)
            if why is None and has_nan(weight.constant.values):
                why = "it has a NaN"
            weight.constant.forget()
            if why is None:
                chosen.append(weight)
            else:
                ctx.missed(RULE, weight.subject, why)
        mask = self._mask(chosen, wishes)
        for index, weight in enumerate(chosen):
            self._prune(weight, mask(index, weight.constant.values), ctx)
            weight.constant.forget()

    def _mask(self, chosen: list[Weight], wishes: Wishes) -> Mask:
        """What becomes zero, decided on the model as it is, whatever the gate then lets through."""
        pattern = wishes.pattern
        if isinstance(pattern, Blocks):
            return self._blocks(chosen, pattern)
        if pattern is not None:
            return lambda index, values: groups.mask(values, input_axis(chosen[index]), pattern)
        if self.scope == "layer":

            def smallest(index: int, values: Array) -> Array:
                wide = values.dtype == DOUBLE
                return cut([lambda: values], share(self.sparsity, values.size), wide).mask(values, 0)

            return smallest
        wide = any(dtype_of(weight) == DOUBLE for weight in chosen)
        count = share(self.sparsity, sum(weight.elements for weight in chosen))
        found = cut([_reader(weight) for weight in chosen], count, wide)
        return lambda index, values: found.mask(values, index)

    def _blocks(self, chosen: list[Weight], blocks: Blocks) -> Mask:
        """The same for whole blocks, which are compared by their norms."""

        def norms(index: int, values: Array) -> Array:
            axes = channel_axis(chosen[index]), input_axis(chosen[index])
            return np.sqrt(blocks.sums_of_squares(values, axes))

        def reader(index: int) -> Callable[[], Array]:
            read = _reader(chosen[index])
            return lambda: norms(index, read())

        def mask(index: int, values: Array) -> Array:
            found, place = norms(index, values), index
            if together is None:
                one, place = cut([lambda: found], share(self.sparsity, found.size), True), 0
            else:
                one = together
            axes = channel_axis(chosen[index]), input_axis(chosen[index])
            return blocks.spread(one.mask(found, place), values.shape, axes)

        together = None
        if self.scope == "global":
            count = share(self.sparsity, sum(weight.elements // blocks.size for weight in chosen))
            together = cut([reader(index) for index in range(len(chosen))], count, True)
        return mask

    def _prune(self, weight: Weight, mask: Array, ctx: Context) -> None:
        values = weight.constant.values
        pruned = zeroed(values, mask)
        made = storing.outcome(weight, pruned, self.storage)
        if made.idle:
            ctx.missed(RULE, weight.subject, made.text)
        elif ctx.rewrite(RULE, weight.subject, made.text):
            storing.store(weight, pruned, made.sparse)


def _reader(weight: Weight) -> Callable[[], Array]:
    def read() -> Array:
        values = weight.constant.values
        weight.constant.forget()
        return values

    return read
