"""The laws of a pass, each one check that can fail on its own."""

from __future__ import annotations

from collections.abc import Collection

from graphopt.contract import Contract
from graphopt.pipeline.gate import Gate
from graphopt.pipeline.protocol import Part
from graphopt.testing.breach import LawBroken
from graphopt.testing.equality import Differences, check_outputs
from graphopt.testing.links import check_links
from graphopt.testing.signature import check_signature
from graphopt.testing.trial import Made, Trial, UpTo
from graphopt.testing.validity import invalid


def check_laws(
    trial: Trial,
    made: Made,
    changes: Collection[Part] = (),
    grows: bool = False,
    gated: Gate | None = None,
) -> Differences:
    """Hold what a pass made to every law; LawBroken for the first that does not hold.

    Returns how far the outputs are from the original's, per feed and output, with no entries for a
    model that did not change. `gated` is the gate that `made` ran with, if any.
    """
    check_honest(trial, made)
    check_links(made.outcome.graph)
    check_valid(made.data)
    check_signature(trial.before, made.proto, changes)
    if not grows:
        check_size(trial, made)
    check_deterministic(trial, made, gated)
    check_refusals(trial)
    if made.data == trial.data:
        return [{} for _ in trial.expected]
    if gated is None:
        if trial.pipeline.contract is not Contract.LOSSY:
            check_idempotent(trial, made)
        check_half(trial, made)
    return check_outputs(trial, made.data)


def check_valid(data: bytes) -> None:
    """The result passes onnx's full checker, types and shapes inferred strictly."""
    fault = invalid(data)
    if fault:
        raise LawBroken("valid", f"the result of the pass is not a valid model: {fault}")


def check_honest(trial: Trial, made: Made) -> None:
    """A pass that counts no rewrite leaves the bytes as they were; one that counts some does not."""
    changed = made.data != trial.data
    if changed and not made.outcome.rewrites:
        raise LawBroken("honest", "the pass reports no rewrite, but the bytes of the model changed")
    if not changed and made.outcome.rewrites:
        raise LawBroken("honest", f"the pass reports {made.outcome.rewrites} rewrites, but the model is as it was")


def check_size(trial: Trial, made: Made) -> None:
    """The file of an EXACT or ROUNDING result is no larger than the original's."""
    old, new = len(trial.data), len(made.data)
    if trial.pipeline.contract is not Contract.LOSSY and new > old:
        raise LawBroken("size", f"the model grew from {old} to {new} bytes")


def check_deterministic(trial: Trial, made: Made, gate: Gate | None = None) -> None:
    """The same model and options give the same bytes and the same remarks."""
    again = trial.run(gate)
    if again.data != made.data:
        raise LawBroken("deterministic", "two runs of the pass on one model gave different bytes")
    if again.outcome.remarks != made.outcome.remarks:
        raise LawBroken("deterministic", "two runs of the pass on one model gave different remarks")


def check_idempotent(trial: Trial, made: Made) -> None:
    """Run on its own result, the pass finds nothing to do."""
    again = trial.run(data=made.data)
    if again.outcome.rewrites:
        first = next(one for one in again.outcome.remarks if one.kind == "applied")
        raise LawBroken(
            "idempotent", f"run on its own result, the pass applies {first.rule!r} to {first.op} {first.node!r}"
        )
    if again.data != made.data:
        raise LawBroken("idempotent", "run on its own result, the pass changes bytes")


def check_refusals(trial: Trial) -> None:
    """A rewrite that the gate refuses is not carried out: with all refused, nothing changes."""
    shut = trial.run(UpTo(0))
    if shut.data != trial.data:
        raise LawBroken("gated", "with every rewrite refused by the gate the pass still changed the model")


def check_half(trial: Trial, made: Made) -> None:
    """Rewrites stand alone: the first half of them gives a model that is valid and holds too."""
    total = made.outcome.rewrites
    if total < 2:
        return
    half = trial.run(UpTo(total // 2))
    check_links(half.outcome.graph)
    try:
        check_valid(half.data)
        check_outputs(trial, half.data)
    except LawBroken as broken:
        raise LawBroken("gated", f"with only the first {total // 2} of {total} rewrites: {broken}") from None
