"""The training itself: steps on samples, measurements on others, the best weights kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphopt.analysis.lesson import Course
from graphopt.training import checkpoint
from graphopt.training.adamw import AdamW
from graphopt.training.learnable import Learnable
from graphopt.training.losses import Term
from graphopt.training.schedule import drawn, found_rate, held_out, rate_at
from graphopt.training.shelf import Batch, Samples, batches

Student = Callable[[Mapping[str, Any], Sequence[str], Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]
"""Values by name, from feeds, the names of the values and the weights."""

_MEASURED = 20  # times in all
_SELDOM = 50  # steps between two times at most


@dataclass
class Outcome:
    """How a training went. `before` and `after` are the loss on the samples that were held out, by term too; `best` is
    the step after which it was smallest, 0 when none made it smaller."""

    before: float
    after: float
    parts: dict[str, tuple[float, float]]
    best: int
    steps: int
    seconds: float
    curve: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class _State:
    """The figures of a training on its way; `stale` measurements were no better than the best before."""

    before: float
    after: float
    parts: dict[str, float]
    step: int = 0
    best: int = 0
    stale: int = 0
    elapsed: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)


class Training:
    """One training of `weights` of a student. `say` hears (step, loss on samples of the step, loss on those that are
    held out); `kept` is the file of the checkpoint, written at most every `seldom` seconds."""

    def __init__(
        self,
        student: Student,
        weights: Sequence[Learnable],
        terms: Sequence[Term],
        samples: Samples,
        course: Course,
        say: Callable[[int, float, float], None] = lambda *_: None,
        kept: Path | None = None,
        seldom: float = 15.0,
    ) -> None:
        self.student, self.weights, self.samples, self.course = student, list(weights), samples, course
        self._say, self._kept, self._seldom = say, kept, seldom
        self._rate = course.rate
        self._tensors = [one for weight in weights for one in weight.tensors]
        sizes = [size for one in weights for size in (one.size, 1.0)[: len(one.tensors)]]
        decays = [d for one in weights for d in (course.decay * one.decays, 0.0)[: len(one.tensors)]]
        self._optimizer = AdamW(self._tensors, sizes, decays)
        self.trained, self.held = held_out(len(samples), course.held_out)
        self.terms = [self._measured(term) for term in terms]

    def run(self) -> Outcome:
        """Train, and leave the weights as they were best. Raises FloatingPointError where the loss is no number from
        the start."""
        course, begun = self.course, time.monotonic()
        parts = self._measure()
        state = _State(self.total(parts), self.total(parts), parts)
        if not math.isfinite(state.before):
            raise FloatingPointError("the loss is no number before the first step")
        self._rate = self.course.rate or found_rate(state.before)
        self._best = [one.detach().clone() for one in self._tensors]
        state = self._recalled() or state
        begun, last = begun - state.elapsed, begun
        every = max(1, min(course.steps // _MEASURED, _SELDOM))
        while state.step < course.steps and not 0 < course.patience <= state.stale:
            loss = self._step(state.step, self._share(time.monotonic() - begun))
            state.step += 1
            state.elapsed = time.monotonic() - begun
            over = state.step == course.steps or self._share(state.elapsed) >= 1 or not math.isfinite(loss)
            if state.step % every and not over:
                continue
            self._compare(state)
            self._say(state.step, loss, state.curve[-1][1])
            if over:
                break
            if self._kept is not None and time.monotonic() - last >= self._seldom:
                last = time.monotonic()
                self._keep(state)
        with torch.no_grad():
            for one, best in zip(self._tensors, self._best, strict=True):
                one.copy_(best)
        return Outcome(
            state.before,
            state.after,
            {name: (parts[name], state.parts[name]) for name in parts},
            state.best,
            state.step,
            state.elapsed,
            state.curve,
        )

    def _share(self, elapsed: float) -> float:
        """How much of the time that there is has gone by."""
        return elapsed / (self.course.minutes * 60) if self.course.minutes else 0.0

    def _step(self, step: int, late: float) -> float:
        """One step, counted from 0; the loss that it began with. `late` is the share of the time that has gone."""
        course = self.course
        chosen = drawn(self.trained, step, course.batch, course.seed)
        pieces = batches(self.samples, chosen, self.samples.together, course.batch)
        counts = self._counts(pieces)
        total = 0.0
        for piece in pieces:
            loss = self._loss(piece, counts)
            loss.backward()
            total += float(loss.detach())
        if math.isfinite(total):
            progress = max((step + 0.5) / course.steps, late)
            self._optimizer.step(step + 1, self._rate * rate_at(progress, course.warm_up))
        return total

    def _counts(self, pieces: Sequence[Batch]) -> dict[str, int]:
        """Of how many elements, or vectors, each term is the mean."""
        found: dict[str, int] = {}
        for term in self.terms:
            sizes = [piece.targets[term.target] for piece in pieces]
            vectors = term.kind in ("kl", "cosine")
            found[term.target] = sum(one.size // (max(one.shape[-1], 1) if vectors else 1) for one in sizes)
        return found

    def _outputs(self, piece: Batch) -> Mapping[str, torch.Tensor]:
        values = {weight.name: weight.value() for weight in self.weights}
        return self.student(piece.inputs, list(dict.fromkeys(term.name for term in self.terms)), values)

    def _loss(self, piece: Batch, counts: Mapping[str, int]) -> torch.Tensor:
        found = self._outputs(piece)
        loss = torch.zeros(())
        for term in self.terms:
            part, _ = term.of(found[term.name], _tensor(piece.targets[term.target]))
            loss = loss + part * (term.weight / max(counts[term.target], 1))
        return loss

    def _measure(self) -> dict[str, float]:
        """The mean of each term on the samples that are held out."""
        sums = {term.target: (0.0, 0) for term in self.terms}
        for at in range(0, len(self.held), self.course.batch):
            some = self.held[at : at + self.course.batch]
            for piece in batches(self.samples, some, self.samples.together, self.course.batch):
                with torch.no_grad():
                    found = self._outputs(piece)
                for term in self.terms:
                    part, count = term.of(found[term.name].detach(), _tensor(piece.targets[term.target]))
                    sums[term.target] = (sums[term.target][0] + float(part), sums[term.target][1] + count)
        return {name: total / max(count, 1) for name, (total, count) in sums.items()}

    def _compare(self, state: _State) -> None:
        """Measure, and keep the weights if they are better than all before."""
        parts = self._measure()
        loss = self.total(parts)
        state.curve.append((state.step, loss))
        state.stale += 1
        if loss < state.after:
            state.after, state.parts, state.best, state.stale = loss, parts, state.step, 0
            self._best = [one.detach().clone() for one in self._tensors]

    def total(self, parts: Mapping[str, float]) -> float:
        """The loss that is to become small. Of features nothing is kept back: they are means to an end."""
        return sum(term.weight * parts[term.target] for term in self.terms if not term.is_feature)

    def _measured(self, term: Term) -> Term:
        """The term with the mean square of what the teacher gives for it."""
        if term.kind != "mse":
            return term
        energy, count = 0.0, 0
        for index in range(len(self.samples)):
            target = self.samples[index].targets[term.name].astype(np.float64)
            energy, count = energy + float(np.square(target).sum()), count + target.size
        return replace(term, energy=energy / count if count and energy > 0 else 1.0)

    def _all(self) -> dict[str, torch.Tensor]:
        """Every tensor that changes, by a name."""
        groups = {"free": self._tensors, "best": self._best}
        groups |= {"first": self._optimizer.first, "second": self._optimizer.second}
        return {f"{name}.{at}": one for name, several in groups.items() for at, one in enumerate(several)}

    def _keep(self, state: _State) -> None:
        assert self._kept is not None
        arrays = {name: one.detach().numpy() for name, one in self._all().items()}
        checkpoint.write(self._kept, arrays, asdict(state))

    def _recalled(self) -> _State | None:
        """Where a training was that was stopped; None when there is nothing of it."""
        found = checkpoint.read(self._kept) if self._kept is not None else None
        if found is None:
            return None
        arrays, figures = found
        tensors = self._all()
        if any(name not in arrays or arrays[name].shape != tuple(one.shape) for name, one in tensors.items()):
            return None
        with torch.no_grad():
            for name, one in tensors.items():
                one.copy_(torch.tensor(arrays[name]))
        curve = [(int(step), float(loss)) for step, loss in figures.pop("curve")]
        return _State(curve=curve, **figures)


def _tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.tensor(array if array.dtype.kind in "fiub" else array.astype(np.float32))
