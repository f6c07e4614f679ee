"""The normal equations of a layer whose result is added to something, or is several results of the original in one."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.analysis.layer_fit import LayerFit

Array = np.ndarray[Any, Any]


class ResidualFit(LayerFit):
    """As `LayerFit`, given the data, the sum in another model, and what the result is added to now.

    The layer should make the difference, and so also make up for what is wrong with the other addend.
    """

    @property
    def key(self) -> str:
        return f"residual {super().key}"

    def update(self, *values: Array) -> None:
        data, total, other = values
        axis = self.channel_axis
        if self.kept is not None and self.kept.size and total.ndim and total.shape[axis] > self.kept.max():
            total = np.take(total, self.kept, axis)
        if total.shape != other.shape:
            self.trouble = self.trouble or f"the sum in the original has shape {total.shape}, and here {other.shape}"
            return
        kept, self.kept = self.kept, None
        with np.errstate(over="ignore", invalid="ignore"):
            super().update(data, np.subtract(total, other, dtype=np.float32))
        self.kept = kept


class JoinedFit(LayerFit):
    """As `LayerFit`, given the data and the parts that lie side by side in the result, as several layers made them."""

    @property
    def key(self) -> str:
        return f"joined {super().key}"

    def update(self, *values: Array) -> None:
        data, *parts = values
        if len({part.shape[:-1] for part in parts}) != 1:
            self.trouble = self.trouble or "its parts have different shapes in the original"
            return
        super().update(data, np.concatenate(parts, axis=-1))
