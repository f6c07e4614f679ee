"""What a user chose to run, as a pipeline, budgets and a planner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from graphopt.errors import UsageError
from graphopt.pipeline.code import code_of, refuse_code
from graphopt.pipeline.goal import Goal
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.recipe import TARGETS, Planner, Recipe
from graphopt.validation.budget import Budget, parse_budgets

CONSTANT_INPUTS: Final = "initializers-from-inputs"
"""The pass that comes first where inputs with default values are to be constants."""
_RECIPES: Final = {"portable": "default", "onnxruntime": "onnxruntime"}
"""The recipe of each target where none is given: standard ONNX for any runtime, or operators that only
onnxruntime has too."""


class Chosen(NamedTuple):
    """What the user chose to run: see `plan`."""

    pipeline: Pipeline
    recipe: str | None
    budgets: tuple[Budget, ...]
    planner: Planner | None = None


def plan(
    *,
    recipe: str | Path | None,
    pipeline: str | Pipeline | None,
    budget: tuple[str, ...] | list[str] | str | None,
    target: str | None = None,
    to: str | None = None,
    constant_inputs: bool = False,
    allow_code: bool = False,
) -> Chosen:
    """Pipeline, recipe name, budgets and planner from what the user gave; a budget given replaces the recipe's.

    `target` (portable unless given) says what the result is for: it picks the recipe when neither it nor a
    pipeline is given, else which pipeline of the recipe runs. `to` (see `graphopt.pipeline.goal`) has the passes
    that take something out made as strong as that takes. With `constant_inputs` inputs that have a default value are
    taken off the signature first.
    Raises UsageError when both are given, there is no such target, the recipe has nothing for it, or recipe or
    pipeline cannot be read, Unsafe when a recipe would run code and `allow_code` is not set; a pipeline is the
    user's own words.
    """
    given = (budget,) if isinstance(budget, str) else tuple(budget or ())
    if pipeline is not None and recipe is not None:
        raise UsageError("give either a recipe or a pipeline, not both")
    if target is not None and target not in TARGETS:
        raise UsageError(f"target expects {', '.join(TARGETS[:-1])} or {TARGETS[-1]}, not {target!r}")
    if pipeline is not None:
        if target is not None:
            raise UsageError(
                "a target picks among the pipelines of a recipe, and one is given; leave out one of the two"
            )
        steps = Pipeline.parse(pipeline) if isinstance(pipeline, str) else pipeline
        steps = _opened(steps) if constant_inputs else steps
        return Chosen(steps, None, parse_budgets(given), _strengthened(steps, to, None))
    if recipe is None and target is not None and target not in _RECIPES:
        raise UsageError(f"the target {target} is for quantized models; name a recipe too, such as int8-static")
    loaded = Recipe.load(recipe if recipe is not None else _RECIPES[target or "portable"])
    chosen = loaded.pipeline if recipe is None else loaded.made_for(target or "portable")
    planner = None if recipe is None else loaded.planned_for(target or "portable")
    for one in (chosen, *(planner.candidates if planner is not None else ())):
        refuse_code(f"the recipe {loaded.name}", code_of(one), allow_code)
    if constant_inputs:
        chosen = _opened(chosen)
        planner = planner and replace(planner, candidates=tuple(map(_opened, planner.candidates)))
    planner = _strengthened(chosen, to, planner)
    return Chosen(chosen, loaded.name, parse_budgets(given or loaded.budget), planner)


def _strengthened(pipeline: Pipeline, to: str | None, planner: Planner | None) -> Planner | None:
    """The planner for a goal; the recipe's own where there is none. Raises UsageError where both are asked for."""
    if to is None:
        return planner
    if planner is not None:
        raise UsageError("the recipe is planned already: --to is for recipes and pipelines that prune")
    goal = Goal.parse(to)
    if not any(one.strength for one in pipeline.passes()):
        raise UsageError(
            f"--to {goal} turns how much pruning passes take, and the pipeline has none of them; "
            "the recipe prune-structured has"
        )
    return Planner("strength", (pipeline,), goal=goal)


def _opened(pipeline: Pipeline) -> Pipeline:
    return Pipeline((*Pipeline.parse(CONSTANT_INPUTS).steps, *pipeline.steps))
