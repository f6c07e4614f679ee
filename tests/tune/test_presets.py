"""What a search takes for granted of a kind of target."""

from __future__ import annotations

import dataclasses
import fnmatch

import pytest

from graphopt.errors import UsageError
from graphopt.pipeline.pipeline import Pipeline
from graphopt.pipeline.recipe import TARGETS, Recipe
from graphopt.pipeline.registry import Registry
from graphopt.tune.presets import NAMES, PRESETS, Preset, preset

MINIMIZE = ("size", "latency", "energy-proxy")


@pytest.mark.parametrize("one", PRESETS, ids=NAMES)
def test_each_is_whole(one: Preset) -> None:
    assert one.target in TARGETS
    assert one.minimize in MINIMIZE
    assert preset(one.name) is one
    assert one.assumptions
    for sentence in one.assumptions:
        assert sentence.endswith(".")
        assert sentence[0].isupper()
        assert "  " not in sentence
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("one", PRESETS, ids=NAMES)
def test_patterns_name_passes_that_there_are(one: Preset) -> None:
    names = Registry.load().names()
    for pattern in one.without:
        assert fnmatch.filter(names, pattern), f"no pass is called {pattern}"


@pytest.mark.parametrize("one", PRESETS, ids=NAMES)
def test_each_says_where_it_is_measured(one: Preset) -> None:
    """On this machine's CPU, whatever the target."""
    assert any("this machine" in each or "No GPU is measured" in each for each in one.assumptions)


def test_latency_is_minimized_only_where_it_can_be_measured() -> None:
    for one in PRESETS:
        assert one.minimize != "latency" or one.target in ("portable", "onnxruntime")


def test_passes_that_make_no_sense() -> None:
    gpu, mobile = preset("gpu"), preset("mobile")
    assert not gpu.takes(Pipeline.parse("identities,dynamic-int8"))
    assert not gpu.takes(Pipeline.parse("repeat{max=2}(identities,dead-nodes),weight-codebook"))
    assert gpu.takes(Recipe.load("int8-static").made_for("tensorrt"))
    assert gpu.takes(Recipe.load("fp16").made_for("tensorrt"))
    assert not mobile.takes(Pipeline.parse("half-precision"))
    assert not mobile.takes(Recipe.load("onnxruntime").pipeline)
    assert mobile.takes(Recipe.load("int8-static").pipeline)
    assert mobile.takes(Recipe.load("default").pipeline)
    assert preset("server-cpu").takes(Recipe.load("onnxruntime").pipeline)


def test_only_mobile_is_packed_and_converted() -> None:
    assert [one.name for one in PRESETS if one.compressed] == ["mobile"]
    assert [one.name for one in PRESETS if one.ort] == ["mobile"]


def test_an_unknown_one_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"^--for expects mobile, edge, server-cpu or gpu, not 'mobil'.*mobile"):
        preset("mobil")
