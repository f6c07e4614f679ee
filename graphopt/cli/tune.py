"""`graphopt tune`: which pipeline is best for this model, on these data, within these budgets?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from graphopt.cli import options
from graphopt.cli import tune_options as own
from graphopt.cli.optimize_options import TARGETS, Ort
from graphopt.cli.running_options import Run, running
from graphopt.errors import UsageError

if TYPE_CHECKING:
    from graphopt.tune.trial import Tuned


@running
def command(
    ctx: typer.Context,
    model: own.In,
    out: own.Out = None,
    recipe_out: own.RecipeOut = None,
    report: own.ReportFile = None,
    html: own.HtmlFile = None,
    ort: Ort = None,
    for_: own.For = None,
    minimize: own.Minimize = None,
    budget: own.BudgetOf = None,
    target: own.TargetOf = None,
    tries: own.Tries = None,
    minutes: own.Minutes = "15",
    generations: own.Generations = "12",
    labels: options.LabelsOf = None,
    metric: options.Metric = None,
    workers: own.Workers = "1",
    cluster: own.Cluster = None,
    journal: own.JournalFile = None,
    resume: own.Resume = False,
    cache_dir: options.CacheDir = None,
    allow_code: options.AllowCode = False,
    *,
    run: Run,
) -> None:
    """Search for the pipeline that makes a model smallest or fastest within budgets, and write what it makes."""
    from graphopt.cli.running import telling
    from graphopt.instruments.progress import Progress
    from graphopt.report.tuned import print_tuned
    from graphopt.session.tune_options import Options, objective_of
    from graphopt.session.tuning import tune_model
    from graphopt.tune.presets import preset

    plan = run.plan(labels)
    taken = None if for_ is None else preset(for_)
    if minimize is not None:
        minimize = options.choice("--minimize", minimize, own.MINIMIZE)
    if target is not None:
        target = options.choice("--target", target, TARGETS)
    objective_of(minimize, budget, target, taken)
    place = _journal(journal, model, run.feeds)
    if ort is None and out is not None and taken is not None and taken.ort:
        ort = str(Path(out).with_suffix(".ort"))
    _check(
        _given(model, run.feeds, labels),
        (
            ("-o", "the model", out),
            ("--recipe-out", "the recipe", recipe_out),
            ("--report", "the report", report),
            ("--html", "the page", html),
            ("--journal", "the journal", journal),
        ),
        ort,
    )
    progress = Progress()
    asked = Options(
        minutes=options.seconds("--minutes", minutes),
        workers=options.positive("--workers", workers),
        cluster=cluster,
        tries=tuple(tries or ()),
        generations=options.positive("--generations", generations),
        journal=place,
        resume=resume,
        journal_replaced=journal is None,
        cache_dir=None if cache_dir is None else Path(cache_dir),
        allow_code=allow_code,
        worker_seconds=run.limits["worker_seconds"],
        worker_memory=run.limits["worker_memory"],
        custom_ops=tuple(run.limits["custom_ops"]),
        say=progress.say if run.progress else lambda text: None,
    )
    written = Path(out) if out is not None else None
    with telling(lambda: _became(place), lambda: False):
        try:
            found = tune_model(
                model, feeds=plan, labels=labels, metric=metric, budget=budget, preset=for_, minimize=minimize,
                target=target, output=written, ort=ort, seed=run.limits["seed"], options=asked,
            )  # fmt: skip
        finally:
            progress.stop()
    _save(found, recipe_out, report, html)
    run.output.show(found.to_json, lambda console: print_tuned(found, console, run.verbose))
    raise typer.Exit(0 if found.chosen is not None else 1)


def _save(found: Tuned, recipe_out: str | None, report: str | None, html: str | None) -> None:
    from graphopt.storage.files import replacing

    if recipe_out is not None and found.chosen is not None:
        with replacing(Path(recipe_out), "the recipe") as stream:
            stream.write(found.recipe.encode())
    if report is not None:
        from graphopt.report.saved import save

        save(Path(report), found.to_json())
    if html is not None:
        from graphopt.report.tuned_page import save_tuned_page

        save_tuned_page(Path(html), found)


def _journal(given: str | None, model: str, feeds: str | None) -> Path:
    """The file of verdicts: the one that was named, else one of this model and these feeds in the folder of caches."""
    if given is not None:
        return Path(given)
    import hashlib

    from graphopt.calibration.cache import default_folder

    named = "\0".join((str(Path(model).resolve()), "" if feeds is None else str(Path(feeds).resolve())))
    return default_folder().parent / "tune" / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.jsonl"


def _became(journal: Path) -> str:
    """What is left of a search that was stopped."""
    if not journal.exists():
        return "nothing was written"
    return "nothing was written; what was tried is kept, and the same command with --resume goes on from there"


def _given(model: str, feeds: str | None, labels: str | None) -> list[tuple[str, Path]]:
    """The files that a search reads, none of which it may replace."""
    found = [("the input", Path(model))]
    for what, given in (("the file of --feeds", feeds), ("the file of --labels", labels)):
        if given is not None:
            found.append((what, Path(given)))
    return found


def _check(taken: list[tuple[str, Path]], asked: tuple[tuple[str, str, str | None], ...], ort: str | None) -> None:
    """See before the search that its files can be written, each over nothing else."""
    from graphopt.storage.files import check_place

    for flag, what, path in asked:
        if path is not None:
            check_place(Path(path), taken, flag=flag, what=what)
            taken.append((f"the file of {flag}", Path(path)))
        if path is not None and flag == "--recipe-out" and not path.endswith(".toml"):
            raise UsageError(f"--recipe-out {path}: name a file that ends in .toml, as --recipe reads it")
    if ort is not None:
        from graphopt.session.ort_format import check_ort

        if not any(what == "the file of -o" for what, _ in taken):
            raise UsageError("--ort writes the model of -o in another format; give -o OUT with it")
        check_ort(Path(ort), taken)
