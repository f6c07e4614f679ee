"""Run a pass on a model and hold it to every law on the way."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onnx import ModelProto

from graphopt.contract import Contract
from graphopt.errors import GraphoptError
from graphopt.ir import Graph
from graphopt.pipeline import Pass, Pipeline, Remark
from graphopt.pipeline.gate import Gate
from graphopt.pipeline.protocol import Part
from graphopt.testing.equality import Differences
from graphopt.testing.feeds import SPECIAL, Feeds, feeds_for
from graphopt.testing.laws import check_laws
from graphopt.testing.running import Results, outputs_of
from graphopt.testing.text import body
from graphopt.testing.trial import Trial
from graphopt.testing.validity import invalid
from graphopt.validation.signature import required_inputs


@dataclass(frozen=True)
class Applied:
    """What a pass made of a model.

    `after` is the result, `graph` the edited graph it was encoded from; `applied`, `missed` and
    `disabled` are its remarks in order. `differences` says for each feed and output how far the
    result is from the original (empty where nothing changed or nothing was run).
    """

    before: ModelProto
    after: ModelProto
    graph: Graph
    remarks: tuple[Remark, ...]
    differences: Differences = field(default_factory=list)

    @property
    def applied(self) -> tuple[Remark, ...]:
        """One remark for each rewrite that was carried out."""
        return tuple(one for one in self.remarks if one.kind == "applied")

    @property
    def missed(self) -> tuple[Remark, ...]:
        """One remark for each rewrite that nearly applied."""
        return tuple(one for one in self.remarks if one.kind == "missed")

    @property
    def disabled(self) -> tuple[Remark, ...]:
        """One remark for each rewrite that the gate refused."""
        return tuple(one for one in self.remarks if one.kind == "disabled")

    @property
    def body(self) -> str:
        """The nodes of the result as text, see `graphopt.testing.body`."""
        return body(self.after)

    def sqnr_db(self, output: str) -> float:
        """The lowest signal-to-noise ratio of an output over the feeds, in decibels; inf when equal."""
        return min((one[output].sqnr_db for one in self.differences if output in one), default=float("inf"))


def apply(
    pass_: Pass | Pipeline,
    before: ModelProto,
    /,
    *,
    feeds: Sequence[Mapping[str, Any]] | None = None,
    laws: bool = True,
    changes: Collection[Part] = (),
    grows: bool = False,
    gate: Gate | None = None,
) -> Applied:
    """Run a pass (or a pipeline) on `before` through the real manager, and check all its laws.

    The laws: the result is valid by onnx's full checker; `before` is untouched; the signature is
    kept (`changes` names the parts that the pass may change, as does the class variable
    `changes` of the pass); it counts rewrites exactly when bytes change; it does nothing on its own result
    (EXACT and ROUNDING); it is deterministic; edits are announced and refusals of the gate
    respected; half of its rewrites give a model that holds too; outputs hold under its contract
    on every feed; the file does not grow (EXACT and ROUNDING, unless `grows`, here or on the pass); all links agree.

    `feeds` are drawn from the inputs' types at two bindings of the symbolic dims unless given; an
    empty sequence leaves the outputs alone (for models that onnxruntime cannot run). `gate`
    decides which rewrites happen; the laws are then checked on what it lets through, without
    those that compare with other runs.

    Raises LawBroken for a broken law, ValueError when `before` itself is invalid or does not run.
    """
    pipeline = pass_ if isinstance(pass_, Pipeline) else Pipeline((pass_,))
    trial = Trial(pipeline, before, before.SerializeToString(), feeds)
    if laws:
        trial = _premises(trial)
    made = trial.run(gate)
    differences: Differences = []
    if laws:
        allowed = {*changes, *(part for one in pipeline.passes() for part in one.changes)}
        grows = grows or any(one.grows for one in pipeline.passes())
        differences = check_laws(trial, made, allowed, grows, gated=gate)
    return Applied(before, made.proto, made.outcome.graph, tuple(made.outcome.remarks), differences)


def remarks_of(applied: Applied, rule: str) -> tuple[Remark, ...]:
    """The remarks of one rule: applied, missed and disabled ones, in order."""
    return tuple(one for one in applied.remarks if one.rule == rule)


def assert_missed(applied: Applied, rule: str, contains: str) -> Remark:
    """Assert that `rule` was missed for a reason with the text `contains` in it; returns the remark."""
    missed = [one for one in applied.missed if one.rule == rule]
    found = next((one for one in missed if contains in one.why), None)
    said = "; ".join(f"{one.node}: {one.why}" for one in missed) or "nothing"
    assert found is not None, f"no missed {rule!r} says {contains!r}; missed were: {said}"
    return found


def _premises(trial: Trial) -> Trial:
    """The trial with feeds and what the original makes of them; ValueError where it is itself at fault."""
    fault = _invalid(trial.data)
    if fault:
        raise ValueError(f"the model under test is not valid: {fault}")
    if trial.feeds is not None and not trial.feeds:
        return trial
    try:
        if trial.feeds is not None:
            return replace(trial, expected=outputs_of(trial.data, trial.feeds))
        feeds, expected = _drawn(trial.data)
    except GraphoptError as error:
        hint = "give `feeds`, or an empty list of them to leave the outputs alone"
        raise ValueError(f"the model under test does not run ({hint}): {error}") from None
    # Infinities and NaN only say something where the same bits are promised.
    kept = [i for i in range(len(feeds)) if i != SPECIAL or trial.pipeline.contract is Contract.EXACT]
    if any("defaults" in one.changes for one in trial.pipeline.passes()):
        # Nor can the result be held to defaults that it no longer lets callers override.
        required = {one.name for one in required_inputs(trial.before)}
        kept = [i for i in kept if required.issuperset(feeds[i])]
    return replace(trial, feeds=[feeds[i] for i in kept], expected=[expected[i] for i in kept])


@functools.lru_cache(maxsize=256)
def _drawn(data: bytes) -> tuple[list[Feeds], Results]:
    """Feeds for a model, and its outputs: the same for every pass that is tried on it."""
    feeds = feeds_for(ModelProto.FromString(data))
    return feeds, outputs_of(data, feeds)


_invalid = functools.lru_cache(maxsize=512)(invalid)
