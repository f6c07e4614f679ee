"""Weights as training sees them: free numbers, of which what the model stores is made at each step.

Zeros that have to stay are put in behind the free numbers, and integers by rounding them; the gradient passes the
rounding as if it were not there (straight-through estimation), and stops where a code is at its limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]

_EXACT = 1 << 20  # codes beyond are held in 64 bits, so that halves between them are exact
_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass
class Learnable:
    """One weight. `values` are floats, or codes where there is a `scale`: `(codes - zero) * scale`.

    `axis`, `block`: as of a `Grid`. `kind` is the float type that it is stored in, or that a scale is.
    """

    name: str
    values: Array
    kind: str = "float32"
    masked: bool = False
    decays: bool = False
    scale: Array | None = None
    zero: Array | None = None
    axis: int | None = None
    block: int = 0
    low: int = 0
    high: int = 0
    trains_scale: bool = False
    near: Array | None = None
    free: torch.Tensor = field(init=False, repr=False)
    stretch: torch.Tensor | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        large = self.scale is not None and self.values.size > 0 and int(np.abs(self.values).max()) > _EXACT
        wide = torch.float64 if self.kind == "float64" or large else torch.float32
        self._keep: torch.Tensor | None = None
        if self.scale is None:
            start = torch.tensor(np.asarray(self.values, np.float64)).to(wide)
            zeros = self.values == 0
        else:
            codes, step, zero = self._expanded()
            start = torch.tensor(codes - zero).to(wide)
            zeros = codes == zero
            if self.near is not None:
                # Where in its cell the number was before it was rounded: the code stays the same.
                inside = np.clip(self.near / np.where(step == 0, 1, step), codes - zero - 0.49, codes - zero + 0.49)
                start = torch.tensor(np.where(zeros & self.masked, 0.0, inside)).to(wide)
            self._step = torch.tensor(np.broadcast_to(step, codes.shape).copy()).to(wide)
            self._zero = torch.tensor(np.broadcast_to(zero, codes.shape).copy()).to(wide)
            if self.trains_scale:
                self.stretch = torch.zeros(self.scale.shape, dtype=wide, requires_grad=True)
        if self.masked:
            self._keep = torch.tensor(~zeros)
        self.free = start.requires_grad_(True)
        rms = float(torch.sqrt(torch.mean(torch.square(start.detach())))) if start.numel() else 0.0
        self.size = max(rms, 1e-3)
        """What a step is a share of."""

    @property
    def tensors(self) -> list[torch.Tensor]:
        """What is trained."""
        return [self.free] if self.stretch is None else [self.free, self.stretch]

    def value(self) -> torch.Tensor:
        """The weight as the model would have it, with a gradient."""
        free = self.free if self._keep is None else torch.where(self._keep, self.free, 0.0)
        if self.scale is None:
            kind = _TYPES.get(self.kind)
            if kind is None or kind == torch.float64:
                return free
            return free + (free.detach().to(kind).to(free.dtype) - free.detach())
        steps = self._steps(free)
        return steps * (self._step if self.stretch is None else self._step * self._stretched())

    def stored(self) -> tuple[Array, Array | None]:
        """What the model is to store: floats, or codes (as integers), and scales where they were trained."""
        with torch.no_grad():
            if self.scale is None:
                free = self.free if self._keep is None else torch.where(self._keep, self.free, 0.0)
                found = np.array(free.numpy())
                # Zeros that stay have the sign that they had.
                return (np.where(self.values == 0, self.values, found) if self.masked else found), None
            free = self.free if self._keep is None else torch.where(self._keep, self.free, 0.0)
            codes = (self._steps(free) + self._zero).numpy().astype(np.int64)
            if self.stretch is None:
                return codes, None
            return codes, self.scale * np.exp(self.stretch.numpy())

    def _steps(self, free: torch.Tensor) -> torch.Tensor:
        """How many steps of the grid the free numbers come to, codes less zero point."""
        inside = torch.minimum(torch.maximum(free, self.low - self._zero), self.high - self._zero)
        return inside + (torch.round(inside.detach()) - inside.detach())

    def _stretched(self) -> torch.Tensor:
        assert self.stretch is not None and self.scale is not None
        return spread(torch.exp(self.stretch), self.axis, self.block, self.values.shape)

    def _expanded(self) -> tuple[Array, Array, Array]:
        """Codes, steps and zero points, element by element, in float64."""
        assert self.scale is not None
        codes = np.asarray(self.values, np.float64)
        step = _spread(np.asarray(self.scale, np.float64), self.axis, self.block, codes.shape)
        zero = np.zeros(()) if self.zero is None else np.asarray(self.zero, np.float64)
        return codes, step, np.broadcast_to(_spread(zero, self.axis, self.block, codes.shape), codes.shape)


def spread(scale: torch.Tensor, axis: int | None, block: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Scales as they apply to the elements of a tensor of a shape, ready to be broadcast."""
    if axis is None or scale.ndim == 0:
        return scale.reshape(())
    if block:
        return torch.repeat_interleave(scale, block, dim=axis).narrow(axis, 0, shape[axis])
    return scale.reshape([-1 if at == axis else 1 for at in range(len(shape))])


def _spread(scale: Array, axis: int | None, block: int, shape: tuple[int, ...]) -> Array:
    return np.asarray(spread(torch.tensor(scale), axis, block, shape).numpy())
