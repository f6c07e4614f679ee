"""Whether outputs hold, by the contract of what ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto

from graphopt.contract import Contract
from graphopt.ir.schema import draws_randomness
from graphopt.runtime.failure import WorkerFailure
from graphopt.testing.breach import LawBroken
from graphopt.testing.running import USUAL, Results, outputs_of
from graphopt.validation.compare import Difference, compare, same_bits, unsettled

_FACTOR = 8.0  # how far beyond the measured noise a ROUNDING pass may go
_FLOOR = 2.0**-20  # of an output's RMS


def check_outputs(
    contract: Contract, original: bytes, result: bytes, feeds: Sequence[Mapping[str, Any]], expected: Results
) -> list[dict[str, Difference]]:
    """Run `result` on `feeds` and hold its outputs to `expected`, those of `original`.

    EXACT: the same bits, NaN payloads aside. ROUNDING: the scaled error of each output within 8
    times what the original's own outputs move by when onnxruntime optimizes it and when its
    float inputs are nudged by an ulp (at least 2^-20), decisions equal wherever they survived
    that. LOSSY: types and shapes are kept and no NaN or infinity appears. Outputs of a model that
    draws unseeded random numbers are held to type and shape only.

    Returns how far each output is from the expected one, per feed. Raises LawBroken.
    """
    try:
        actual = outputs_of(result, feeds)
    except WorkerFailure as failure:
        raise LawBroken("outputs", f"the result of the pass does not run: {failure}") from None
    random = draws(ModelProto.FromString(original))
    found: list[dict[str, Difference]] = []
    for index, (old, new) in enumerate(zip(expected, actual, strict=True)):
        found.append({name: compare(old[name], new[name]) for name in old})
        for name, difference in found[-1].items():
            reason = difference.problem
            if not reason and not random:
                if contract is Contract.EXACT:
                    reason = "" if same_bits(old[name], new[name]) else _bits(difference)
                elif difference.nonfinite:
                    reason = f"has {difference.nonfinite} NaN or infinite elements where the original has none"
                elif contract is Contract.ROUNDING:
                    reason = _rounding(original, feeds, index, name, old[name], new[name], difference)
            if reason:
                raise LawBroken("outputs", f"output {name!r} {reason} (on feed {index}, contract {contract})")
    return found


def draws(proto: ModelProto) -> bool:
    """Whether any operator of the model draws random numbers that no seed fixes."""
    pending: list[NodeProto] = [*proto.graph.node, *(node for one in proto.functions for node in one.node)]
    while pending:
        node = pending.pop()
        training = None  # what a third input of Dropout says is not looked up: it may be true
        if draws_randomness(node.op_type, node.domain, sum(map(bool, node.input)), training) and not any(
            one.name == "seed" for one in node.attribute
        ):
            return True
        for attribute in node.attribute:
            pending.extend(attribute.g.node)
            pending.extend(inner for graph in attribute.graphs for inner in graph.node)
    return False


def _bits(difference: Difference) -> str:
    count = f"{difference.differing} of {difference.elements} elements"
    return f"differs from the original in {count}, by at most {difference.peak:g}"


def _rounding(
    original: bytes, feeds: Sequence[Mapping[str, Any]], index: int, name: str, old: Any, new: Any, found: Difference
) -> str:
    variants = _noise(original, feeds)
    if found.kind != "float":
        open_ = [unsettled(old, variant[index][name]) for variant in variants]
        moved = unsettled(old, new)
        allowed = {int(place) for places in open_ if places is not None for place in places}
        wrong = sum(int(place) not in allowed for place in (moved if moved is not None else ()))
        return f"differs from the original in {wrong} elements that rounding does not decide" if wrong else ""
    bound = _FACTOR * max([_FLOOR, *(compare(old, variant[index][name]).scaled for variant in variants)])
    if found.scaled <= bound:
        return ""
    return f"differs from the original by {found.scaled:.3g} of its RMS, and its rounding noise allows {bound:.3g}"


def _noise(original: bytes, feeds: Sequence[Mapping[str, Any]]) -> list[Results]:
    """The original's outputs under changes that mean nothing over the reals."""
    up, down = ([_nudged(one, way) for one in feeds] for way in (np.inf, -np.inf))
    return [outputs_of(original, feeds, USUAL), outputs_of(original, up), outputs_of(original, down)]


def _nudged(feeds: Mapping[str, Any], way: float) -> dict[str, Any]:
    def nudge(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype in (np.float16, np.float32, np.float64):
            return np.nextafter(value, value.dtype.type(way))
        return value

    return {name: nudge(value) for name, value in feeds.items()}
