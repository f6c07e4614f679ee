"""Products of matrices."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.training.call import Call, Operators, Run, same


def gemm(call: Call) -> Run:
    """The product of two matrices and a summand, as a call says."""
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    left, right = bool(call.integer("transA")), bool(call.integer("transB"))

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a = a.t() if left else a
        if right and alpha == beta == 1.0 and c is not None and c.dim() == 1:
            fused: Tensor = functional.linear(a, b, c) if c.shape[0] == b.shape[0] else torch.mm(a, b.t()) + c
            return fused
        product: Tensor = torch.mm(a, b.t() if right else b)
        product = product if alpha == 1.0 else product * alpha
        if c is None:
            return product
        total: Tensor = product + (c if beta == 1.0 else c * beta)
        return total

    return run


def _einsum(call: Call) -> Run:
    equation = call.text("equation").replace(" ", "")
    return lambda *inputs: torch.einsum(equation, *inputs)


def _det(x: Tensor) -> Tensor:
    found: Tensor = torch.linalg.det(x)
    return found


OPERATORS: Operators = {
    "MatMul": [(1, same(torch.matmul))],
    "Gemm": [(7, gemm)],
    "Einsum": [(12, _einsum)],
    "Det": [(11, same(_det))],
}
