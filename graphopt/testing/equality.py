"""Whether outputs hold, by the contract of what ran."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto

from graphopt.contract import Contract
from graphopt.ir.schema import draws_randomness
from graphopt.runtime.failure import WorkerFailure
from graphopt.testing.breach import LawBroken
from graphopt.testing.running import USUAL, Results, outputs_of
from graphopt.testing.trial import Trial
from graphopt.validation.compare import Difference, compare, same_bits, unsettled
from graphopt.validation.noise import floor_of

if TYPE_CHECKING:
    from graphopt.runtime.client import Value

Differences = list[dict[str, Difference]]

_FACTOR = 8.0  # how far beyond the measured noise a ROUNDING pass may go


def check_outputs(trial: Trial, result: bytes) -> Differences:
    """Run `result` on the trial's feeds and hold its outputs to the original's.

    EXACT: the same bits, NaN payloads aside. ROUNDING: the scaled error of each output within 8
    times what the original's own outputs move by when onnxruntime optimizes it and when its
    float inputs are nudged by an ulp (at least 2^-20, more for types of 16 bits), decisions equal
    wherever they survived that. LOSSY: types and shapes are kept and no NaN or infinity appears.
    Outputs of a model that draws unseeded random numbers are held to type and shape only.

    Returns how far each output is from the expected one, per feed. Raises LawBroken.
    """
    if not trial.feeds:
        return []
    try:
        actual = outputs_of(result, trial.feeds)
    except WorkerFailure as failure:
        raise LawBroken("outputs", f"the result of the pass does not run: {failure}") from None
    random = draws(trial.before)
    found: Differences = []
    for index, (old, new) in enumerate(zip(trial.expected, actual, strict=True)):
        found.append({name: compare(old[name], new[name]) for name in old if name in new})
        for name, difference in found[-1].items():
            reason = difference.problem
            if not reason and not random:
                reason = _reason(trial, index, name, new[name], difference)
            if reason:
                where = f"(on feed {index}, contract {trial.pipeline.contract})"
                raise LawBroken("outputs", f"output {name!r} {reason} {where}")
    return found


def _reason(trial: Trial, index: int, name: str, new: Value, found: Difference) -> str:
    """How an output breaks the contract, as the rest of a sentence about it; "" when it does not."""
    contract, old = trial.pipeline.contract, trial.expected[index][name]
    if contract is Contract.EXACT:
        if same_bits(old, new):
            return ""
        count = f"{found.differing} of {found.elements} elements"
        return f"differs from the original in {count}, by at most {found.peak:g}"
    if found.nonfinite:
        return f"has {found.nonfinite} elements that are NaN or infinite in it or in the original, but not in both"
    return _rounding(trial, index, name, new, found) if contract is Contract.ROUNDING else ""


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


def _rounding(trial: Trial, index: int, name: str, new: Value, found: Difference) -> str:
    old = trial.expected[index][name]
    variants = [variant[index][name] for variant in _noise(trial)]
    if found.kind != "float":
        open_ = [places for variant in variants if (places := unsettled(old, variant)) is not None]
        moved = unsettled(old, new)
        allowed = {int(place) for places in open_ for place in places}
        wrong = sum(int(place) not in allowed for place in (moved if moved is not None else ()))
        return f"differs from the original in {wrong} elements that rounding does not decide" if wrong else ""
    bound = _FACTOR * max([floor_of(old), *(compare(old, variant).scaled for variant in variants)])
    if found.scaled <= bound:
        return ""
    return f"differs from the original by {found.scaled:.3g} of its RMS, and its rounding noise allows {bound:.3g}"


def _noise(trial: Trial) -> list[Results]:
    """The original's outputs under changes that mean nothing over the reals."""
    key = f"noise {len(trial.feeds or ())}"  # of one model, the same feeds without some
    if key not in trial.memory:
        trial.memory[key] = _measured_noise(trial)
    found: list[Results] = trial.memory[key]
    return found


def _measured_noise(trial: Trial) -> list[Results]:
    feeds = trial.feeds or ()
    up, down = ([_nudged(one, way) for one in feeds] for way in (np.inf, -np.inf))
    nudged = [outputs_of(trial.data, up), outputs_of(trial.data, down)]
    if not trial.memory.get("usual", True):
        return nudged
    try:
        return [outputs_of(trial.data, feeds, USUAL), *nudged]
    except WorkerFailure:  # there are models that only run when nobody looks at them
        return nudged


def _nudged(feeds: Mapping[str, Any], way: float) -> dict[str, Any]:
    def nudge(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype in (np.float16, np.float32, np.float64):
            return np.nextafter(value, value.dtype.type(way))
        return value

    return {name: nudge(value) for name, value in feeds.items()}
