"""Replays of bundles: the same run again, and whether it does the same."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.debug import bundle
from graphopt.debug.archive import Archive, opened
from graphopt.debug.bundle import Manifest, PackedJob, PassHash, read_manifest
from graphopt.errors import GraphoptError, UsageError
from graphopt.ir.wording import shown, shown_path
from graphopt.limits import Limits as Ceilings
from graphopt.limits import current
from graphopt.pipeline.code import code_of, refuse_code
from graphopt.pipeline.gate import Limits, parse_disabled
from graphopt.pipeline.pipeline import Pipeline
from graphopt.report.summary import versions
from graphopt.session.job import Job
from graphopt.session.recording import Recording
from graphopt.session.run import run
from graphopt.storage.copying import digest
from graphopt.storage.read import read
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.validation.budget import parse_budgets
from graphopt.validation.metrics import NAMES
from graphopt.validation.pins import parse_sizes, parse_values
from graphopt.validation.plan import FeedPlan


@dataclass(frozen=True)
class Replay:
    """How a replay compares with the run in the bundle.

    `difference` says in a sentence where the two first differ, None where they do not; `passes` counts the
    runs of passes that gave the same model to the last bit; `versions` are those that differ, then and now.
    """

    bundle: str
    difference: str | None
    passes: int
    outcome: str | None
    verdict: str | None
    failure: str | None
    versions: dict[str, tuple[str, str]]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when the replay did the same, 1 when it did not."""
        return 0 if self.difference is None else 1

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {"exit_code": self.exit_code, "identical": self.difference is None, **dataclasses.asdict(self)}


def replay(path: Path, *, model: Path | None = None, allow_code: bool = False, progress: bool = False) -> Replay:
    """Run a bundle again and compare the model after each pass with the one that it had then.

    `model` stands in for the input where the bundle was written without. Raises Unsafe for a bundle
    that would run code unless `allow_code`, and for an archive that leads out of its folder; UsageError
    for what is no bundle, and for another model than the one that was run.
    """
    with Scratch("replay") as name, opened(path) as archive:
        folder = Path(name)
        manifest = read_manifest(archive, str(path))
        pipeline = Pipeline.parse(manifest.job.pipeline)
        refuse_code(f"the bundle {shown_path(path)}", _code(manifest, pipeline), allow_code)
        packed = (bundle.MODEL, bundle.FEEDS, bundle.CALIBRATION, bundle.LABELS)
        archive.unpack(folder, lambda one: one.startswith(packed))
        source = _input(archive, manifest, folder, path, model)
        job = _job(manifest, pipeline, folder, progress)
        recording = Recording()
        failure, verdict, outcome = None, None, None
        try:
            result = run(source, job, None, recording)
            verdict, outcome = result.verdict.sentence(), str(result.verdict.outcome)
        except UsageError:
            raise
        except GraphoptError as error:
            failure = str(error).rstrip(".")
        now = [PassHash(**dataclasses.asdict(one)) for one in recording.hashes.seen]
    same = _same(manifest.passes, now)
    found = versions()
    return Replay(
        str(path),
        _difference(manifest, now, same, outcome, failure),
        same,
        outcome,
        verdict,
        failure,
        {name: (old, found[name]) for name, old in manifest.versions.items() if found.get(name, old) != old},
        tuple(manifest.notes),
    )


def _code(manifest: Manifest, pipeline: Pipeline) -> tuple[str, ...]:
    """What code a bundle would run: that of its passes, and what its options name."""
    job = manifest.job
    found = list(code_of(pipeline))
    if job.metric is not None and job.metric not in NAMES:
        found.append(f"the metric {job.metric}")
    if job.feeds is not None and not manifest.feeds and ":" in job.feeds:
        found.append(f"the feeds {job.feeds}")
    if job.calibration is not None and not manifest.learned and ":" in job.calibration:
        found.append(f"the calibration feeds {job.calibration}")
    found += [f"the library of operators {library}" for library in job.custom_ops]
    return tuple(found)


