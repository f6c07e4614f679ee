"""Which pipelines a seed is held under: all passes and all pairs in the end, and always the same ones."""

from __future__ import annotations

import pytest

from graphopt.contract import Contract
from graphopt.pipeline import Pipeline, Registry, Repeat
from graphopt.testing.fuzz import KINDS, choosing, holding, pipelines

REGISTRY = Registry.load()


def test_every_ordered_pair_has_its_turn() -> None:
    every = choosing.holding_outputs(REGISTRY)
    seeds = -(-len(choosing.pairs(REGISTRY)) // choosing.PAIRS)
    words = {word for seed in range(seeds) for word, _ in pipelines("pairs", seed, REGISTRY)}
    assert words == {f"{one.name},{two.name}" for one in every for two in every if one is not two}


def test_every_pass_has_its_turn_alone() -> None:
    every = choosing.holding_outputs(REGISTRY)
    assert len(every) >= 50
    seeds = range(0, choosing.SHARES["some"] * len(every), choosing.SHARES["some"])
    assert {word for seed in seeds for word, _ in pipelines("some", seed, REGISTRY)} == {one.name for one in every}


@pytest.mark.parametrize("kind", ["random", "lossy"])
def test_random_pipelines_are_of_their_kind_and_can_be_read_again(kind: str) -> None:
    found = [made for seed in range(40) for _, made in pipelines(kind, seed, REGISTRY)]
    lossy = [made.contract is Contract.LOSSY for made in found]
    assert all(lossy) if kind == "lossy" else not any(lossy)
    assert all(Pipeline.parse(made.text(), REGISTRY) == made for made in found)
    assert len({made.text() for made in found}) > 35
    if kind == "random":
        assert any(isinstance(step, Repeat) for made in found for step in made.steps)
    assert any("{" in made.text().replace("repeat{", "") for made in found), "no pass has options of its own"


def test_the_same_seed_has_the_same_pipelines() -> None:
    for kind in KINDS:
        words = [[word for word, _ in pipelines(kind, 26, REGISTRY)] for _ in range(2)]
        assert words[0] == words[1] and words[0]


@pytest.mark.parametrize(
    ("text", "settles"),
    [
        ("dead-nodes", True),
        ("repeat{max=8}(dead-nodes,identities)", True),
        ("dead-nodes,identities", False),
        ("repeat{max=1}(dead-nodes,identities)", False),
        ("repeat{max=8}(inputs-from-initializers,initializers-from-inputs)", False),
        ("weight-int8", False),
    ],
)
def test_what_is_held_to_all_laws(text: str, settles: bool) -> None:
    """What runs once may find more on its own result; what undoes itself never comes to an end."""
    assert holding.settles(Pipeline.parse(text, REGISTRY)) is settles
