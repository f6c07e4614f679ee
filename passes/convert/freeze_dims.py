"""Symbolic dims of the inputs become numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from graphopt.ir import Graph, Tensor
from graphopt.ir.dimensions import redeclare
from graphopt.ir.values import Dim
from graphopt.pipeline.protocol import Context, Contract, Pass, option

RULE = "freeze"
_ENTRY = re.compile(r"\s*(?P<name>.+?)\s*(?:\[(?P<axis>\d+)\])?\s*=\s*(?P<size>\d+)\s*")


@dataclass(frozen=True)
class FreezeDims(Pass):
    """Give symbolic dims of the inputs fixed sizes.

    What it does
        Precondition: an entry of `dims` is `NAME=SIZE`, and an input declares a dim called NAME; or it is
        `INPUT[AXIS]=SIZE`, and that axis of the input has no number yet. Rewrite: the inputs, the outputs,
        and whatever else is declared with that dim say SIZE. Shapes that depend on it can then be computed
        ahead of every run.

    Example
        `freeze-dims{dims=["N=1"]}`, validated on generated feeds with `--dim N=1`:
        before: inputs: float[N, 3] x    outputs: float[N, 4] y
        after:  inputs: float[1, 3] x    outputs: float[1, 4] y

    When not
        The model is to be run on other sizes too. An output whose declared dim is an expression, such
        as `2*N`, keeps it. Entries that fit no input do nothing, and a remark says so.

    Contract
        EXACT, for inputs of the sizes given. Inputs and outputs are declared differently afterwards. The
        file may grow by a byte or two for each dim that had no name.

    Source
        ONNX IR specification, "Tensor shapes" (`dim_param`, `dim_value`).
    """

    name = "freeze-dims"
    contract = Contract.EXACT
    changes = ("inputs", "outputs")
    grows = True

    dims: tuple[str, ...] = option((), "the sizes, each as NAME=SIZE or INPUT[AXIS]=SIZE")

    def __post_init__(self) -> None:
        for entry in self.dims:
            if _ENTRY.fullmatch(entry) is None:
                raise ValueError(f"dims are written as N=1 or input[0]=1, not {entry!r}")

    def run(self, graph: Graph, ctx: Context) -> None:
        for entry in self.dims:
            found = _ENTRY.fullmatch(entry)
            assert found is not None, "entries are checked when the pass is made"
            name, axis, size = found["name"], found["axis"], int(found["size"])
            if axis is None:
                _freeze_symbol(graph, ctx, name, size)
            else:
                _freeze_axis(graph, ctx, name, int(axis), size)


def _freeze_symbol(graph: Graph, ctx: Context, name: str, size: int) -> None:
    subject = next((one for one in graph.inputs if name in (one.shape or ())), None)
    if subject is None:
        if graph.inputs:
            ctx.missed(RULE, graph.inputs[0], f"no input has a dim called {name!r}")
        return
    if ctx.rewrite(RULE, subject, f"{name} = {size}"):
        redeclare(graph, lambda tensor, axis, dim: size if dim == name else dim)


def _freeze_axis(graph: Graph, ctx: Context, name: str, axis: int, size: int) -> None:
    subject = next((one for one in graph.inputs if one.name == name), None)
    shape = None if subject is None else subject.shape
    if subject is None or shape is None or axis >= len(shape):
        if graph.inputs:
            ctx.missed(RULE, subject or graph.inputs[0], f"there is no input {name!r} with an axis {axis}")
        return
    dim = shape[axis]
    if isinstance(dim, str):
        _freeze_symbol(graph, ctx, dim, size)
    elif dim is None:
        if ctx.rewrite(RULE, subject, f"axis {axis} = {size}"):
            redeclare(graph, _only(subject, axis, size))
    elif dim != size:
        ctx.missed(RULE, subject, f"axis {axis} of {name!r} is {dim} already")


def _only(subject: Tensor, place: int, size: int) -> Callable[[Tensor, int, Dim], Dim]:
    def change(tensor: Tensor, axis: int, dim: Dim) -> Dim:
        return size if tensor is subject and axis == place else dim

    return change
