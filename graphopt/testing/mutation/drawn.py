"""Random models and real ones against one mutant that no test noticed: the laws, then the validator."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx
from onnx import ModelProto

from graphopt.contract import Contract
from graphopt.errors import GraphoptError
from graphopt.pipeline import Pass, Pipeline, Registry
from graphopt.testing import random_model
from graphopt.testing.breach import LawBroken
from graphopt.testing.fuzz import held
from graphopt.testing.mutation.cover import Cover, traced
from graphopt.testing.mutation.forks import Report, allow, in_fork
from graphopt.testing.mutation.sites import Site, Source
from graphopt.testing.mutation.warm import Loaded, forget, mutated
from graphopt.testing.samples import samples
from graphopt.testing.trial import Trial
from graphopt.testing.wild import wild_model

Pair = tuple[str, int]  # a pass, and the number of a model
Outcome = tuple[bytes, int]  # the digest of the result, and how many rewrites made it

PATIENCE = 2.0  # seconds of models on which nothing is different, or lawfully so
SLOWEST = 1.5  # seconds; what takes longer is not tried again for each mutant
LARGEST = 600_000  # bytes of a real model


@dataclass
class Models:
    """Models, and what each pass makes of them: without a change, and which lines that runs."""

    protos: list[ModelProto] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    real: list[Path | None] = field(default_factory=list)
    usual: dict[Pair, Outcome] = field(default_factory=dict)
    cover: Cover[Pair] = field(default_factory=Cover)
    sound: dict[Pair, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, seeds: int, folders: Iterable[Path]) -> Models:
        """The samples, random models of so many seeds of each kind, and the small files of the folders."""
        made = cls()
        for sample in samples():
            if sample.runs:
                made._add(sample.proto)
        for seed in range(seeds):
            made._add(random_model(seed))
            try:
                made._add(wild_model(seed))
            except RuntimeError:
                continue
        for file in (one for folder in folders for one in sorted(folder.rglob("*.onnx"))):
            if file.stat().st_size <= LARGEST:
                made._add(onnx.load(file), file)
        return made

    def _add(self, proto: ModelProto, file: Path | None = None) -> None:
        self.protos.append(proto)
        self.data.append(proto.SerializeToString())
        self.real.append(file)

    def learn(self, passes: Sequence[type[Pass]], sources: Sequence[Source]) -> None:
        """Run each pass on each model, and keep what it did and which lines of the files that ran."""
        files = {str(one.path) for one in sources}
        for one in passes:
            for number in range(len(self.protos)):
                pair, began = (one.name, number), time.process_time()
                if pair in self.usual:
                    continue
                try:
                    with traced(files) as seen:
                        self.usual[pair] = self._made(one, number)
                except (LawBroken, GraphoptError, ValueError):
                    continue  # for the fuzzer to tell
                if (seconds := time.process_time() - began) <= SLOWEST:
                    self.cover.add(pair, seconds, seen)

    def _made(self, one: type[Pass], number: int) -> Outcome:
        made = Trial(Pipeline((one(),)), self.protos[number], self.data[number]).run()
        return hashlib.sha256(made.data).digest(), made.outcome.rewrites

    def tried(self, loaded: Loaded, source: Source, site: Site) -> Report:
        """What `against` says in a fork, of models on which the pass without a change is not at fault itself."""
        while True:
            report = in_fork(lambda: self.against(loaded, source, site))
            if "died" in report:
                return {"by": "laws", "how": report["died"], "models": 1}
            if not report["by"]:
                return report
            name, number = report["pair"]
            if (name, number) not in self.sound:
                one = Registry.load().get(name)
                self.sound[name, number] = bool(in_fork(partial(self._alone, one, number)).get("good"))
            if self.sound[name, number]:
                return report

    def _alone(self, one: type[Pass], number: int) -> Report:
        allow(60.0)
        self.usual.pop((one.name, number), None)
        return {"good": self._judge(one, (one.name, number))[0] == "lawful"}

    def against(self, loaded: Loaded, source: Source, site: Site) -> Report:
        """The first model on which the mutant breaks a law, or is refused by the validator; for a fork."""
        lines = site.lines if site.function else None
        chosen = [one for one in self.cover.of(str(source.path), lines) if self.sound.get(one, True)]
        if not chosen:
            return {"by": "", "models": 0}
        allow(60.0)
        code = mutated(source, site)
        if not (site.function and loaded.put(code)):
            if source.module.startswith("graphopt."):
                return {"by": "", "models": 0}
            forget(code, source.module, [])
        registry, spent, lawful = Registry.load(), 0.0, 0
        for count, pair in enumerate(chosen):
            allow(10 + 20 * self.cover.seconds[pair])
            kind, how = self._judge(registry.get(pair[0]), pair)
            if kind in ("laws", "validator"):
                return {"by": kind, "how": how, "pair": pair, "models": count + 1}
            lawful += kind == "lawful"
            began = time.process_time()
            spent += self.cover.seconds[pair] + (time.process_time() - began)
            if spent > PATIENCE or lawful > 20:
                chosen = chosen[: count + 1]
                break
        return {"by": "", "models": len(chosen), "lawful": lawful}

    def _judge(self, one: type[Pass], pair: Pair) -> tuple[str, str]:
        """Whether the pass does something else than usual on a model, and whether that is noticed."""
        number = pair[1]
        model, file = self.protos[number], self.real[number]
        said = f"{pair[0]} on {file.name if file else f'model {number}'}"
        try:
            if self._made(one, number) == self.usual.get(pair):
                return "", ""
        except LawBroken as broken:
            return "laws", f"{said}: {broken.law}: {str(broken)[:200]}"
        if file is None:
            _, failure = held(number, model, one.name, Pipeline((one(),)))
            return ("laws", f"{said}: {failure.law}: {failure.sentence[:200]}") if failure else ("lawful", said)
        if one.contract is Contract.LOSSY:
            return "lawful", said
        return _validated(model, one, said)


def _validated(model: ModelProto, one: type[Pass], said: str) -> tuple[str, str]:
    from graphopt.session.api import optimize

    try:
        verdict = optimize(model, pipeline=Pipeline((one(),))).verdict
    except GraphoptError as error:
        return "validator", f"{said}: {str(error)[:200]}"
    return ("lawful", said) if verdict.passed else ("validator", f"{said}: {verdict.sentence()[:200]}")
