"""The values that pipelines are made of, built in Python."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from graphopt.errors import UsageError
from graphopt.pipeline import Context, Contract, Pass, Pipeline, Registry, Repeat, option


@dataclass(frozen=True)
class Mine(Pass):
    name = "mine"
    contract = Contract.ROUNDING
    share: float = option(0.5, "how much")
    skip: tuple[str, ...] = option((), "what to leave")
    side: Literal["left", "right"] = option("left", "where")

    def run(self, graph: Any, ctx: Context) -> None:
        return None


@dataclass(frozen=True)
class AlsoMine(Mine):
    name = "mine"


@dataclass
class Thawed:
    pass


class Undecorated(Mine):
    name = "undecorated"


@dataclass(frozen=True)
class Odd(Mine):
    name = "odd"
    table: dict[str, int] = field(default_factory=dict)


def test_passes_come_flat_and_in_order(registry: Registry) -> None:
    pipeline = Pipeline.parse("sweep,repeat(polish,sweep),paint", registry)
    assert [one.name for one in pipeline.passes()] == ["sweep", "polish", "sweep", "paint"]
    assert len(pipeline.steps) == 3


@pytest.mark.parametrize(
    ("text", "contract"),
    [
        ("", Contract.EXACT),
        ("sweep", Contract.EXACT),
        ("sweep,repeat(sweep,polish)", Contract.ROUNDING),
        ("paint,polish", Contract.LOSSY),
    ],
)
def test_the_loosest_contract(registry: Registry, text: str, contract: Contract) -> None:
    assert Pipeline.parse(text, registry).contract is contract


def test_the_contract_of_a_group(registry: Registry) -> None:
    (step,) = Pipeline.parse("repeat(sweep,polish)", registry).steps
    assert isinstance(step, Repeat) and step.contract is Contract.ROUNDING


def test_passes_that_no_registry_knows(registry: Registry) -> None:
    pipeline = Pipeline.of(Mine(share=0.25), Repeat(2, (Mine(),)))
    assert str(pipeline) == "mine{share=0.25},repeat{max=2}(mine)"
    assert Pipeline.parse(str(pipeline), registry.including([Mine])) == pipeline
    with pytest.raises(UsageError, match="no pass is called 'mine'"):
        Pipeline.parse(str(pipeline), registry)


def test_pipelines_are_values() -> None:
    one, other = Pipeline.of(Mine(share=0.25)), Pipeline((Mine(share=0.25),))
    assert one == other and hash(one) == hash(other) and one != Pipeline.of(Mine())
    assert Pipeline([Mine()]).steps == (Mine(),)  # type: ignore[arg-type]


def test_a_number_that_is_no_python_float_is_written_as_one() -> None:
    numpy = pytest.importorskip("numpy")
    assert str(Pipeline.of(Mine(share=numpy.float64(0.1)))) == "mine{share=0.1}"


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Pipeline.of(Mine), "a pipeline holds passes, and Mine is the class of one; write Mine()"),  # type: ignore[arg-type]
        (lambda: Pipeline.of("mine"), "a pipeline holds passes, and str is no subclass of Pass"),  # type: ignore[arg-type]
        (lambda: Pipeline.of(Thawed()), "a pipeline holds passes, and Thawed is no subclass of Pass"),  # type: ignore[arg-type]
        (lambda: Repeat(2, (None,)), "a repeat group holds passes, and NoneType is no subclass of Pass"),  # type: ignore[arg-type]
        (lambda: Repeat(2, ()), "a repeat group holds at least one pass"),
        (
            lambda: Repeat(0, (Mine(),)),
            "the max of repeat must be a whole number from 1 to 1000, not 0",
        ),
        (
            lambda: Repeat(True, (Mine(),)),
            "the max of repeat must be a whole number from 1 to 1000, not True",
        ),
        (
            lambda: Repeat(2, (Repeat(2, (Mine(),)),)),  # type: ignore[arg-type]
            "a repeat group cannot stand inside another; put its passes into the outer group, "
            "which runs until nothing changes anyway",
        ),
        (
            lambda: Pipeline.of(Undecorated()),
            "the pass Undecorated is not a frozen dataclass: decorate it with @dataclass(frozen=True)",
        ),
        (
            lambda: Pipeline.of(Odd()),
            "the pass Odd cannot be used: the option 'table' has the type dict[str, int], but options are bool, "
            "int, float, str, Literal, Enum, tuple[T, ...] of these, or one of all these or None",
        ),
        (
            lambda: Pipeline.of(Mine(), AlsoMine()),
            "the pipeline has two different passes of the name mine; rename one of them",
        ),
        (
            lambda: Pipeline.of(Mine(skip=["a"])),  # type: ignore[arg-type]
            "mine: the option 'skip' expects a tuple, not a list",
        ),
        (
            lambda: Pipeline.of(Mine(share="0.5")),  # type: ignore[arg-type]
            "mine: the option 'share' expects a number, not the text '0.5'",
        ),
        (
            lambda: Pipeline.of(Mine(share=float("inf"))),
            "mine: the option 'share' expects a number that is finite",
        ),
        (
            lambda: Pipeline.of(Mine(share=2**60)),
            "mine: the option 'share' expects a number, and this one needs a decimal point or an exponent",
        ),
        (
            lambda: Pipeline.of(Mine(side="up")),  # type: ignore[arg-type]
            "mine: the option 'side' expects one of left, right, not the text 'up'",
        ),
    ],
)
def test_what_is_no_pipeline(build: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        build()
    assert str(caught.value) == sentence


def test_a_lossy_pass_in_a_group_built_in_python(registry: Registry) -> None:
    with pytest.raises(UsageError, match="paint cannot stand in a repeat group, because it is LOSSY"):
        Repeat(2, (registry.get("paint")(),))


def test_the_room_is_light_to_enter() -> None:
    code = (
        "import sys, graphopt.pipeline\n"
        "print([m for m in ('onnx', 'numpy', 'onnxruntime', 'onnx_graphsurgeon', 'passes', 'importlib.metadata')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout == "[]\n", done.stderr
