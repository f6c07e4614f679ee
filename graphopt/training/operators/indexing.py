"""Operators that look values up by index."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Operators, Run


def _gather(call: Call) -> Run:
    axis = call.integer("axis")

    def run(x: Tensor, indices: Tensor) -> Tensor:
        along = axis + x.dim() if axis < 0 else axis
        size = x.shape[along]
        if indices.dim() == 0:
            return x.select(along, int(indices.item()))
        places = torch.where(indices < 0, indices + size, indices)
        if along == 0 and x.dim() == 2 and x.is_floating_point():
            return functional.embedding(places, x)  # whose gradient is much faster than of index_select
        shape = (*x.shape[:along], *indices.shape, *x.shape[along + 1 :])
        return x.index_select(along, places.reshape(-1)).reshape(shape)

    return run


OPERATORS: Operators = {
    "Gather": [(1, _gather)],
}
