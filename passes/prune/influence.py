"""Set the weights of least influence to zero, and move the others so that they make up for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from graphopt.analysis.layer_order import staged
from graphopt.analysis.weights import weights
from graphopt.ir import Graph
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.prune import groups, storing
from passes.prune.allocation import SHARES, allocated
from passes.prune.candidates import DOUBLE, Wishes, input_axis, is_bystander, why_not
from passes.prune.choosing import Choice, choice_of
from passes.prune.influence_scores import by_activation, by_magnitude, by_second_order
from passes.prune.magnitudes import all_finite, cut, has_nan, share, zeroed
from passes.prune.pruned_layer import Method, Pruned, foreseen, pruned
from passes.prune.seen_layers import Job, Seen, batches, job_of, seen, targets

RULE = "prune"

_SCORE_DAMPING = 0.03


@dataclass(frozen=True)
class Influence(Pass):
    """Set the weights of least influence to zero, and move the others so that they make up for it.

    What it does
        Of the weights of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN, the `sparsity` share that has
        least influence on the results over the calibration feeds becomes zero: exactly sparsity * elements of them,
        to the nearest, half up; zeros that are there stay, and count. What the influence of a weight w is,
        `importance` says: its magnitude; activation: w^2 times the energy of its input; second-order: what
        its removal adds to the squared error of the layer once the other weights have made up for it, w^2 / [H^-1]_ii
        with the Gram matrix H of the inputs. Weights make up for one another, so the best to remove together are not
        the best one by one: second-order with `update` looks for all of them at once (joint_search).

        With `update`, the weights that stay, and the bias, are then those that bring the layer nearest to its
        wanted results: least squares for each output in the weights that it keeps, held by `damping` near
        where they were; unless given, that is the one of ten from 0.001 to 30 with which one half of the samples
        predicts the other best. No layer's squared error on the calibration feeds is larger than with zeros alone.

        Layers come in the order of the graph, each on the data that the ones before give it when they are pruned.
        Its wanted results are those of the model as it was read, so that it makes up for errors that are in its data
        (`correction` is the share of them; the further results are off for the data, the less is made up for, and
        nothing from a tenth of their variance on), as long as the rewrites before have left that value as it was;
        else, and in bodies and functions, those that it would make of the data it has now.

        scope=row lets each output lose the same share. scope=global measures the error of each layer at three
        sparsities, on samples that it was not fitted to, and shares the zeros out so that the sum of these errors is
        least. With theta, instead of a share, all weights go whose influence, as a share of the squared results of
        their layer, is below it. pattern=N:M keeps N of every M neighbours along the axis that is summed over (input
        channels of Conv), pattern=RxC takes out blocks of R outputs by C inputs as a whole. storage=sparse is as in
        `magnitude`.

        The states of recurrent operators, batches of matrices, weights with over 4096 inputs and layers whose data
        cannot be seen (or are all zero, NaN or infinite) are pruned by magnitude; their remarks say so. The other
        remarks give the errors, in decibels below the variance of the results.

    Example
        influence{sparsity=0.5}
        before: y = Gemm(x, w, b)    after: the same; half of w is zero, the rest of it and b are others

    When not
        Zeros make nothing faster in onnxruntime on a CPU (see `magnitude`, whose reasons to leave a weight are
        the reasons here; tables of Gather are left, too). Without data like those of later use: with 32 samples the
        last layers of a network, which see one row of each, can only be held where they are; hundreds are better.

        Costs, for each level of depth (or stage), one run of both models over the feeds, and for each layer
        inputs^3 + some 400 * inputs^2 * outputs multiplications: a few seconds of one core for 384 * 1152, half a
        minute for 1280 * 512; three times as much with scope=global. Sums of a run take up to 256 MB, or what
        those of one layer need.

    Contract
        LOSSY: needs a budget. No layer's squared error on the calibration feeds grows by the update.

    Source
        Hassibi, Stork, "Second Order Derivatives for Network Pruning: Optimal Brain Surgeon", NIPS 1992.
        Frantar, Alistarh, "Optimal Brain Compression", NeurIPS 2022, and "SparseGPT", ICML 2023. Sun, Liu,
        Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models" (Wanda), ICLR 2024. Meng et
        al., "ALPS", NeurIPS 2024, on the search. Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021.
    """

    name = "influence"
    contract = Contract.LOSSY
    strength = "sparsity"
    calibrates = True

    sparsity: float = option(0.5, "share of zeros among the weights, from 0 to 1; an N:M pattern brings its own")
    importance: Literal["magnitude", "activation", "second-order"] = option(
        "second-order", "the influence of a weight: magnitude, times that of its input (activation), or second-order"
    )
    pattern: str = option(
        "unstructured", "unstructured; N:M: of every M neighbours at most N stay; RxC: blocks of R outputs, C inputs"
    )
    scope: Literal["layer", "row", "global"] = option(
        "layer", "weights compete with those of the same layer, or only of the same output, or of all layers"
    )
    theta: float = option(
        0.0, "instead of sparsity: what adds less than this share of the squared results of its layer to the error goes"
    )
    update: bool = option(True, "move the weights that stay, and biases, so that they make up for those that go")
    correction: float = option(1.0, "share of the errors of layers before that a layer is to make up for, 0 to 1")
    damping: float = option(
        0.0, "share of the mean energy of the inputs that pulls towards the weights there are; 0 finds the best"
    )
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    stages: int = option(0, "groups of layers, each of which sees the ones before it pruned; 0: every level of depth")
    storage: Literal["dense", "sparse"] = option("dense", "sparse writes index and value where that is smaller")
    min_elements: int = option(256, "leave smaller weights as they are")
    skip: tuple[str, ...] = option((), "patterns such as /head/* of weights and nodes to leave as they are")

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity <= 1:
            raise ValueError(f"sparsity must be from 0 to 1, and {self.sparsity:g} is not")
        if not 0 <= self.theta < float("inf"):
            raise ValueError(f"theta must not be negative, and {self.theta:g} is no such number")
        if not 0 <= self.correction <= 1:
            raise ValueError(f"correction must be from 0 to 1, and {self.correction:g} is not")
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")
        for name in ("rows", "stages", "min_elements"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name.replace('_', '-')} must not be negative, and {getattr(self, name)} is")
        pattern = groups.parse(self.pattern)
        if isinstance(pattern, groups.Pattern):
            if self.sparsity not in (0.5, pattern.sparsity):
                raise ValueError(f"pattern {pattern} means a sparsity of {pattern.sparsity:g}, not {self.sparsity:g}")
            if self.theta or self.scope in ("row", "global"):
                raise ValueError(f"pattern {pattern} says itself where zeros are: it goes with no theta and no scope")
        if isinstance(pattern, groups.Blocks) and self.scope == "row":
            raise ValueError(f"blocks such as {pattern} compete in a layer or in all, not in a row")

    @property
    def method(self) -> Method:
        """How a layer is pruned."""
        return Method(self.importance, self.update, self.damping)

    def run(self, graph: Graph, ctx: Context) -> None:
        jobs = self._jobs(graph, ctx)
        corrects = self.method.needs_data and self.correction > 0
        originals = targets(jobs, ctx) if corrects else {}
        counts = self._allocated(jobs, ctx) if self.scope == "global" and not self.theta else {}
        for stage in staged(graph, jobs, lambda one: one.weight, self.stages):
            for batch in batches(stage):
                known = self._seen(batch, originals, ctx)
                for job in batch:
                    self._prune(job, known[job], counts.get(job), ctx)
                    job.weight.constant.forget()

    def _jobs(self, graph: Graph, ctx: Context) -> list[Job]:
        wishes = Wishes(self.min_elements, self.skip, False, groups.parse(self.pattern))
        found = list[Job]()
        for weight in weights(graph):
            if is_bystander(weight, wishes):
                continue
            why = why_not(weight, wishes)
            if why is None and has_nan(weight.constant.values):
                why = "it has a NaN"
            if why is None and not all_finite(weight.constant.values):
                why = "it has infinities"
            weight.constant.forget()
            if why is None:
                found.append(job_of(weight))
            else:
                ctx.missed(RULE, weight.subject, why)
        return found

    def _seen(self, jobs: Sequence[Job], originals: dict[Job, str], ctx: Context) -> dict[Job, Seen | str]:
        if not self.method.needs_data:
            return dict.fromkeys(jobs, "")
        return seen(jobs, originals, ctx, self.rows, self.correction)

    def _choice(self, job: Job, sparsity: float, count: int | None = None) -> Choice:
        by_row = self.scope == "row" and count is None
        return choice_of(job.weight, job.layout, sparsity, by_row, groups.parse(self.pattern), count)

    def _scores(self, job: Job, known: Seen | str) -> np.ndarray:
        values = job.matrices
        if isinstance(known, str) or self.importance == "magnitude":
            return by_magnitude(values)
        if self.importance == "activation":
            return by_activation(values, known.whole)
        try:
            return by_second_order(values, known.whole, job.has_bias, self.damping or _SCORE_DAMPING)
        except np.linalg.LinAlgError:
            return by_activation(values, known.whole)

    def _allocated(self, jobs: Sequence[Job], ctx: Context) -> dict[Job, int]:
        """How many elements (or blocks) of each layer are to go. Layers of which nothing is seen lose the same share
        as all others together."""
        errors = dict[Job, list[float]]()
        for batch in batches(jobs):
            known = self._seen(batch, {}, ctx)
            for job in batch:
                seen_here = known[job]
                if isinstance(seen_here, Seen):
                    choices = [self._choice(job, one) for one in SHARES]
                    errors[job] = foreseen(job, seen_here, choices, self.method)
                elif not self.method.needs_data:
                    squares = by_magnitude(job.matrices)
                    errors[job] = [float(squares[self._choice(job, one).mask(squares)].sum()) for one in SHARES]
                job.weight.constant.forget()
        units = [self._choice(job, 0.0).units(job.matrices).size for job in errors]
        counts = allocated(units, list(errors.values()), share(self.sparsity, sum(units)))
        return dict(zip(errors, counts, strict=True))

    def _plain(self, job: Job, count: int | None) -> Pruned | None:
        """The smallest magnitudes of a layer gone, in the memory that the weight itself takes; None where more than
        magnitudes count."""
        pattern = groups.parse(self.pattern)
        if self.method.needs_data or self.scope == "row" or isinstance(pattern, groups.Blocks):
            return None
        values = job.weight.constant.values
        if pattern is not None:
            mask = groups.mask(values, input_axis(job.weight), pattern)
        else:
            lined = job.layout.matrices(values)
            count = share(self.sparsity, values.size) if count is None else count
            mask = job.layout.stored(cut([lambda: lined], count, values.dtype == DOUBLE).mask(lined, 0))
        return Pruned(zeroed(values, mask), None, "")

    def _prune(self, job: Job, known: Seen | str, count: int | None, ctx: Context) -> None:
        if self.theta:
            choice = self._choice(job, 0.0, 0)
            count = int(np.count_nonzero(choice.units(self._scores(job, known)) < self.theta))
        made = self._plain(job, count)
        if made is None:
            made = pruned(job, known, self._choice(job, self.sparsity, count), self.method)
        outcome = storing.outcome(job.weight, made.values, self.storage)
        if outcome.idle:
            ctx.missed(RULE, job.weight.subject, outcome.text)
        elif ctx.rewrite(RULE, job.weight.subject, f"{outcome.text}; {made.text}" if made.text else outcome.text):
            storing.store(job.weight, made.values, outcome.sparse)
            if made.bias is not None and job.result is not None:
                job.result.write_bias(made.bias)
