"""Functions of a model: they may not recurse, and a small file may not unfold into a large graph."""

from __future__ import annotations

from pathlib import Path

from building import call, function, node, save, whole
from casebook import Family
from onnx import helper

FUNCTIONS = Family("function")
case = FUNCTIONS.case


@case(3, "a function 'f' that calls itself")
def calls_itself(folder: Path) -> None:
    """A function that needs itself."""
    own = function("f", [call("f", "a", "t"), node("Abs", ["t"], ["r"])])
    save(folder, whole([call("f", "x", "y")], functions=[own], domains=["own"]))


@case(3, "that calls itself")
def call_each_other(folder: Path) -> None:
    """Two functions that need each other."""
    both = [function("f", [call("g", "a", "r")]), function("g", [call("f", "a", "r")])]
    save(folder, whole([call("f", "x", "y")], functions=both, domains=["own"]))


@case(3, "that calls itself")
def recursion_that_nobody_calls(folder: Path) -> None:
    """The same, unused."""
    both = [function("f", [call("g", "a", "r")]), function("g", [call("f", "a", "r")])]
    save(folder, whole([node("Abs", ["x"], ["y"])], functions=both, domains=["own"]))


@case(5, "nodes once its functions are inlined, more than the limit")
def billion_laughs(folder: Path) -> None:
    """Forty functions that each call the next one twice."""
    made = [function(f"f{i}", [call(f"f{i + 1}", "a", "t"), call(f"f{i + 1}", "t", "r")]) for i in range(40)]
    made.append(function("f40", [node("Abs", ["a"], ["r"])]))
    save(folder, whole([call("f0", "x", "y")], functions=made, domains=["own"]))


@case(5, "has 2001 functions that call one another in a row, more than the limit of 100")
def chain_of_calls(folder: Path) -> None:
    """Functions that call each other two thousand deep."""
    made = [function(f"f{i}", [call(f"f{i + 1}", "a", "r")]) for i in range(2000)]
    made.append(function("f2000", [node("Abs", ["a"], ["r"])]))
    save(folder, whole([call("f0", "x", "y")], functions=made, domains=["own"]))


@case(0)
def called_as_an_operator(folder: Path) -> None:
    """A function that calls itself Relu, in ONNX's own domain."""
    fake = helper.make_function("", "Relu", ["a"], ["r"], [node("Exp", ["a"], ["r"])], [helper.make_opsetid("", 17)])
    save(folder, whole([node("Identity", ["x"], ["t"]), node("Relu", ["t"], ["y"])], functions=[fake]))


@case(3, "multiple local functions with the same implementation")
def defined_twice(folder: Path) -> None:
    """Two functions of one name."""
    both = [function("f", [node("Abs", ["a"], ["r"])]), function("f", [node("Exp", ["a"], ["r"])])]
    save(folder, whole([node("Identity", ["x"], ["t"]), call("f", "t", "y")], functions=both, domains=["own"]))


@case(6, "own:f.* is not a registered function/op")
def undefined(folder: Path) -> None:
    """A call of a function that is not there."""
    save(folder, whole([call("f", "x", "y")], functions=[function("g", [node("Abs", ["a"], ["r"])])], domains=["own"]))


@case(6, "Number of actual parameters cannot exceed")
def more_given_than_taken(folder: Path) -> None:
    """A call with more inputs than the function has."""
    made = node("f", ["x", "x", "x"], ["y"], domain="own")
    save(folder, whole([made], functions=[function("f", [node("Abs", ["a"], ["r"])])], domains=["own"]))


@case(6, "the original could not be run")
def output_not_made(folder: Path) -> None:
    """A function that does not make its output."""
    save(folder, whole([call("f", "x", "y")], functions=[function("f", [node("Abs", ["a"], ["t"])])], domains=["own"]))


@case(3, "No Opset registered for domain")
def without_opsets(folder: Path) -> None:
    """A function whose operators have no version."""
    made = function("f", [node("Abs", ["a"], ["r"])])
    del made.opset_import[:]
    save(folder, whole([call("f", "x", "y")], functions=[made], domains=["own"]))
