"""One operator call as the functions that make its computation see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from graphopt.training.refusal import Unsupported

if TYPE_CHECKING:
    import torch

    from graphopt.training.compiled import Body

Run = Callable[..., Any]
"""From the inputs (None for one that is left out) to the output, or a tuple of outputs where there are several."""


@dataclass(frozen=True)
class Call:
    """An operator, its attributes and which of its inputs and outputs are used.

    `version` is the opset of the operator's domain; `compute` the type that stands for every float
    type of the model, or None; `kinds` are the element types of the inputs as far as the model says them.
    """

    op: str
    domain: str
    version: int
    label: str
    attrs: Mapping[str, Any]
    given: tuple[bool, ...]
    wanted: tuple[bool, ...]
    compute: torch.dtype | None = None
    bodies: Mapping[str, Body] = field(default_factory=dict)
    kinds: tuple[int, ...] = ()

    def integer(self, name: str, default: int = 0) -> int:
        """An attribute that is one integer (or a truth value as one)."""
        return int(self.attrs.get(name, default))

    def number(self, name: str, default: float = 0.0) -> float:
        """An attribute that is one float."""
        return float(self.attrs.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        """An attribute that is a string."""
        value = self.attrs.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that is a list of integers; None where it is left out."""
        value = self.attrs.get(name)
        return None if value is None else tuple(int(one) for one in value)

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """An attribute that is a list of floats; None where it is left out."""
        value = self.attrs.get(name)
        return None if value is None else tuple(float(one) for one in value)

    def texts(self, name: str) -> tuple[str, ...] | None:
        """An attribute that is a list of strings; None where it is left out."""
        value = self.attrs.get(name)
        return None if value is None else tuple(one.decode() if isinstance(one, bytes) else str(one) for one in value)

    def has(self, index: int) -> bool:
        """Whether input `index` is given."""
        return index < len(self.given) and self.given[index]

    def wants(self, index: int) -> bool:
        """Whether output `index` is read or may be."""
        return index < len(self.wanted) and self.wanted[index]

    def kind(self, index: int) -> int:
        """ONNX's number of the element type of input `index`, 0 where the model does not say."""
        return self.kinds[index] if index < len(self.kinds) else 0

    def refuse(self, why: str) -> Unsupported:
        """The error that says why this very call cannot be computed."""
        domain = "" if self.domain in ("", "ai.onnx") else f"{self.domain}."
        return Unsupported(f"the operator {domain}{self.op} (node {self.label!r}) cannot be trained through: {why}")


@dataclass(frozen=True)
class Scoped:
    """A function of a call with bodies: it gets the values of the whole program first, then the inputs."""

    run: Run


Maker = Callable[[Call], Run | Scoped]
"""Makes the function of a call; what depends on attributes only is worked out here, once."""


Operators = Mapping[str, Sequence[tuple[int, Maker]]]
"""For each operator, from which version of its domain on which maker is right, ascending."""


def same(function: Run) -> Maker:
    """A maker for an operator without attributes."""
    return lambda call: function
