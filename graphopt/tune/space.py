"""Where a search begins: which techniques a model can use at all, each as a pipeline."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.ir import Constant, Graph
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.recipe import Recipe
from graphopt.tune.trial import Candidate

OPENING: Final = "initializers-from-inputs"
"""What comes before all else where a model's weights can be fed: nobody can compress what a caller may replace."""
NAMELESS: Final = "strip{value-info=true names=true values=true}"
"""What comes behind all else where bytes count: of a small model, names are a good part."""
_WEIGHT: Final = 128  # elements from which on a tensor of floats is worth storing as something else
_TABLE: Final = 4096  # ... and a table
_FLOATS: Final = ("float32", "float64", "float16", "bfloat16")

_STRIP: Final = Pipeline.parse(NAMELESS)


@dataclass(frozen=True)
class Traits:
    """What of a model decides which techniques can do anything.

    `fed`: some of its weights are inputs too. Of the others, see the head of `techniques.toml`.
    """

    weights: bool = False
    layers: bool = False
    products: bool = False
    channels: bool = False
    tables: bool = False
    attention: bool = False
    fed: bool = False

    @classmethod
    def of(cls, graph: Graph) -> Traits:
        """The traits of a model, bodies and functions included."""
        operators: list[str] = []
        weights = tables = False
        fed = bool(graph.defaults)
        for scope in graph.scopes():
            for value in scope.initializers.declared():
                weights = weights or _floats(value, _WEIGHT)
            for node in scope.nodes:
                operators.append(node.op)
                if node.op == "Constant" and node.is_standard:
                    weights = weights or any(_floats(one, _WEIGHT) for one in node.attrs.values())
                if node.op == "Gather" and node.inputs:
                    tables = tables or _floats(node.inputs[0], _TABLE)
        products = {"MatMul", "Gemm", "LSTM", "GRU", "RNN", "Attention"} & {*operators}
        convolutions = sum(one in ("Conv", "ConvTranspose") for one in operators)
        softmax = "Softmax" in operators and operators.count("MatMul") > 3
        return cls(
            weights=weights, layers=bool(products) or convolutions > 0, products=bool(products),
            channels=convolutions > 1, tables=tables, attention=softmax or "Attention" in operators, fed=fed,
        )  # fmt: skip


def _floats(value: object, least: int) -> bool:
    return isinstance(value, Constant) and str(value.dtype) in _FLOATS and math.prod(value.shape) >= least


@dataclass(frozen=True)
class Wanted:
    """What a search is for: what it makes less, the runtime, and whether packed bytes count."""

    minimize: str
    target: str = "portable"
    packed: bool = False


def first_generation(traits: Traits, wanted: Wanted) -> list[Candidate]:
    """What is tried first, each pipeline once, in the order of `techniques.toml`."""
    behind = known()["behind"].get(wanted.target, "") if wanted.minimize == "latency" else ""
    found: dict[tuple[str, bool], Candidate] = {}
    names: dict[str, int] = {}
    for one in known()["technique"]:
        if not _usable(one, traits, wanted):
            continue
        pipeline = _pipeline(one, wanted.target)
        if pipeline is None:
            continue
        if behind and one.get("recipe") != wanted.target:
            pipeline = Pipeline((*pipeline.steps, *Pipeline.parse(behind).steps))
        if wanted.minimize == "size":
            pipeline = nameless(pipeline)
        text, fit = str(opened(pipeline, traits)), bool(one.get("fit"))
        if (text, fit) not in found:
            found[text, fit] = Candidate(
                named(one.get("recipe", one["name"]), names), text, one["name"], fit=fit,
                slow=wanted.minimize in one.get("slow", ()), unless=one.get("unless", ""),
            )  # fmt: skip
    return list(found.values())


def given(texts: Iterable[str], target: str, traits: Traits) -> list[Candidate]:
    """The candidates that the user names: recipes, built in or files, and pipeline texts.

    What a recipe's planner would choose from is a candidate each. Raises UsageError for what is neither.
    """
    found: list[Candidate] = []
    names: dict[str, int] = {}
    for text in texts:
        if text in Recipe.list() or text.endswith(".toml"):
            recipe = Recipe.load(text)
            planner = recipe.planned_for(target)
            several = (recipe.made_for(target),) if planner is None else planner.candidates
        else:
            recipe, planner, several = None, None, (Pipeline.parse(text),)
        for one in several:
            name = named(recipe.name if recipe is not None else "given", names)
            found.append(Candidate(name, str(opened(one, traits)), name.split(" ")[0], fit=planner is not None))
    return found


def opened(pipeline: Pipeline, traits: Traits) -> Pipeline:
    """The pipeline with weights that could be fed made weights first; as it is where there are none."""
    if not traits.fed or any(one.name == OPENING for one in pipeline.passes()):
        return pipeline
    return Pipeline((*Pipeline.parse(OPENING).steps, *pipeline.steps))


def nameless(pipeline: Pipeline) -> Pipeline:
    """The pipeline that takes names off at its end; as it is where it does."""
    return pipeline if named_still(pipeline) != pipeline else Pipeline((*pipeline.steps, *_STRIP.steps))


def named_still(pipeline: Pipeline) -> Pipeline:
    """The pipeline without the step at its end that takes names off: fitting tells nodes by their names."""
    ends = pipeline.steps[-1:] == _STRIP.steps
    return Pipeline(pipeline.steps[:-1]) if ends else pipeline


def named(name: str, names: dict[str, int]) -> str:
    """The name, with a number behind it where it is taken."""
    names[name] = names.get(name, 0) + 1
    return name if names[name] == 1 else f"{name} {names[name]}"


def lossy(pipeline: Pipeline) -> bool:
    """Whether the pipeline has a pass that changes what the model computes."""
    return pipeline.contract is Contract.LOSSY


@cache
def known() -> dict[str, Any]:
    """All techniques, as the file has them."""
    text = resources.files("graphopt.tune").joinpath("techniques.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _usable(one: dict[str, Any], traits: Traits, wanted: Wanted) -> bool:
    if wanted.minimize not in one.get("for", (wanted.minimize,)) or (one.get("packed") and not wanted.packed):
        return False
    targets: Sequence[str] = one.get("targets", (wanted.target,))
    return wanted.target in targets and all(getattr(traits, need) for need in one.get("needs", ()))


def _pipeline(one: dict[str, Any], target: str) -> Pipeline | None:
    """The pipeline of a technique for a target; None where its recipe has none for that."""
    if "recipe" in one:
        try:
            return Recipe.load(one["recipe"]).made_for(target)
        except UsageError:
            recipe = Recipe.load(one["recipe"])
            return recipe.pipeline if not lossy(recipe.pipeline) or target == "onnxruntime" else None
    return Pipeline((*Recipe.load("default").pipeline.steps, *Pipeline.parse(one["pipeline"]).steps))
