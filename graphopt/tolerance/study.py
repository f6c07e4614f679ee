"""Perturbs layer after layer at a ladder of strengths, and predicts from that what compressing each would do."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from graphopt.analysis.named_noise import deviation, generator, noise
from graphopt.calibration.observe import Observer
from graphopt.calibration.source import CalibrationData
from graphopt.runtime.failure import WorkerFailure
from graphopt.tolerance.compressions import COMPRESSIONS, SHARES, scale_axis, weak, without
from graphopt.tolerance.curve import Curve, Point
from graphopt.tolerance.importance import Importance
from graphopt.tolerance.kept_rows import KeptRows
from graphopt.tolerance.layers import Layer
from graphopt.tolerance.rig import Anew, Behind, Bench, Rig, Tail
from graphopt.tolerance.table import Row
from graphopt.tolerance.worst import worst
from graphopt.validation.compare import Difference, compare

Array = np.ndarray[Any, Any]
Values = Mapping[str, Any]

LADDER: Final = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Relative deviations of the noise: from what 8 bits bring to what is left of a weight at 3 bits."""

DROPS: Final = (0.1, 0.25, 0.5)
"""Shares of channels, drawn at random, that are taken away."""


@dataclass(frozen=True)
class Plan:
    """How much is measured: relative deviations of noise, shares of channels, draws of each, and the compressions
    that are really tried on layers named in `tried`."""

    ladder: tuple[float, ...] = LADDER
    drops: tuple[float, ...] = DROPS
    seeds: int = 2
    tried: frozenset[str] = frozenset()
    compressions: tuple[str, ...] = ()

    def text(self) -> str:
        """The same text for equal plans."""
        return f"{self.ladder} {self.drops} {self.seeds} {sorted(self.tried)} {self.compressions}"


@dataclass
class Study:
    """One model on its bench. `say` hears of progress; `warnings` are sentences."""

    bench: Bench
    plan: Plan
    say: Callable[[str], None] = lambda text: None
    warnings: list[str] = field(default_factory=list)
    kept: KeptRows | None = None
    _known: dict[Layer, Importance] = field(default_factory=dict)

    def rows(self, layers: Sequence[Layer]) -> Iterator[Row]:
        """A row for each layer, in order: one that is kept, or a new one. Raises WorkerFailure where the model itself
        does not run."""
        kept = {layer: None if self.kept is None else self.kept.get(layer.name) for layer in layers}
        new = self._measured([layer for layer in layers if kept[layer] is None])
        for layer in layers:
            row = kept[layer]
            if row is None:
                row = next(new)
                if self.kept is not None:
                    self.kept.put(row)
            yield row

    def _measured(self, layers: Sequence[Layer]) -> Iterator[Row]:
        if not layers:
            return
        places = {layer: Behind.of(self.bench, _stored(layer)) for layer in layers if not layer.inside}
        done = 0
        self._known = {layer: Importance.of(layer) for layer in layers}
        self._observe(layers)
        for group, recorded in self._groups(layers, places):
            for layer in group:
                done += 1
                self.say(f"layer {done} of {len(layers)}: {layer.name}")
                yield self._row(layer, places.get(layer), recorded.get(layer))

    def _observe(self, layers: Sequence[Layer]) -> None:
        """See the data of layers in bodies and functions."""
        asked = [one for importance in self._known.values() for one in importance.observations()]
        if asked:
            data = CalibrationData(lambda: self.bench.feeds, self.bench.source)
            root = layers[0].weight.home.root
            Observer(root, self.bench.worker, data).observe(asked)
            self.bench.runs += len(self.bench.feeds)
            self.bench.work += len(self.bench.feeds)

    def _groups(
        self, layers: Sequence[Layer], places: Mapping[Layer, Behind]
    ) -> Iterator[tuple[list[Layer], dict[Layer, list[Values] | None]]]:
        """Layers together, as many as have no more than the bound on their borders, with what was recorded there."""
        wanted = {layer: behind.border for layer, behind in places.items()}
        every = list(dict.fromkeys(name for names in wanted.values() for name in names))
        if not every:
            yield list(layers), {layer: [{} for _ in self.bench.feeds] for layer in places}
            return
        with self.bench.part(every, {}) as (session, names):
            types = {port.name: port.type_text for port in session.outputs}
            odd = {name for name in every if not types[names[name]].startswith("tensor(")}
            sizes = self._sizes(session, names, [name for name in every if name not in odd])
            for group in _grouped(layers, wanted, sizes, self.bench.bound):
                asked = list(dict.fromkeys(name for one in group for name in wanted.get(one, ()) if name not in odd))
                kept: list[Values] = [{} for _ in self.bench.feeds]
                for number, feed in enumerate(self.bench.feeds) if asked else ():
                    found = session.run(_taken(session, feed), [names[name] for name in asked])
                    self.bench.counted(len(self.bench.wiring.reads))
                    kept[number] = {name: found[names[name]] for name in asked}
                yield group, {
                    layer: None if odd.intersection(wanted[layer]) else
                    [{name: one[name] for name in wanted[layer]} for one in kept]
                    for layer in group if layer in wanted
                }  # fmt: skip

    def _sizes(self, session: Any, names: Mapping[str, str], every: Sequence[str]) -> dict[str, int]:
        """Bytes of each value on all feeds, judged by the first."""
        found = session.run(_taken(session, self.bench.feeds[0]), [names[name] for name in every])
        self.bench.counted(len(self.bench.wiring.reads))
        return {name: int(found[names[name]].nbytes) * len(self.bench.feeds) for name in every}

    def _row(self, layer: Layer, behind: Behind | None, recorded: Sequence[Values] | None) -> Row:
        try:
            with self._rig(layer, behind, recorded) as rig:
                if behind is not None and not behind.outputs:
                    return _empty(layer, "no output depends on it")
                return _Measuring(self, layer, rig, behind, self._known.pop(layer)).row()
        except WorkerFailure as failure:
            if failure.kind in ("hang", "memory"):
                raise
            return _empty(layer, f"it could not be measured: {str(failure).rstrip('. ')}")
        finally:
            layer.forget()

    @contextlib.contextmanager
    def _rig(self, layer: Layer, behind: Behind | None, recorded: Sequence[Values] | None) -> Iterator[Rig]:
        if behind is None or recorded is None or not behind.outputs:
            yield Anew(self.bench, layer)
        else:
            stored = {name: np.asarray(one.constant.values) for name, one in _weights(layer).items()}
            tail = Tail(self.bench, behind, stored, recorded, _seen(layer, behind, self.bench))
            with tail.loaded():
                yield tail


