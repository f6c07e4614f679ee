"""The command line that does a job again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.pipeline.gate import Limits
from graphopt.pipeline.recipe import Recipe
from graphopt.session.job import Job
from graphopt.validation.budget import parse_budgets


def optimize_line(model: str, job: Job, disable: str) -> str:
    """The `graphopt optimize` that does what `job` does, without the rewrite `disable`."""
    unjudged = ["--validate", "none"] if job.pipeline.contract is Contract.LOSSY and not job.budgets else []
    return shlex.join(["graphopt", "optimize", model, "-o", "OUT.onnx", *_options(job, disable), *unjudged])


def bisect_line(model: str, job: Job, disable: str, check: str | None = None) -> str:
    """The `graphopt bisect` that looks for what is wrong besides the rewrite `disable`."""
    judge = [] if check is None else ["--check", check]
    return shlex.join(["graphopt", "bisect", model, *_options(job, disable, check is None), *judge])


def _options(job: Job, disable: str, judged: bool = True) -> Iterator[str]:
    budgets = job.budgets
    recipe = _built_in(job)
    if recipe is not None:
        if recipe.name != "default":
            yield from ("--recipe", recipe.name)
        if budgets == parse_budgets(recipe.budget):
            budgets = ()
    else:
        yield from ("-p", str(job.pipeline))
    for budget in budgets if judged else ():
        yield from ("--budget", str(budget))
    for flag, given in (("--feeds", job.feeds.feeds), ("--labels", job.labels), ("--metric", job.metric)):
        if isinstance(given, str):
            yield from (flag, given)
    if job.calibration is not None and isinstance(job.calibration.feeds, str):
        yield from ("--calibration", job.calibration.feeds)
    for name, size in job.feeds.sizes.items():
        yield from ("--dim", f"{name}={size}")
    for name, value in job.feeds.values.items():
        yield from ("--input-value", f"{name}={value}")
    if job.seed:
        yield from ("--seed", str(job.seed))
    for library in job.custom_ops:
        yield from ("--custom-ops", str(library))
    for text in job.limits.changed():
        yield from ("--max", text)
    if isinstance(job.gate, Limits):
        for name, number in sorted(job.gate.disabled, key=lambda one: (one[0], one[1] or 0)):
            yield from ("--disable", name if number is None else f"{name}:{number}")
    yield from ("--disable", disable)


def _built_in(job: Job) -> Recipe | None:
    """The recipe that a job runs, if its name alone stands for it."""
    if job.recipe is None or job.recipe not in Recipe.list():
        return None
    try:
        recipe = Recipe.load(job.recipe)
    except UsageError:
        return None
    return recipe if recipe.planner is None and recipe.pipeline == job.pipeline else None
