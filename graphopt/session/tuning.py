"""A search for the best pipeline of a model: `tune_model` as the API and the command line call it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from graphopt.calibration.cache import check_folder
from graphopt.contract import Contract
from graphopt.errors import InternalError, UsageError
from graphopt.ir import decode
from graphopt.limits import current
from graphopt.pipeline.code import code_of, refuse_code
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.recipe import Recipe
from graphopt.report.summary import versions
from graphopt.scale.cluster import LOCAL
from graphopt.scale.executor import executor_of
from graphopt.session.api import Budgets, Model, source_of
from graphopt.session.evaluating import Errors, Evaluator
from graphopt.session.evidence import on_disk
from graphopt.session.job import GENERATED, Job, Target
from graphopt.session.result import Result
from graphopt.session.run import run
from graphopt.session.sensing import sensitivity
from graphopt.session.shared_files import filed, labels_filed
from graphopt.session.tie import fastest_first, raced, rivals
from graphopt.session.trying import Room, Setting
from graphopt.session.tune_options import Options, objective_of
from graphopt.session.tuned_words import GENERATED_FEEDS, HAIR, OPENED, UNNAMED
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.tolerance.agreement import predicted_errors
from graphopt.tune.front import front
from graphopt.tune.journal import Journal, Subject
from graphopt.tune.objective import Objective
from graphopt.tune.presets import Preset
from graphopt.tune.presets import preset as find_preset
from graphopt.tune.search import Search
from graphopt.tune.space import NAMELESS, OPENING, Traits, Wanted, first_generation, given
from graphopt.tune.trial import KEPT, Candidate, Trial, Tuned
from graphopt.validation.figures import check_request
from graphopt.validation.plan import FeedPlan, Given

_SHARE: Final = 0.9  # of the minutes, that is searched in; the rest is for what was chosen
_LOOKS: Final = 10  # at the held-out half, at most
RACE_SECONDS: Final = 1.5
"""Of pairs, for a model that is timed in the end."""
_LAYERS: Final = 16  # from which on measuring the layers once is less than measuring them for each candidate


def tune_model(
    model: Model,
    *,
    feeds: Given | FeedPlan | None = None,
    labels: str | Path | Any | None = None,
    metric: str | None = None,
    budget: Budgets = None,
    preset: str | None = None,
    minimize: str | None = None,
    target: str | None = None,
    output: str | Path | None = None,
    ort: str | Path | None = None,
    seed: int = 0,
    options: Options | None = None,
    **more: Any,
) -> Tuned:
    """Search for the pipeline that makes a model smallest, fastest or least hungry within budgets.

    `feeds` are an npz file, a folder of them, `module:function` or arrays: the first half is searched on, the second
    judges what was found and nothing else. `budget` are texts such as "top1_drop<=0.005"; `minimize` is size, latency
    or energy-proxy, `target` what the result is for, `preset` (mobile, edge, server-cpu, gpu) what is taken for
    granted where neither is said. With `output` the model that was chosen is written there, as `optimize` would, with
    `ort` in onnxruntime's own format too. `options`, or their names as `more` arguments, are those of `Options`.

    `chosen` of what is returned is None where nothing keeps the budgets; then nothing is written. Its `recipe` makes
    the chosen model again. Raises UsageError, BadModel, and what else `optimize` raises.
    """
    asked = replace(options or Options(), **more)
    taken = None if preset is None else find_preset(preset)
    objective, target = objective_of(minimize, budget, target, taken)
    place = None if output is None else Target(Path(output), ort=None if ort is None else Path(ort))
    if place is not None and place.ort is None and taken is not None and taken.ort:
        place = replace(place, ort=place.path.with_suffix(".ort"))
    with ExitStack() as stack:
        work = stack.enter_context(Scratch("tune"))
        tuning = _Tuning(model, feeds, labels, metric, objective, target, seed, asked, taken, work / "search", stack)
        return tuning.run(place)


class _Tuning:
    """One search from its feeds to the file that it chose."""

    def __init__(
        self, model: Model, feeds: Given | FeedPlan | None, labels: Any, metric: str | None, objective: Objective,
        target: str, seed: int, options: Options, preset: Preset | None, work: Path, stack: ExitStack,
    ) -> None:  # fmt: skip
        self.start = time.monotonic()
        self.options, self.objective, self.target, self.seed = options, objective, target, seed
        self.preset = preset
        if options.cache_dir is not None:
            check_folder(options.cache_dir)
        self.stack, self.work = stack, work
        work.mkdir(parents=True)
        self.source: Source = source_of(model)
        self.metric = "top1" if metric is None and labels is not None else metric
        plan = feeds if isinstance(feeds, FeedPlan) else FeedPlan(feeds)
        self.plan = replace(plan, feeds=None if plan.feeds is None else filed(plan.feeds, work / "feeds"))
        if options.cluster not in (None, LOCAL) and (
            self.source.path is None or self.plan.feeds == str(work / "feeds")
        ):
            raise UsageError("the workers of a cluster read files; give them the model and the feeds as files")
        self.labels = None if labels is None else labels_filed(labels, work / "labels.npy")
        self.setting = Setting(
            str(on_disk(self.source, work / "model").resolve()), objective,
            None if self.plan.feeds is None else str(self.plan.feeds), self.labels, self.metric, seed,
            2 * GENERATED, tuple(self.plan.values.items()), tuple(self.plan.sizes.items()),
            tuple(str(Path(one).resolve()) for one in options.custom_ops), options.worker_seconds,
            options.worker_memory, None if options.cache_dir is None else str(options.cache_dir.resolve()), current(),
        )  # fmt: skip
        self.room = Room(self.setting)
        stack.callback(self.room.close)
        check_request(Contract.LOSSY, objective.budgets, self.room.samples.labels, self.room.metric)
        self.warnings: list[str] = [*self.room.warnings]

    def run(self, output: Target | None) -> Tuned:
        """Search, choose, validate, write."""
        traits = Traits.of(decode(self.source.proto, self.source.store))
        first = self._first(traits)
        original = self.room.baseline(len(self.room.rungs()) - 1)
        if self.room.report.generated:
            self.warnings.append(GENERATED_FEEDS)
        options = self.options
        with ExitStack() as stack:
            executor = stack.enter_context(executor_of(options.workers, options.cluster))
            evaluator = Evaluator(self.setting, self.room, executor, self.work, self._errors)
            stack.callback(evaluator.close)
            journal = self._journal()
            if journal is not None:
                stack.callback(journal.close)
            self.search = Search(
                self.objective, self.room.rungs(), evaluator, journal,
                seconds=_SHARE * 60 * options.minutes - (time.monotonic() - self.start),
                size=options.size, most=options.generations, workers=options.workers, say=options.say,
                takes=self._takes,
            )  # fmt: skip
            self.search.run(first)
        trials = [*self.search.trials.values()]
        chosen, result = self._chosen(trials, output)
        found = self._front(trials, chosen)
        if result is not None and any(one.name == OPENING for one in self._pipeline(trials[chosen or 0]).passes()):
            self.warnings.append(OPENED)
        if result is not None and trials[chosen or 0].pipeline.endswith(NAMELESS):
            self.warnings.append(UNNAMED)
        return Tuned(
            str(self.source.path) if self.source.path is not None else "the model",
            self.objective.minimize,
            tuple(map(str, self.objective.budgets)),
            original,
            tuple(trials),
            found,
            chosen,
            self.objective.axes,
            {} if result is None else result.verdict.figures(),
            "" if result is None or chosen is None else self._recipe(trials[chosen], result).dump(),
            f"{self.room.report.count} x {self.room.report.source}"
            + (f", {part}" if (part := self.room.report.part) else ""),
            "" if self.preset is None else self.preset.name,
            () if self.preset is None else self.preset.assumptions,
            tuple(dict.fromkeys(self.warnings)),
            self.search.stopped,
            options.workers,
            round(time.monotonic() - self.start, 3),
            () if result is None else result.report.written,
        )

    def _takes(self, candidate: Candidate) -> bool:
        """Whether a candidate can help on the target of the preset."""
        return self.preset is None or self.preset.takes(Pipeline.parse(candidate.pipeline))

    def _first(self, traits: Traits) -> list[Candidate]:
        """The candidates to begin with."""
        if not self.options.tries:
            return first_generation(traits, Wanted(self.objective.minimize, self.target, self.objective.compressed))
        found = given(self.options.tries, self.target, traits)
        for text, one in zip(self.options.tries, found, strict=False):
            if text.endswith(".toml"):
                refuse_code(f"the recipe {text}", code_of(Pipeline.parse(one.pipeline)), self.options.allow_code)
        return found

    def _journal(self) -> Journal | None:
        options = self.options
        if options.journal is None:
            return None
        subject = Subject(self.source.sha256(), self.room.samples.fingerprint())
        setting = replace(self.setting, model="", feeds=None, labels=None, cache_dir=None)
        depends = json.dumps([versions(), repr(setting), self.room.rungs()])
        return Journal(options.journal, subject, depends, resume=options.resume, replaced=options.journal_replaced)

    def _errors(self) -> Errors:
        """What each layer tolerates, measured once for all that is fitted, on the searched half."""
        if sum(node.op in ("Conv", "MatMul", "Gemm") for node in _nodes(self.source)) < _LAYERS:
            return ()
        self.options.say("measuring what each layer tolerates")
        table = sensitivity(
            self.source.path or self.source.proto, feeds=self.setting.plan, quick=True, samples=8, seed=self.seed,
            cache_dir=self.options.cache_dir, worker_seconds=self.options.worker_seconds,
            worker_memory=self.options.worker_memory, custom_ops=self.options.custom_ops,
        )  # fmt: skip
        return tuple(predicted_errors(table.rows, "int8-channel").items())

    def _chosen(self, trials: list[Trial], output: Target | None) -> tuple[int | None, Result | None]:
        """The best that keeps the budgets on samples that the search never saw, written if it is to be."""
        order = self._fast(trials, self._order(trials))
        for number, place in enumerate(order[:_LOOKS]):
            trial = trials[place]
            self.options.say(f"validating {trial.candidate.name} on what the search did not see")
            said = ""
            try:
                result = run(self.source, self._job(trial), output)
                if result.exit_code == 0:
                    if trial.status != KEPT:
                        self.warnings.append(f"{trial.candidate.name}: {trial.why} {HAIR}")
                    if number:
                        self.warnings.append(f"{number} better ones were looked at on the held-out samples before it")
                    self.warnings += result.report.warnings
                    return place, result
                said = result.verdict.sentence()
            except (UsageError, InternalError) as error:
                said = str(error).rstrip(".")
            self.warnings.append(f"{trial.candidate.name} was not taken: on the held-out samples, {said}")
        return None, None

    def _fast(self, trials: list[Trial], order: list[int]) -> list[int]:
        """The order with the fastest of those first that count as equal to the first, which get their latencies."""
        kept = [place for place in self._ended(trials) if trials[place].status == KEPT]
        places = rivals(trials, order, kept, self.objective)
        left = 60 * self.options.minutes - (time.monotonic() - self.start)
        if len(places) < 2 or sum(trials[place].seconds for place in places) > left:
            return order
        for place in places:
            self.options.say(f"timing {trials[place].candidate.name}")
            trials[place] = raced(self.room, trials[place], RACE_SECONDS)
        return [*dict.fromkeys((*fastest_first(trials, places), *order))]

    def _ended(self, trials: Sequence[Trial]) -> list[int]:
        """The trials that count: those on all samples, or all of them where the time was up before."""
        last = len(self.room.rungs()) - 1
        return [
            place
            for place, one in enumerate(trials)
            if (one.rung == last or self.search.stopped) and math.isfinite(self.objective.value(one))
        ]

    def _front(self, trials: Sequence[Trial], chosen: int | None) -> tuple[int, ...]:
        """The front of what keeps the budgets, what was chosen among it; where nothing does of what has a result."""
        ended = self._ended(trials)
        kept = [place for place in ended if trials[place].status == KEPT or place == chosen] or ended
        return tuple(kept[place] for place in front([self.objective.point(trials[one]) for one in kept]))

    def _order(self, trials: Sequence[Trial]) -> list[int]:
        """What kept the budgets, or as good as did, none that another of them is better than in both figures, the
        least objective first."""
        kept = [place for place in self._ended(trials) if self.objective.nearly(trials[place])]
        return [kept[place] for place in front([self.objective.point(trials[one]) for one in kept])]

    def _job(self, trial: Trial) -> Job:
        options = self.options
        return Job(
            self._pipeline(trial), "tuned", self.objective.budgets, feeds=self.plan, labels=self.labels,
            metric=self.metric, seed=self.seed, planned=True, cache_dir=options.cache_dir,
            custom_ops=tuple(Path(one) for one in options.custom_ops), worker_seconds=options.worker_seconds,
            worker_memory=options.worker_memory,
        )  # fmt: skip

    def _recipe(self, trial: Trial, result: Result) -> Recipe:
        name = self.source.path.name if self.source.path is not None else "a model"
        after, before = result.report.after.bytes, self.room.bytes
        about = f"Found for {name} by a search that made its {self.objective.minimize} small ({trial.candidate.technique}): {after} of {before} bytes."  # noqa: E501
        return Recipe("tuned", self._pipeline(trial), about, tuple(map(str, self.objective.budgets)))

    @staticmethod
    def _pipeline(trial: Trial) -> Pipeline:
        return Pipeline.parse(trial.pipeline)


def _nodes(source: Source) -> list[Any]:
    return [node for scope in decode(source.proto, source.store).scopes() for node in scope.nodes]