class _Measuring:
    """One layer on its rig."""

    def __init__(self, study: Study, layer: Layer, rig: Rig, behind: Behind | None, importance: Importance) -> None:
        self.study, self.layer, self.rig, self.plan = study, layer, rig, study.plan
        self.values = layer.values()
        self.own = layer.weight.tensor.name
        self.alone = isinstance(rig, Anew)
        self.importance = importance
        seen = () if behind is None or self.alone else _seen(layer, behind, study.bench)
        self.reference: list[Values] = []
        outputs = study.bench.wiring.outputs if behind is None or self.alone else behind.outputs
        for number, found in enumerate(rig.run({}, seen)):
            recorded = rig.data[number] if rig.data else {}
            if not self.alone:
                self.importance.update({**study.bench.feeds[number], **recorded, **found})
            self.reference.append({name: found[name] for name in outputs})

    def row(self) -> Row:
        """Measure and predict."""
        noisy = Curve.through(self._noise())
        fewer = Curve.through(self._drops())
        shares, errors, measured = dict[str, float](), dict[str, float](), dict[str, float]()
        for name, one in COMPRESSIONS.items():
            made = one.make(self.layer, self.values)
            if made is None:
                continue
            share, curve = self._share(name, made), fewer if one.kind == "channels" and fewer.known else noisy
            shares[name], errors[name] = share, curve.at(share)
            if self.layer.name in self.plan.tried and name in self.plan.compressions:
                measured[name] = self._error(self._changed(name, made))
        rounding = self.importance.rounding
        if rounding is not None and "int8-channel" in shares:
            shares["int8-data"], errors["int8-data"] = rounding, noisy.at(rounding)
            both = shares["int8-channel"] + rounding
            shares["int8-both"], errors["int8-both"] = both, noisy.at(both)
        note = "" if math.isfinite(noisy.at(1e-4)) else "noise on it makes outputs NaN or infinite"
        return Row(
            self.layer.name, self.layer.op, self.layer.nodes, self.layer.shape,
            noisy, fewer, shares, errors, measured, self.importance.by_data, note,
        )  # fmt: skip

    def _share(self, name: str, made: Array) -> float:
        channels = self.importance.channels() if name in SHARES else None
        if channels is not None and self.layer.channel is not None:
            return float(channels[weak(self.values, self.layer.channel, SHARES[name])].sum())
        return self.importance.share(_apart(made, self.values), self.values)

    def _noise(self) -> Iterator[Point]:
        """Noise as wide in every place of a channel, as rounding brings it."""
        found: dict[float, list[Point]] = {eps: [] for eps in self.plan.ladder}
        scale = deviation(self.values, scale_axis(self.layer))
        for seed in range(self.plan.seeds if found else 0):
            unit = noise(self.layer.name, self.values.shape, seed)
            unit *= scale.astype(np.float32)
            share = self.importance.share(unit, self.values)
            for eps, points in found.items():
                made = (self.values + np.float32(eps) * unit).astype(self.values.dtype)
                points.append(Point(eps * eps * share, self._error({self.own: made})))
        for points in found.values():
            yield from _mean(points)

    def _drops(self) -> Iterator[Point]:
        axis = self.layer.channel
        if axis is None:
            return
        size = self.values.shape[axis]
        energy = self.importance.channels()
        for share in self.plan.drops:
            count, found = min(size - 1, int(share * size + 0.5)), []
            for seed in range(self.plan.seeds if count > 0 else 0):
                gone = np.sort(generator(f"{self.layer.name} channels", seed).permutation(size)[:count])
                made = without(self.values, axis, gone)
                lost = (
                    float(energy[gone].sum())
                    if energy is not None
                    else self.importance.share(_apart(made, self.values), self.values)
                )
                found.append(Point(lost, self._error(self._dropped(made, gone))))
            yield from _mean(found)

    def _changed(self, name: str, made: Array) -> dict[str, Array]:
        if name in SHARES and self.layer.channel is not None:
            return self._dropped(made, weak(self.values, self.layer.channel, SHARES[name]))
        return {self.own: made}

    def _dropped(self, made: Array, gone: Array) -> dict[str, Array]:
        """The weights without channels, and what is added to those without them, too."""
        changed = {self.own: made}
        for bias in self.layer.biases:
            values = np.asarray(bias.constant.values)
            changed[bias.tensor.name] = without(values, values.ndim - 1, gone)
        return changed

    def _error(self, changed: Mapping[str, Array]) -> float:
        """The energy of the error of the worst output, relative to its own."""
        sums: dict[str, Difference] = {}
        for reference, found in zip(self.reference, self.rig.run(changed), strict=True):
            for name, value in reference.items():
                sums[name] = sums.get(name, Difference()) + compare(value, found[name])
        return worst(sums.values())


