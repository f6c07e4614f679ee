"""AdamW, with all of its state in tensors that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_FIRST, _SECOND, _LEAST = 0.9, 0.999, 1e-12


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter, 2019); a step size and a decay for each tensor."""

    def __init__(self, tensors: Sequence[torch.Tensor], sizes: Sequence[float], decays: Sequence[float]) -> None:
        self._tensors, self._sizes, self._decays = list(tensors), list(sizes), list(decays)
        self.first = [torch.zeros_like(one) for one in tensors]
        self.second = [torch.zeros_like(one) for one in tensors]

    def step(self, number: int, rate: float) -> None:
        """Step `number`, from 1, and forget the gradients; `rate` is a share of the sizes."""
        with torch.no_grad():
            for one, size, decay, mean, square in zip(
                self._tensors, self._sizes, self._decays, self.first, self.second, strict=True
            ):
                if one.grad is None:
                    continue
                mean.lerp_(one.grad, 1 - _FIRST)
                square.mul_(_SECOND).addcmul_(one.grad, one.grad, value=1 - _SECOND)
                if decay:
                    one.mul_(1 - rate * decay)
                scale = (square / (1 - _SECOND**number)).sqrt_().add_(_LEAST)
                one.addcdiv_(mean, scale, value=-rate * size / (1 - _FIRST**number))
                one.grad = None