def _input(archive: Archive, manifest: Manifest, folder: Path, path: Path, model: Path | None) -> Source:
    """The model to run on, which must be the one that was run."""
    packed = manifest.model
    if model is None:
        if not packed.included:
            raise UsageError(
                f"{shown_path(path)} was written without the model; give it with --model "
                f"({shown(packed.name)}, sha256 {packed.sha256[:16]})"
            )
        if f"{bundle.MODEL}{packed.name}" not in archive.names:
            raise UsageError(f"{shown_path(path)} is damaged: it has no {shown(bundle.MODEL + packed.name)}")
    source = read(folder / bundle.MODEL / packed.name if model is None else model)
    external = {file.location: digest(file.path) for file in source.external}
    if source.sha256() != packed.sha256 or external != packed.external:
        whose = shown_path(path) if model is None else f"--model {shown_path(model)}"
        raise UsageError(
            f"{whose}: this is not the model that was run: its sha256 is {source.sha256()[:16]} and that of "
            f"{shown(packed.name)} was {packed.sha256[:16]}"
            if source.sha256() != packed.sha256
            else f"{whose}: its external data is not that of the model that was run"
        )
    return source


def _job(manifest: Manifest, pipeline: Pipeline, folder: Path, progress: bool) -> Job:
    packed: PackedJob = manifest.job
    known = frozenset(one.name for one in pipeline.passes())
    if manifest.feeds:
        found = len(list((folder / bundle.FEEDS).glob("*.npz")))
        if found != manifest.feeds:
            raise UsageError(f"the bundle is damaged: it has {found} of the {manifest.feeds} feeds of its run")
        plan = FeedPlan(str(folder / bundle.FEEDS.rstrip("/")))
    else:
        plan = FeedPlan(packed.feeds, parse_values(packed.values), parse_sizes(packed.sizes))
    learned = None if packed.calibration is None else FeedPlan(packed.calibration)
    if manifest.learned:
        learned = FeedPlan(str(folder / bundle.CALIBRATION.rstrip("/")))
    labels = str(folder / bundle.LABELS) if manifest.labels else None
    return Job(
        pipeline,
        packed.recipe,
        parse_budgets(packed.budgets),
        feeds=plan,
        labels=labels,
        metric=packed.metric,
        validate=packed.validate,  # type: ignore[arg-type]  # checked by Job
        on_error=packed.on_error,  # type: ignore[arg-type]
        gate=Limits(parse_disabled(tuple(packed.disabled), known), packed.limit),
        only=tuple(packed.only),
        until=packed.until,
        check=packed.check,
        seed=packed.seed,
        custom_ops=tuple(Path(one) for one in packed.custom_ops),
        worker_seconds=packed.worker_seconds,
        worker_memory=packed.worker_memory,
        progress=progress,
        calibration=learned,
        limits=Ceilings.parse(packed.limits) if packed.limits else current(),
    )


def _same(then: list[PassHash], now: list[PassHash]) -> int:
    """How many runs of passes at the beginning are the same to the last bit."""
    count = 0
    for old, new in zip(then, now, strict=False):
        if old != new:
            break
        count += 1
    return count


def _difference(
    manifest: Manifest, now: list[PassHash], same: int, outcome: str | None, failure: str | None
) -> str | None:
    """Where the replay first differs, as a sentence."""
    then = manifest.passes
    if same < len(then) and same < len(now):
        old, new = then[same], now[same]
        if (old.turn, old.pass_name) == (new.turn, new.pass_name):
            return f"the model differs after {_named(old)}: sha256 {new.sha256[:16]} now, {old.sha256[:16]} then"
        return f"the next pass that changes something is {_named(new)} now and was {_named(old)} then"
    if same < len(then):
        return f"{_named(then[same])} changed the model then and not now" + (f" ({failure})" if failure else "")
    if same < len(now):
        return f"{_named(now[same])} changes the model now and did not then"
    if failure != manifest.failure:
        if failure is not None:
            return f"the run fails now: {failure}" + (f"; then: {manifest.failure}" if manifest.failure else "")
        return f"the run ends well now and failed then: {manifest.failure}"
    if outcome != manifest.outcome:
        return f"the outputs are {outcome} now and were {manifest.outcome} then"
    return None


def _named(one: PassHash) -> str:
    round_ = f", round {one.round}" if one.round > 1 else ""
    return f"{one.pass_name} (turn {one.turn}{round_})"
