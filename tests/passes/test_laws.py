"""Every pass of the catalogue, held to every law on shared models. A new pass needs nothing here."""

from __future__ import annotations

import itertools

import pytest

from graphopt.contract import Contract
from graphopt.pipeline import Pass, Pipeline, Recipe, Registry, Repeat
from graphopt.testing import LawBroken, apply, random_model
from graphopt.testing.fuzz import held, pipelines
from graphopt.testing.samples import samples
from graphopt.testing.wild import wild_model

SEEDS = range(60)
CHUNK = 10
PAIR_RUNS = 240  # applications of pairs of passes, shared out among the pairs

REGISTRY = Registry.load()
# Passes that run code which is not ours do nothing without being told which.
PASSES: dict[str, type[Pass]] = {
    name: REGISTRY.get(name) for name in REGISTRY.names() if REGISTRY.get(name).__module__.startswith("passes.")
}
# Passes that change the signature are there to be asked for, and undo each other.
EXACT = [name for name, one in PASSES.items() if one.contract is Contract.EXACT and not one.changes]
PAIRS = list(itertools.combinations(EXACT, 2))


def hold(tried: Pass | Pipeline, seeds: range) -> None:
    for seed in seeds:
        try:
            apply(tried, random_model(seed))
        except LawBroken as broken:
            pytest.fail(f"random_model({seed}): {broken} (law: {broken.law})")


def test_the_catalogue_is_there() -> None:
    assert not REGISTRY.broken
    assert {"dead-nodes", "unused-initializers", "identities"} <= set(PASSES)


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_keeps_the_laws_on_the_samples(name: str) -> None:
    for sample in samples():
        try:
            apply(PASSES[name](), sample.proto, feeds=None if sample.runs else ())
        except LawBroken as broken:
            pytest.fail(f"sample {sample.name!r}: {broken} (law: {broken.law})")


@pytest.mark.parametrize("start", range(SEEDS.start, SEEDS.stop, CHUNK))
@pytest.mark.parametrize("name", PASSES)
def test_a_pass_keeps_the_laws_on_random_models(name: str, start: int) -> None:
    hold(PASSES[name](), range(start, start + CHUNK))


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_exact_passes_keep_the_laws_together(pair: tuple[str, str]) -> None:
    """Over and over in turn, until neither finds anything: together they still are an EXACT pass."""
    share = max(2, PAIR_RUNS // len(PAIRS))
    start = PAIRS.index(pair) * share % 500
    both = Pipeline.of(Repeat(8, tuple(PASSES[name]() for name in pair)))
    hold(both, range(1000 + start, 1000 + start + share))


@pytest.mark.parametrize("start", range(0, 12, 4))
def test_the_default_pipeline_keeps_the_laws_on_wild_models(start: int) -> None:
    """A sample of what `python -m graphopt.testing.fuzz` runs for hours."""
    for seed in range(start, start + 4):
        _, failure = held(seed, wild_model(seed), "default", Recipe.load("default").pipeline)
        assert failure is None, str(failure)


@pytest.mark.parametrize("seed", range(6))
def test_each_pass_keeps_the_laws_on_wild_models(seed: int) -> None:
    model = wild_model(seed)
    for word, pipeline in pipelines("alone", seed, REGISTRY):
        _, failure = held(seed, model, word, pipeline)
        assert failure is None, str(failure)
