"""Recipes: a pipeline and the budget it must keep, as a TOML file.

    name = "int8-weights"
    description = "Weights as 8-bit integers, a quarter of the size."
    pipeline = "repeat{max=8}(identities,dead-nodes),weight-int8"
    budget = ["sqnr_db>=20"]

`pipeline` is a text, or an array of tables (see `tables`). `base` names a built-in recipe whose pipeline
runs first. `[targets]` has pipelines, in the same two forms, that take the place of `pipeline` for runtimes
other than any: `onnxruntime`, `tensorrt`, `openvino`, `qnn`.

`planner = "fit"` has a planner choose, for the model at hand, which nodes the lossy passes of `pipeline` may
take. `planner = "auto"` does so with each of `candidates` and runs what comes out best: built-in recipes by
name, or pipeline texts, in order of preference; there is no `pipeline` then. There are no other keys.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from dataclasses import dataclass
from typing import Final

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.pipeline import recipe_files
from graphopt.pipeline.goal import Goal
from graphopt.pipeline.kinds import given
from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.options import is_kebab
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.registry import Registry
from graphopt.pipeline.tables import from_tables
from graphopt.pipeline.tokens import shorten

__all__ = ["TARGETS", "Candidate", "Planner", "Recipe"]

TARGETS = ("portable", "onnxruntime", "tensorrt", "openvino", "qnn")
"""What a pipeline may be made for: any runtime, or one of these."""

_KEYS = ("name", "description", "base", "pipeline", "budget", "targets", "planner", "candidates")
_PLANNERS: Final = ("fit", "auto")
_TIMED: Final = ("portable", "onnxruntime")  # targets whose latency can be measured here
_BUDGET = re.compile(
    r"\s*([A-Za-z][A-Za-z0-9_]*)\s*(>=|<=)\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"\s*((?:[KMG]i?)?B)?\s*"
)
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True)
class Candidate:
    """One of the pipelines that a planner chooses from; `recipe` is the built-in recipe that it is, if it is one."""

    pipeline: Pipeline
    recipe: str | None = None
    targets: tuple[tuple[str, Pipeline], ...] = ()

    def made_for(self, target: str) -> Pipeline:
        """The pipeline for a target; the portable one where there is none of its own."""
        return dict(self.targets).get(target, self.pipeline)


@dataclass(frozen=True)
class Planner:
    """What is planned before a run: candidates in order of preference; `timed` where latency counts.

    With a `goal` there is one candidate, whose passes are made as strong as that takes.
    """

    name: str
    candidates: tuple[Pipeline, ...]
    timed: bool = True
    goal: Goal | None = None


@dataclass(frozen=True)
class Recipe:
    """A named pipeline with its budget. Equal when all parts are.

    `targets` holds the pipelines for particular runtimes, by name. With a `planner`, "fit" or "auto", a run
    plans first; `candidates` are what "auto" chooses from, of which `pipeline` is the first.
    `budget` holds bounds as text, `metric>=number` or `metric<=number`, without spaces; validation
    interprets them. Raises `UsageError` when the name is not in kebab-case, a bound is malformed,
    or the pipeline has LOSSY passes and no budget says how much they may cost.
    """

    name: str
    pipeline: Pipeline
    description: str = ""
    budget: tuple[str, ...] = ()
    targets: tuple[tuple[str, Pipeline], ...] = ()
    planner: str | None = None
    candidates: tuple[Candidate, ...] = ()

    def __post_init__(self) -> None:
        if not is_kebab(self.name):
            raise UsageError(f"the name {shorten(self.name)!r} is not in kebab-case (such as int8-weights)")
        try:
            self.description.encode()
        except UnicodeEncodeError as error:
            raise UsageError("the description is not text that a file can hold") from error
        object.__setattr__(self, "budget", tuple(_bound(text) for text in self.budget))
        for pipeline in (self.pipeline, *(one for _, one in self.targets), *(one.pipeline for one in self.candidates)):
            if pipeline.contract is Contract.LOSSY and not self.budget:
                lossy = next(one.name for one in pipeline.passes() if one.contract is Contract.LOSSY)
                raise UsageError(
                    f"a recipe of lossy passes states its budget, and this one runs {lossy} without; "
                    'add a line such as budget = ["sqnr_db>=30"]'
                )

    def made_for(self, target: str) -> Pipeline:
        """The pipeline for one of `TARGETS`. Raises `UsageError` where the recipe has none."""
        if target == "portable":
            return self.pipeline
        known = dict(self.targets)
        if self.candidates:
            return self.candidates[0].made_for(target)
        if target not in known:
            others = ", ".join(("portable", *known))
            raise UsageError(f"the recipe {self.name} has no pipeline for the target {target}; it has {others}")
        return known[target]

    def planned_for(self, target: str) -> Planner | None:
        """What is planned before a run for one of `TARGETS`; None where nothing is."""
        if self.planner is None:
            return None
        several = tuple(one.made_for(target) for one in self.candidates) or (self.made_for(target),)
        return Planner(self.planner, tuple(dict.fromkeys(several)), target in _TIMED)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str], registry: Registry | None = None) -> Recipe:
        """The built-in recipe of that name, or the recipe in a `.toml` file.

        A string with a slash, or that ends in `.toml`, is a path. Raises `UsageError` with one
        sentence when there is no such recipe or anything in it is wrong.
        """
        shown, text = recipe_files.read(name_or_path)
        return cls.parse(text, registry, shown=shown)

    @classmethod
    def parse(cls, text: str, registry: Registry | None = None, *, shown: str = "recipe") -> Recipe:
        """The recipe in a TOML text; errors begin with `shown`."""
        try:
            table = tomllib.loads(text)
        except RecursionError as error:
            raise UsageError(f"{shown} is nested too deeply") from error
        except ValueError as error:
            raise UsageError(f"{shown}{_not_toml(str(error), text)}") from error
        try:
            return cls._of_table(table, registry)
        except UsageError as error:
            raise UsageError(f"{shown}: {error}") from error

    @classmethod
    def _of_table(cls, table: dict[str, object], registry: Registry | None) -> Recipe:
        for key in table:
            if key not in _KEYS:
                ending = did_you_mean(key, _KEYS) or f"; the keys are {', '.join(_KEYS)}"
                raise UsageError(f"unknown key {shorten(key)!r}{ending}")
        planner = _planner(table)
        candidates: tuple[Candidate, ...] = ()
        if planner == "auto":
            candidates = _candidates(table, registry)
            table = {**table, "pipeline": ""}
        for key in ("name", "pipeline"):
            if key not in table:
                raise UsageError(f"the key {key!r} is missing")
        name, description = table["name"], table.get("description", "")
        if not isinstance(name, str):
            raise UsageError(f"name expects a text, not {given(name)}")
        if not isinstance(description, str):
            raise UsageError(f"description expects a text, not {given(description)}")
        first = _base(table["base"], registry) if "base" in table else Pipeline()
        pipeline = candidates[0].pipeline if candidates else _after(first, _pipeline(table["pipeline"], registry))
        targets = tuple((key, _after(first, one)) for key, one in _targets(table.get("targets", {}), registry))
        return cls(name, pipeline, description, _budget(table.get("budget", [])), targets, planner, candidates)

    @staticmethod
    def list() -> tuple[str, ...]:
        """The names of the built-in recipes, in alphabetical order."""
        return recipe_files.built_in()

    def dump(self) -> str:
        """The recipe as TOML text, which `parse` reads back as an equal recipe."""
        lines = [f"name = {_quoted(self.name)}"]
        if self.description:
            lines.append(f"description = {_quoted(self.description)}")
        if self.planner is not None:
            lines.append(f"planner = {_quoted(self.planner)}")
        if self.candidates:
            texts = (_quoted(one.recipe or str(one.pipeline)) for one in self.candidates)
            lines.append(f"candidates = [{', '.join(texts)}]")
        else:
            lines.append(f"pipeline = {_quoted(str(self.pipeline))}")
        if self.budget:
            lines.append(f"budget = [{', '.join(_quoted(bound) for bound in self.budget)}]")
        if self.targets:
            lines += ["", "[targets]", *(f"{key} = {_quoted(str(one))}" for key, one in self.targets)]
        return "\n".join(lines) + "\n"


def _pipeline(value: object, registry: Registry | None, key: str = "pipeline") -> Pipeline:
    if isinstance(value, str):
        return Pipeline.parse(value, registry)
    if isinstance(value, list):
        return from_tables(value, Registry.load() if registry is None else registry)
    raise UsageError(f"{key} expects a text or an array of tables, not {given(value)}")


def _base(value: object, registry: Registry | None) -> Pipeline:
    if not isinstance(value, str) or value not in recipe_files.built_in():
        shown = shorten(value) if isinstance(value, str) else given(value)
        ending = did_you_mean(value, recipe_files.built_in()) if isinstance(value, str) else ""
        raise UsageError(f"base expects the name of a built-in recipe, not {shown!r}{ending}")
    return Recipe.load(value, registry).pipeline


def _planner(table: dict[str, object]) -> str | None:
    """The planner of a recipe; UsageError where there is none of that name, or other keys do not go with it."""
    if "planner" not in table:
        if "candidates" in table:
            raise UsageError('candidates are what a planner chooses from; add planner = "auto"')
        return None
    planner = table["planner"]
    if not isinstance(planner, str) or planner not in _PLANNERS:
        shown = f"the text {shorten(planner)!r}" if isinstance(planner, str) else given(planner)
        raise UsageError(f"planner expects {' or '.join(_PLANNERS)}, not {shown}")
    if planner == "fit" and "candidates" in table:
        raise UsageError('the planner fit takes the pipeline; leave out candidates, or say planner = "auto"')
    for key in ("pipeline", "targets") if planner == "auto" else ():
        if key in table:
            raise UsageError(f"the planner auto chooses among candidates; put what {key} has there")
    return planner


def _candidates(table: dict[str, object], registry: Registry | None) -> tuple[Candidate, ...]:
    example = "candidates expects a list of recipes and pipelines as texts, the preferred one first"
    values = table.get("candidates")
    if not isinstance(values, list):
        raise UsageError(example if values is None else f"{example}, not {given(values)}")
    if not values:
        raise UsageError(f"{example}, and this one is empty")
    first = _base(table["base"], registry) if "base" in table else Pipeline()
    found = []
    for value in values:
        if not isinstance(value, str):
            raise UsageError(f"{example}, and one of its items is {given(value)}")
        if value in recipe_files.built_in():
            recipe = Recipe.load(value, registry)
            if recipe.planner is not None:
                raise UsageError(f"the candidate {value} is itself planned; name the pipelines that it chooses from")
            found.append(Candidate(recipe.pipeline, value, recipe.targets))
        else:
            found.append(Candidate(_after(first, Pipeline.parse(value, registry))))
    return tuple(found)


def _after(first: Pipeline, then: Pipeline) -> Pipeline:
    return Pipeline((*first.steps, *then.steps)) if first.steps else then


def _targets(value: object, registry: Registry | None) -> list[tuple[str, Pipeline]]:
    if not isinstance(value, dict):
        raise UsageError(f"targets expects a table of pipelines, not {given(value)}")
    for key in value:
        if key not in TARGETS[1:]:
            ending = did_you_mean(key, TARGETS[1:]) or f"; there are {', '.join(TARGETS[1:])}"
            raise UsageError(f"targets has no {shorten(key)!r}{ending}")
    return [(key, _pipeline(one, registry, f"the target {key}")) for key, one in value.items()]


def _budget(value: object) -> tuple[str, ...]:
    example = 'budget expects a list of texts such as ["sqnr_db>=30"]'
    if not isinstance(value, list):
        raise UsageError(f"{example}, not {given(value)}")
    for item in value:
        if not isinstance(item, str):
            raise UsageError(f"{example}, and one of its items is {given(item)}")
    return tuple(value)


def _bound(text: str) -> str:
    """A bound of the budget without its spaces; UsageError when it is none."""
    match = _BUDGET.fullmatch(text)
    if match is None or not math.isfinite(float(match[3])):
        raise UsageError(f"budget: {shorten(text)!r} is not of the form metric>=number or metric<=number")
    if match[4] and match[1] != "bytes":
        raise UsageError(f"budget: {shorten(text)!r} has a unit of bytes, and only the metric bytes has one")
    return "".join(group for group in match.groups() if group)


def _not_toml(message: str, text: str) -> str:
    """The parser's complaint, with its place in front: `, line 3, column 7: not valid TOML (...)`."""
    place = _PLACE.search(message)
    reason = message[: place.start()] if place else message
    if place is None:
        where = ""
    elif place[1]:
        where = f", line {place[1]}, column {place[2]}"
    else:
        where = f", line {text.count(chr(10)) + 1}, at its end"
    return f"{where}: not valid TOML ({reason[:1].lower()}{reason[1:]})"


def _quoted(text: str) -> str:
    """A TOML string: literal where that needs no escapes and saves some, else basic."""
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    escaped = "".join(
        f"\\u{ord(c):04X}" if ord(c) < 0x20 or ord(c) == 0x7F else f"\\{c}" if c in '"\\' else c for c in text
    )
    return f'"{escaped}"'
