"""How far an output of the student is from the teacher's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as functional

Kind = Literal["kl", "mse", "cosine", "labels"]

_LEAST = 1e-20  # probabilities below are as good as none


@dataclass(frozen=True)
class Term:
    """One part of the loss: the value `name` of the student is to be that of the teacher, or to give the labels that
    are kept as the target `against`.

    `probabilities`: it is no logits, but what softmax made of them. `energy` is the mean square of the teacher's.
    """

    name: str
    kind: Kind
    weight: float = 1.0
    probabilities: bool = False
    energy: float = 1.0
    temperature: float = 1.0
    is_feature: bool = False
    against: str = ""

    @property
    def target(self) -> str:
        """The name of what it is held against."""
        return self.against or self.name

    def of(self, student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, int]:
        """The sum of the loss, and how many it is the sum of: elements (mse), else vectors."""
        student = student.to(torch.float32)
        if self.kind == "labels":
            logits = student.clamp_min(_LEAST).log() if self.probabilities else student
            return functional.cross_entropy(logits, teacher.to(torch.int64), reduction="sum"), teacher.numel()
        teacher = teacher.to(torch.float32)
        if self.kind == "mse":
            return torch.square(student - teacher).sum() / self.energy, teacher.numel()
        count = teacher.numel() // max(teacher.shape[-1], 1)
        if self.kind == "cosine":
            return (1 - functional.cosine_similarity(student, teacher, dim=-1)).sum(), count
        if self.probabilities:
            student, teacher = student.clamp_min(_LEAST).log(), teacher.clamp_min(_LEAST).log()
        wanted = torch.log_softmax(teacher / self.temperature, -1)
        found = torch.log_softmax(student / self.temperature, -1)
        apart = functional.kl_div(found, wanted, reduction="sum", log_target=True)
        return apart * self.temperature**2, count

    def words(self, loss: float) -> str:
        """A mean loss in the words that users know it by."""
        if self.kind == "mse":
            return f"{-10 * math.log10(loss):.1f} dB" if loss > 0 else "inf dB"
        names = {"kl": "KL", "cosine": "1 - cosine", "labels": "cross-entropy"}
        return f"{names[self.kind]} {loss:.3g}"
