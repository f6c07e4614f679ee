"""What a pass asks of training, and what it gets back: plain data, so that a pass needs no autograd."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from graphopt.ir import Constant, Tensor

Array = np.ndarray[Any, Any]

Loss = Literal["auto", "kl", "mse", "cosine"]


@dataclass(frozen=True, eq=False)
class Grid:
    """How a weight is stored as integers: `(codes - zero) * scale`, the codes from `low` to `high`.

    `axis` is None for one scale in all; `block` the elements along it that share one, 0 for a scale for each
    index. `scale_held` is the tensor with the scales where these may be trained, too.
    """

    codes: Array
    scale: Array
    zero: Array | None
    axis: int | None
    block: int
    low: int
    high: int
    scale_held: Constant | None = None


@dataclass(frozen=True, eq=False)
class Trainable:
    """A weight that may be trained: `read` is what the nodes read, `held` what holds its values (or codes).

    `masked`: its zeros stay zero. `decays`: it is pulled towards zero where the user asks for that.
    `originals` are names of weights of the model as it was read that it may stand for.
    """

    read: Tensor
    held: Tensor
    values: Array
    grid: Grid | None = None
    masked: bool = False
    decays: bool = False
    originals: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of what the nodes read."""
        return self.read.name


@dataclass(frozen=True, eq=False)
class Feature:
    """An inner value that is to come near one of the original; `kept`: which of the original's channels are left."""

    value: Tensor
    original: str
    kept: tuple[tuple[int, Array], ...] = ()


@dataclass(frozen=True)
class Course:
    """How to train: all numbers that decide it.

    `steps` of AdamW on `batch` samples each, of step size `rate` (a share of each tensor's root mean square; 0 finds
    one) that rises over the first `warm_up` share of the steps and then falls as a cosine; `minutes` end it earlier
    (0: do not). `held_out` is the share of the samples that is not trained on, `patience` how many measurements on them
    without an improvement end it (0: none do).
    """

    loss: Loss = "auto"
    temperature: float = 2.0
    features: float = 0.0
    labels: float = 0.0
    steps: int = 200
    minutes: float = 0.0
    batch: int = 16
    rate: float = 0.0
    warm_up: float = 0.1
    decay: float = 0.0
    held_out: float = 0.2
    patience: int = 0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Lesson:
    """One question: train these weights so that the outputs (and features) come near the original's."""

    weights: tuple[Trainable, ...]
    features: tuple[Feature, ...] = ()
    course: Course = Course()


@dataclass(frozen=True, eq=False)
class Learnt:
    """What came of a lesson: new values (or codes) of the weights that changed, scales likewise, and figures.

    `before` and `after` are the loss on the samples that were not trained on, of the weights as they were and
    of those that are given; `steps` were taken, `best` is the one that gave them. `parts` say the loss of each
    output before and after in words.
    """

    arrays: dict[Trainable, Array]
    scales: dict[Trainable, Array]
    before: float
    after: float
    steps: int
    best: int
    seconds: float
    samples: int
    held_out: int
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
