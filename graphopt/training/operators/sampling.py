"""Sampling of images at given places."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Operators, Run

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def _sample(call: Call) -> Run:
    mode = call.text("mode", "linear")
    mode, edge = _MODES.get(mode, mode), call.text("padding_mode", "zeros")
    corners = bool(call.integer("align_corners"))

    def run(x: Tensor, grid: Tensor) -> Tensor:
        if mode == "bicubic" and x.dim() != 4:
            raise call.refuse("cubic sampling of volumes is not known here")
        return functional.grid_sample(x, grid.to(x.dtype), mode, edge, corners)

    return run


def _affine(call: Call) -> Run:
    corners = bool(call.integer("align_corners"))
    return lambda theta, size: functional.affine_grid(theta, size.tolist(), corners)


OPERATORS: Operators = {
    "GridSample": [(16, _sample)],
    "AffineGrid": [(20, _affine)],
}
