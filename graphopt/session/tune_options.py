"""How a search goes, and what it is for: what the user says, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from graphopt.errors import UsageError
from graphopt.pipeline.recipe import TARGETS
from graphopt.session.api import Budgets
from graphopt.tune.objective import MINIMIZE, Objective
from graphopt.tune.presets import Preset
from graphopt.tune.search import MOST, SIZE
from graphopt.validation.budget import parse_budgets


@dataclass(frozen=True)
class Options:
    """How a search goes.

    minutes: of search and what follows. workers: processes, or workers of the Dask cluster at the address `cluster`.
    tries: recipes and pipelines to begin with, instead of what fits the model. generations: how many at most, of
    `size` candidates each. journal: the file of verdicts, which `resume` goes on from; `journal_replaced` lets another
    take its place.
    """

    minutes: float = 15.0
    workers: int = 1
    cluster: str | None = None
    tries: tuple[str, ...] = ()
    generations: int = MOST
    size: int = SIZE
    journal: Path | None = None
    resume: bool = False
    journal_replaced: bool = False
    cache_dir: Path | None = None
    allow_code: bool = False
    worker_seconds: float = 600.0
    worker_memory: int | None = None
    custom_ops: tuple[str, ...] = ()
    say: Callable[[str], None] = field(default=lambda text: None, compare=False)


def objective_of(
    minimize: str | None, budget: Budgets, target: str | None, preset: Preset | None = None
) -> tuple[Objective, str]:
    """What is searched for, and for which target; a preset says what the user did not.

    Raises UsageError for what cannot be.
    """
    if minimize is None:
        minimize = "size" if preset is None else preset.minimize
    if target is None:
        target = "portable" if preset is None else preset.target
    if minimize not in MINIMIZE:
        raise UsageError(f"minimize expects {', '.join(MINIMIZE[:-1])} or {MINIMIZE[-1]}, not {minimize!r}")
    if target not in TARGETS:
        raise UsageError(f"target expects {', '.join(TARGETS[:-1])} or {TARGETS[-1]}, not {target!r}")
    if minimize == "latency" and target not in ("portable", "onnxruntime"):
        raise UsageError(
            f"latency is measured with onnxruntime on this machine, which says nothing of {target}; minimize size or "
            "energy-proxy"
        )
    budgets = parse_budgets((budget,) if isinstance(budget, str) else tuple(budget or ()))
    if not any(one.is_of_outputs for one in budgets):
        raise UsageError("a search needs a budget for the outputs, for example --budget 'sqnr_db>=30'")
    if preset is None:
        return Objective(minimize, budgets), target
    return Objective(minimize, budgets, preset.compressed, preset.close if minimize == preset.minimize else 0.0), target
