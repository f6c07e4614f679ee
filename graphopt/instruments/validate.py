"""Validates each step of the pipeline against the step before it (`--validate each`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphopt.ir import Graph, encode
from graphopt.pipeline.instrument import Instrument, StepDone, Veto
from graphopt.storage.write import stage
from graphopt.validation.budget import Budget
from graphopt.validation.validate import Validator
from graphopt.validation.verdict import Verdict


class ValidateEach(Instrument):
    """Writes the model after each step that changed it to a file in `work`, and has `validator`
    hold it against its predecessor under the step's own contract (LOSSY ones under `budgets`).
    A verdict that is no pass is a veto: the step is rolled back.
    """

    def __init__(self, validator: Validator, work: Path, budgets: Sequence[Budget]) -> None:
        self._validator = validator
        self._work = work
        self._budgets = budgets
        self.verdicts: list[tuple[str, Verdict]] = []

    def after_step(self, done: StepDone, graph: Graph) -> None:
        if not done.changed or done.replayed:
            return
        path = self._work / f"step-{done.step}" / "model.onnx"
        path.parent.mkdir(exist_ok=True)
        encoded = encode(graph)
        with stage(path, source=None) as staged:
            staged.put(encoded.proto, encoded.store)
            staged.commit()
        verdict = self._validator.step(path, done.contract, self._budgets)
        self.verdicts.append((done.text, verdict))
        if not verdict.passed:
            raise Veto(f"step {done.text} does not hold its contract: {verdict.sentence()}")
