"""The layers whose weights are pruned, and what calibration says of their data and results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.layer_echo import LayerEcho
from graphopt.analysis.layer_fit import Distance, LayerFit, Sums
from graphopt.analysis.layer_inputs import Rows, inputs_of
from graphopt.analysis.weight_matrices import Layout, layout_of
from graphopt.analysis.weights import Weight
from graphopt.ir import Tensor
from graphopt.pipeline.protocol import Context
from passes.prune.choosing import Array
from passes.prune.layer_results import Result, result_of

_MOST_INPUTS = 4096  # the Gram matrices of more take over a quarter of a gigabyte
_MEMORY = 1 << 28  # bytes of sums that are held at a time
_LOST = 0.1
"""Where errors in its data make results miss by this share of their variance, a layer does not make up for them:
fitted to what its data no longer tell, results shrink towards their mean, more with every layer."""
_SAME = 1e-3  # share of its variance by which a value may differ from the original's: more may be another scale


@dataclass(frozen=True, eq=False)
class Job:
    """One weight and its layout as matrices. `sources` are its data; `why` is a clause that says why nothing can
    be known of them, "" where it can. `result` is None where it cannot be observed."""

    weight: Weight
    layout: Layout
    sources: tuple[tuple[Tensor, Rows], ...] = ()
    why: str = ""
    result: Result | None = None

    @property
    def matrices(self) -> Array:
        """The weight as float64 [groups, inputs, outputs]."""
        return self.layout.matrices(self.weight.constant.values.astype(np.float64))

    def bias(self) -> Array:
        """The bias as float64 [groups, outputs]."""
        groups, outputs = self.layout.groups, self.layout.outputs
        return np.zeros((groups, outputs)) if self.result is None else self.result.bias(groups, outputs)

    @property
    def has_bias(self) -> bool:
        """Whether there is a bias that can be moved."""
        return self.result is not None and self.result.holder is not None


@dataclass(frozen=True)
class Seen:
    """Sums over the data and results of a layer: in two halves of the samples, and in all."""

    halves: tuple[Sums | None, Sums | None]
    whole: Sums


def job_of(weight: Weight) -> Job:
    """How a weight is multiplied."""
    shape = tuple(int(size) for size in weight.constant.shape)
    layout = layout_of(weight)
    if isinstance(layout, str):
        return Job(weight, Layout(shape, shape, tuple(range(len(shape))), 1, int(np.prod(shape)), 1), why=layout)
    if layout.inputs > _MOST_INPUTS:
        return Job(weight, layout, why=f"it has {layout.inputs} inputs, more than {_MOST_INPUTS}")
    sources = list[tuple[Tensor, Rows]]()
    for site in weight.sites:
        found = inputs_of(site.node, site.slot, layout.shape)
        if isinstance(found, str):
            return Job(weight, layout, why=found)
        sources.append(found)
    return Job(weight, layout, tuple(sources), result=result_of(weight, layout.groups * layout.outputs))


def targets(jobs: Sequence[Job], ctx: Context) -> dict[Job, str]:
    """For each layer the value of the model as it was read that its result stands for, where there is one."""
    asked = {
        (job, name): Observation((job.result.tensor, Original(name)), Distance())
        for job in jobs
        if job.result is not None and not job.why
        for name in ctx.originals(job.result.tensor)
    }
    refused = ctx.calibration.observe(list(asked.values())).refused if asked else {}
    nearest: dict[Job, tuple[float, str]] = {}
    for (job, name), question in asked.items():
        assert isinstance(question.accumulator, Distance)
        if question not in refused and question.accumulator.share <= _SAME:
            nearest[job] = min(nearest.get(job, (np.inf, "")), (question.accumulator.share, name))
    return {job: name for job, (_, name) in nearest.items()}


def batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """The jobs in order, cut where their sums would take too much memory."""
    batch, held = list[Job](), 0
    for job in jobs:
        layout = job.layout
        need = 0 if job.why else 16 * layout.groups * (layout.inputs + 1) * (layout.inputs + 1 + layout.outputs)
        if batch and held + need > _MEMORY:
            yield batch
            batch, held = [], 0
        batch.append(job)
        held += need
    if batch:
        yield batch


def seen(
    jobs: Sequence[Job], originals: dict[Job, str], ctx: Context, rows: int, correction: float = 1.0
) -> dict[Job, Seen | str]:
    """What is known of each layer, or a clause that says why nothing is.

    Wanted results are those of the original where `originals` has a name, mixed with those of now for a `correction`
    below 1, and the more so the further data are from what they were; else those of now.
    """
    asked = {job: _questions(job, originals.get(job), rows) for job in jobs if not job.why}
    questions = [one for each in asked.values() for one in each]
    refused = ctx.calibration.observe(questions).refused if questions else {}
    found: dict[Job, Seen | str] = {}
    for job in jobs:
        mine = asked.get(job, [])
        why = job.why or next((refused[one] for one in mine if one in refused), "")
        fits = [one.accumulator for one in mine if isinstance(one.accumulator, LayerFit)]
        share = correction if job in originals else 1.0
        found[job] = why or _summed(job, fits, share)
    return found


def _questions(job: Job, original: str | None, rows: int) -> list[Observation]:
    if job.result is not None:
        (source, shape), *_ = job.sources
        results = job.result.tensor if original is None else Original(original)
        return [Observation((source, results), LayerFit(shape, rows))]
    weights = job.matrices
    return [Observation((source,), LayerEcho(shape, weights, rows)) for source, shape in job.sources]


def _summed(job: Job, fits: Sequence[LayerFit], correction: float) -> Seen | str:
    trouble = next((one.trouble for one in fits if one.trouble), None)
    if trouble is not None:
        return trouble
    size = (job.layout.groups, job.layout.inputs + 1, job.layout.outputs)
    known = [one for fit in fits for one in fit.halves if one is not None]
    if any(one.cross.shape != size for one in known):
        return "its data or results are not as wide as its weight"
    if not known:
        return "no data were seen"
    if not all(one.finite for one in known):
        return "its data or results have NaN or infinities"
    halves = [_added([fit.halves[which] for fit in fits]) for which in (0, 1)]
    full = np.concatenate([job.matrices, job.bias()[:, None]], axis=1)
    together = _added(halves)
    assert together is not None, "something was seen"
    correction *= max(1 - together.error(full) / _LOST, 0.0)
    if correction < 1:
        halves = [None if one is None else _mixed(one, full, correction) for one in halves]
    whole = _added(halves)
    assert whole is not None, "something was seen"
    if not np.einsum("gkk->gk", whole.gram)[:, :-1].any():
        return "its data were all zero"
    return Seen((halves[0], halves[1]), whole)


def _added(sums: Sequence[Sums | None]) -> Sums | None:
    total: Sums | None = None
    for one in sums:
        total = one if total is None else total if one is None else total + one
    return total


def _mixed(sums: Sums, full: Array, share: float) -> Sums:
    """Sums for results that are `share` of those seen, and the rest of what `full` makes of the data."""
    own = sums.gram @ full
    both = 2 * np.einsum("gko,gko->go", full, sums.cross)
    energy = (
        share**2 * sums.energy + (1 - share) ** 2 * np.einsum("gko,gko->go", full, own) + share * (1 - share) * both
    )
    return Sums(sums.count, sums.gram, share * sums.cross + (1 - share) * own, energy)
