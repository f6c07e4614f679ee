"""Rounds the weights of a model layer by layer, with what calibration says about their inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.activations import Observation, Original
from graphopt.analysis.layer_gram import LayerGram
from graphopt.analysis.layer_inputs import Rows, inputs_of
from graphopt.analysis.layer_order import staged
from graphopt.analysis.resumable import Resumable
from graphopt.analysis.weight_matrices import Layout, layout_of
from graphopt.analysis.weights import weights
from graphopt.ir import Graph, Tensor
from graphopt.pipeline.protocol import Context
from passes.quantize.candidates import Plan, Wishes, plan
from passes.quantize.dequantize import Order, order_of, write
from passes.quantize.formats import Format
from passes.quantize.grid import Array, Grid, codes, spread, why_no_grid
from passes.quantize.kept_rounding import restored, state_of
from passes.quantize.layer_rounding import Method, Rounded, rounded
from passes.quantize.quadratic import Layer
from passes.quantize.rewriting import RULE, detail

_MOST_INPUTS = 8192  # inputs of a layer: the Gram matrix of more takes over half a gigabyte
_MEMORY = 1 << 28  # bytes of Gram matrices that are summed up in one run over the feeds
_SAME = 1e-6  # share of energy by which a value may differ from the original's and still be the same


@dataclass(frozen=True)
class Schedule:
    """What is asked of calibration: in how many `stages`, how many `rows` of each sample at most, and which
    share of the errors of stages before a layer is to make up for (`correction`)."""

    stages: int
    rows: int
    correction: float


@dataclass(frozen=True, eq=False)
class _Job:
    """One weight, and where its inputs are; `why` is a clause that says why there are none."""

    plan: Plan
    layout: Layout | None = None
    sources: tuple[tuple[Tensor, Rows], ...] = ()
    why: str = ""


def quantize(
    graph: Graph, ctx: Context, wishes: Wishes, form: Format, method: Method, schedule: Schedule, tables: bool
) -> None:
    """Quantize every weight that the wishes and the model allow. What no inputs are seen of is rounded to
    nearest, and its remark says so."""
    order, shapes = order_of(graph), ctx.shapes
    plans = list[Plan]()
    for weight in weights(graph):
        planned = plan(weight, wishes, shapes)
        if isinstance(planned, Plan) and not tables and all(site.is_table for site in weight.sites):
            planned = "it is a table, and tables is false"
        if isinstance(planned, str):
            ctx.missed(RULE, weight.subject, planned)
        elif planned is not None:
            plans.append(planned)
    watch = _Watch(ctx, schedule)
    stages = staged(graph, plans, lambda one: one.weight, schedule.stages)
    if len(stages) > 1 and schedule.correction > 0:
        watch.compare([_job(one) for one in plans])
    for number, stage in enumerate(stages):
        for batch in _batches([_job(one) for one in stage]):
            layers = watch.layers(batch, later=number > 0)
            for job in batch:
                why = _round(job, layers[job], ctx, form, method, order)
                job.plan.weight.constant.forget()
                if why is not None:
                    ctx.missed(RULE, job.plan.weight.subject, why)


def _job(planned: Plan) -> _Job:
    weight = planned.weight
    layout = layout_of(weight)
    if isinstance(layout, str):
        return _Job(planned, why=layout)
    if layout.inputs > _MOST_INPUTS:
        return _Job(planned, why=f"it has {layout.inputs} inputs, more than {_MOST_INPUTS}")
    sources = list[tuple[Tensor, Rows]]()
    for site in weight.sites:
        found = inputs_of(site.node, site.slot, layout.shape)
        if isinstance(found, str):
            return _Job(planned, why=found)
        sources.append(found)
    return _Job(planned, layout, tuple(sources))


def _batches(jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
    """The jobs in order, cut where the Gram matrices would take too much memory."""
    batch, held, seen = list[_Job](), 0, set[tuple[Tensor, str]]()
    for job in jobs:
        new = {(tensor, rows.key) for tensor, rows in job.sources} - seen
        need = len(new) * 16 * job.layout.groups * job.layout.inputs**2 if job.layout else 0
        if batch and held + need > _MEMORY:
            yield batch
            batch, held, seen = [], 0, set()
        batch.append(job)
        held, seen = held + need, seen | new
    if batch:
        yield batch


class _Watch:
    """Asks calibration about the inputs of layers."""

    def __init__(self, ctx: Context, schedule: Schedule) -> None:
        self.ctx, self.schedule = ctx, schedule
        self.unchanged: set[Tensor] = set()

    def compare(self, jobs: Sequence[_Job]) -> None:
        """Find out, while all is in float, which inputs are what they were in the model as it was read:
        a pass before may have scaled them."""
        tensors = dict.fromkeys(tensor for job in jobs for tensor, _ in job.sources)
        asked = {one: Observation((one, Original(one.name)), _Distance()) for one in tensors}
        refused = self.ctx.calibration.observe(list(asked.values())).refused
        for tensor, one in asked.items():
            assert isinstance(one.accumulator, _Distance)
            if one not in refused and one.accumulator.apart <= _SAME * one.accumulator.energy:
                self.unchanged.add(tensor)

    def layers(self, jobs: Sequence[_Job], later: bool) -> dict[_Job, Layer | str]:
        """The layer of each job, or a clause that says why nothing is known about its inputs."""
        asked: dict[tuple[Tensor, str], Observation] = {}
        for job in jobs:
            for tensor, rows in job.sources:
                pair = (tensor, Original(tensor.name)) if later and tensor in self.unchanged else (tensor,)
                asked.setdefault((tensor, rows.key), Observation(pair, LayerGram(rows, self.schedule.rows)))
        refused = self.ctx.calibration.observe(list(asked.values())).refused if asked else {}
        made: dict[_Job, Layer | str] = {}
        for job in jobs:
            mine = [asked[tensor, rows.key] for tensor, rows in job.sources]
            why = job.why or next((refused[one] for one in mine if one in refused), "")
            made[job] = why or self._layer(
                job, [one.accumulator for one in mine if isinstance(one.accumulator, LayerGram)]
            )
        return made

    def _layer(self, job: _Job, grams: Sequence[LayerGram]) -> Layer | str:
        assert job.layout is not None
        why = next((one.trouble for one in grams if one.trouble), None)
        if why is not None:
            return why
        used = [one for one in grams if one.count]
        size = (job.layout.groups, job.layout.inputs)
        if any(one.matrix.shape[:2] != size for one in used):
            return "its inputs are not as many as it has weights for"
        gram = np.asarray(sum(one.matrix for one in used))
        if not used or not gram.any():
            return "its inputs were all zero" if used else "no inputs were seen"
        if not np.isfinite(gram).all():
            return "its inputs have NaN or infinities"
        values = job.layout.matrices(job.plan.weight.constant.values.astype(np.float64))
        if all(one.cross is None for one in used):
            return Layer.of(values, gram)
        cross = np.asarray(sum(one.matrix if one.cross is None else one.cross for one in used))
        if not np.isfinite(cross).all():
            return Layer.of(values, gram)
        share = self.schedule.correction
        return Layer(values, gram, share * (cross @ values) + (1 - share) * (gram @ values), corrected=True)


class _Distance(Resumable):
    """How far two values are apart: sums of squares of their difference and of the second."""

    key = "distance of two"
    sums = ("apart", "energy")

    def __init__(self) -> None:
        self.apart, self.energy = 0.0, 0.0

    def update(self, *values: Array) -> None:
        one, other = values
        if one.shape != other.shape:
            self.apart = np.inf
            return
        with np.errstate(over="ignore", invalid="ignore"):
            self.apart += float(np.square(one - other, dtype=np.float64).sum())
            self.energy += float(np.square(other, dtype=np.float64).sum())


def _round(job: _Job, layer: Layer | str, ctx: Context, form: Format, method: Method, order: Order) -> str | None:
    """Quantize one weight; returns why not where its values forbid it."""
    weight, planned = job.plan.weight, job.plan
    values = weight.constant.values
    found = spread(values, planned.axis, planned.block)
    why = why_no_grid(found, planned.dtype)
    if why is not None:
        return why
    made: Rounded | str = layer if isinstance(layer, str) else _kept(ctx, job, layer, form, method)
    if isinstance(made, str):
        grid = form.grid(planned, found, values)
        text = f"{detail(planned, grid)}; rounded to nearest: {made}"
        made = Rounded(grid, codes(values, grid), 1.0)
    else:
        text = f"{detail(planned, made.grid)}; {made.left:.3g} of the error of round-to-nearest is left"
    if ctx.rewrite(RULE, weight.subject, text):
        write(weight, made.grid, made.codes, order)
    return None


def _kept(ctx: Context, job: _Job, layer: Layer, form: Format, method: Method) -> Rounded | str:
    """`_rounded`, once for each layer however often the run is stopped."""
    planned = job.plan
    question = repr(("rounded", method, form, planned.axis, planned.block, planned.dtype, job.layout, layer.corrected))
    given = (layer.weights, layer.gram, *([layer.linear] if layer.corrected else []))
    try:
        state = ctx.calibration.worked_out(question, given, lambda: state_of(_rounded(job, layer, form, method)))
    except np.linalg.LinAlgError:
        return "the Gram matrix of its inputs cannot be inverted; a larger damping may help"
    return restored(state)


def _rounded(job: _Job, layer: Layer, form: Format, method: Method) -> Rounded:
    planned, layout = job.plan, job.layout
    assert layout is not None
    energy = np.einsum("gkk->gk", layer.gram)

    def choose(target: Array) -> Grid:
        importance = None
        if form.range == "activations":
            spread_out = np.broadcast_to((energy / energy.mean())[:, :, None], layer.weights.shape)
            importance = layout.stored(spread_out)
        with np.errstate(over="ignore"):
            wanted = target.astype(planned.dtype)
        found = spread(wanted, planned.axis, planned.block)
        if why_no_grid(found, planned.dtype) is not None:  # making up for errors may ask for more than there is
            wanted = planned.weight.constant.values
            found = spread(wanted, planned.axis, planned.block)
        return form.grid(planned, found, wanted, importance)

    return rounded(layer, layout, choose, method)
