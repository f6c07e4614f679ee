"""Which pipelines the model of a seed is held under."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import typing
from collections.abc import Iterator
from random import Random

from graphopt.contract import Contract
from graphopt.errors import UsageError
from graphopt.pipeline import Pass, Pipeline, Recipe, Registry, Repeat

KINDS = ("default", "some", "pairs", "random", "lossy")
"""What a long run holds each seed under; `alone` (each pass by itself) is for a closer look."""

SHARES = {"default": 21, "some": 3, "pairs": 1, "random": 1, "lossy": 5}
"""Of each kind, one seed in how many is held under it: the default recipe takes the longest."""

PAIRS = 1  # ordered pairs of a seed
_TRAINED = frozenset({"distill"})  # minutes for a model

_NEEDS_MORE = frozenset({"freeze-dims", "dynamic-batch"})  # ask for options that a model's own dims give


@functools.cache
def _default() -> Pipeline:
    return Recipe.load("default").pipeline


@functools.lru_cache(maxsize=4)
def ours(registry: Registry) -> list[type[Pass]]:
    """The passes of the catalogue: those that run code of somebody else's are not held to anything here."""
    every = (registry.get(name) for name in registry.names())
    return [one for one in every if one.__module__.startswith("passes.") and one.name not in _NEEDS_MORE]


def candidates(registry: Registry) -> list[type[Pass]]:
    """The passes that keep a model's signature, its outputs and its size."""
    kept = [one for one in ours(registry) if one.contract is not Contract.LOSSY]
    return [one for one in kept if not one.changes and not one.grows]


@functools.lru_cache(maxsize=4)
def holding_outputs(registry: Registry) -> list[type[Pass]]:
    """All EXACT and ROUNDING passes."""
    return [one for one in ours(registry) if one.contract is not Contract.LOSSY]


@functools.lru_cache(maxsize=4)
def losing(registry: Registry) -> list[type[Pass]]:
    """The LOSSY passes, those aside that train for long."""
    return [one for one in ours(registry) if one.contract is Contract.LOSSY and one.name not in _TRAINED]


def pairs(registry: Registry) -> list[tuple[type[Pass], type[Pass]]]:
    """Every ordered pair of different EXACT and ROUNDING passes, in an order that mixes them."""
    return list(_pairs(tuple(holding_outputs(registry))))


@functools.lru_cache(maxsize=4)
def _pairs(every: tuple[type[Pass], ...]) -> tuple[tuple[type[Pass], type[Pass]], ...]:
    found = list(itertools.permutations(every, 2))
    Random(len(found)).shuffle(found)
    return tuple(found)


def pipelines(kind: str, seed: int, registry: Registry) -> Iterator[tuple[str, Pipeline]]:
    """The pipelines of a kind (or the one of a text) to hold on the model of a seed, each with its word."""
    rng = Random(f"{kind} {seed}")
    if kind == "default":
        yield kind, _default()
    elif kind == "alone":
        yield from ((one.name, Pipeline((one(),))) for one in candidates(registry))
    elif kind == "some":
        every = holding_outputs(registry)
        one = every[seed // SHARES[kind] % len(every)]
        yield one.name, Pipeline((_varied(one, rng),))
    elif kind == "pairs":
        both = pairs(registry)
        for at in range(PAIRS):
            first, second = both[(seed * PAIRS + at) % len(both)]
            yield f"{first.name},{second.name}", Pipeline((first(), second()))
    elif kind == "random":
        made = _random(rng, registry)
        yield made.text(), made
    elif kind == "lossy":
        made = _lossy(rng, registry)
        yield made.text(), made
    else:
        made = Pipeline.parse(kind, registry)
        yield made.text(), made


def _random(rng: Random, registry: Registry) -> Pipeline:
    """Two to nine passes, with options of any value, most of them in groups that run until nothing changes."""
    every = holding_outputs(registry)
    chosen = [_varied(one, rng) for one in rng.sample(every, rng.randint(2, 9))]
    steps: list[Pass | Repeat] = []
    while chosen:
        count = rng.randint(1, len(chosen))
        group, chosen = tuple(chosen[:count]), chosen[count:]
        if rng.random() < 0.6:
            steps.append(Repeat(rng.choice((1, 2, 8)), group))
        else:
            steps.extend(group)
    return Pipeline(tuple(steps))


def _lossy(rng: Random, registry: Registry) -> Pipeline:
    """One to three LOSSY passes among others."""
    every = losing(registry)
    steps: list[Pass] = [_lossy_one(one, rng) for one in rng.sample(every, rng.randint(1, 3))]
    for one in rng.sample(holding_outputs(registry), rng.randint(0, 3)):
        steps.insert(rng.randint(0, len(steps)), one())
    return Pipeline(tuple(steps))


def _varied(one: type[Pass], rng: Random) -> Pass:
    """A pass with its own options, or with some of them changed to what their types allow."""
    if rng.random() < 0.5:
        return one()
    given: dict[str, object] = {}
    for name, choices in _choices(one):
        if rng.random() < 0.5:
            given[name] = rng.choice(choices)
    try:
        made = one(**given)
        Pipeline((made,))
    except (ValueError, UsageError):  # a value out of its range, which the pass says itself
        return _small(one)
    return made


@functools.cache
def _choices(one: type[Pass]) -> list[tuple[str, list[object]]]:
    """The options of a pass that can be changed, and to what."""
    hints = typing.get_type_hints(one)
    found = [(each, _values(each.name, hints[each.name], each.default)) for each in dataclasses.fields(one)]
    pairs = [(each.name, [value for value in values if value != each.default]) for each, values in found]
    return [(name, values) for name, values in pairs if values]


def _small(one: type[Pass]) -> Pass:
    """A pass that looks at the small tensors of small models too."""
    names = {field.name for field in dataclasses.fields(one)}
    return one(**{"min_elements": 1} if "min_elements" in names else {})


def _lossy_one(one: type[Pass], rng: Random) -> Pass:
    return _small(one) if rng.random() < 0.5 else _varied(one, rng)


def _values(name: str, hint: object, default: object) -> tuple[object, ...]:
    if name == "min_elements":
        return (1, 1, 8)
    if name == "to" and isinstance(default, int):
        return tuple(range(7, 26))
    if typing.get_origin(hint) is typing.Literal:
        return typing.get_args(hint)
    if isinstance(default, bool):
        return (not default,)
    if isinstance(default, int):
        return (0, 1, 2, default // 2, default + 1)
    if isinstance(default, float):
        return (0.0, default / 2, min(default * 2, 1.0), 0.5, 0.9)
    return ()