def _mean(found: Sequence[Point]) -> Iterator[Point]:
    """The mean of what several draws of one strength gave."""
    if found:
        yield Point(sum(one.perturbation for one in found) / len(found), sum(one.error for one in found) / len(found))


def _weights(layer: Layer) -> dict[str, Any]:
    return {one.tensor.name: one for one in (layer.weight, *layer.biases)}


def _stored(layer: Layer) -> tuple[str, ...]:
    return tuple(_weights(layer))


def _seen(layer: Layer, behind: Behind, bench: Bench) -> tuple[str, ...]:
    """The values that tell how weights count and that are made behind the layer."""
    nodes = bench.source.proto.graph.node
    made = {name for position in behind.nodes for name in nodes[position].output}
    return tuple(name for name in Importance.of(layer).values() if name in made)


def _grouped(
    layers: Sequence[Layer], wanted: Mapping[Layer, Sequence[str]], sizes: Mapping[str, int], most: int
) -> Iterator[list[Layer]]:
    group: list[Layer] = []
    held: dict[str, int] = {}
    for layer in layers:
        more = {name: sizes.get(name, 0) for name in wanted.get(layer, ())}
        if group and sum({**held, **more}.values()) > most:
            yield group
            group, held = [], {}
        group.append(layer)
        held.update(more)
    if group:
        yield group


def _taken(session: Any, feed: Values) -> Values:
    takes = {port.name for port in (*session.inputs, *session.overridable)}
    return {name: value for name, value in feed.items() if name in takes}


def _apart(one: Array, other: Array) -> Array:
    """Their difference, exact enough for float16 and bfloat16, too."""
    wide = np.float64 if other.dtype == np.float64 else np.float32
    found: Array = one.astype(wide) - other.astype(wide)
    return found


def _empty(layer: Layer, note: str) -> Row:
    nothing = Curve(())
    return Row(layer.name, layer.op, layer.nodes, layer.shape, nothing, nothing, {}, {}, {}, False, note)
