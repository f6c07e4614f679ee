"""Metrics over all feeds: `top1`, `agreement`, or the user's own `module:function`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphopt.errors import UsageError
from graphopt.validation.aside import within_clock
from graphopt.validation.compare import top1 as same_top1
from graphopt.validation.imports import calling, load_function
from graphopt.validation.values import Array, arrays, is_float, kind_of

if TYPE_CHECKING:
    from graphopt.runtime.options import Value

NAMES: Final = ("top1", "agreement")
Function = Callable[[Mapping[str, Any], Any], float]
Outputs = Mapping[str, Sequence["Value"]]  # output name -> one value a feed, in the order of the feeds


@dataclass(frozen=True)
class Metric:
    """A figure of merit of a model's outputs, higher is better.

    `function` is None for the built-in ones. A user's function gets the outputs by name, joined
    along the first axis where shapes allow and as a list of one value a feed where not, and the labels
    (None if none were given). With `clocked` it has the clock of functions that are named.
    """

    name: str
    function: Function | None = None
    clocked: bool = False

    def measure(self, outputs: Outputs, reference: Outputs, labels: Array | None) -> float:
        """The figure for `outputs`; `agreement` is with `reference`. Raises `UsageError`."""
        if self.function is not None:
            return self._call({name: joined(values) for name, values in outputs.items()}, labels)
        if self.name == "agreement":
            return agreement(outputs, reference)
        if labels is None:
            raise UsageError("the metric top1 needs labels; give --labels, or use agreement, which needs none")
        return accuracy(outputs, labels)

    def _call(self, outputs: Mapping[str, Any], labels: Array | None) -> float:
        function = self.function
        assert function is not None
        with calling(f"the metric {self.name} raised"):
            if self.clocked:
                value = within_clock(f"the metric {self.name}", lambda: float(function(outputs, labels)))
            else:
                value = float(function(outputs, labels))
        if not math.isfinite(value):
            said = "NaN" if math.isnan(value) else str(value)
            raise UsageError(f"the metric {self.name} gave {said}; it has to give a finite number, higher is better")
        return value


def find_metric(given: str | Function) -> Metric:
    """The metric of a name, of `module:function`, or of a callable. Raises `UsageError`."""
    if not isinstance(given, str):
        return Metric(getattr(given, "__name__", "metric"), given)
    if given in NAMES:
        return Metric(given)
    if ":" not in given:
        raise UsageError(
            f"there is no metric {given!r}; the metrics are {', '.join(NAMES)}, or module:function of your own"
        )
    return Metric(given, load_function(given, "metric"), clocked=True)


def decisive(outputs: Outputs) -> str | None:
    """The output that top-1 figures are read from.

    The first floating-point one whose last axis has two or more entries; failing that the first
    integer one; None where there is neither.
    """
    first_integer = None
    for name, values in outputs.items():
        array = next((array for value in values for array in arrays(value)), None)
        if array is None:
            continue
        if is_float(array.dtype) and array.ndim and array.shape[-1] > 1:
            return name
        if first_integer is None and kind_of(array.dtype) in ("integer", "text", "boolean"):
            first_integer = name
    return first_integer


def agreement(outputs: Outputs, reference: Outputs) -> float:
    """Fraction of rows of the decisive output whose top-1 is the reference's."""
    name = decisive(reference)
    if name is None:
        raise UsageError(
            "agreement needs an output with classes along its last axis, or an integer one; this model has none"
        )
    rows = same = 0
    for mine, theirs in zip(reference[name], outputs[name], strict=True):
        for left, right in zip(arrays(mine), arrays(theirs), strict=False):
            count, agreeing = _agreeing(left, right)
            rows, same = rows + count, same + agreeing
    return same / rows if rows else 1.0


def accuracy(outputs: Outputs, labels: Array) -> float:
    """Fraction of rows of the decisive output whose top-1 is the label, in the order of the feeds."""
    name = decisive(outputs)
    if name is None:
        raise UsageError(
            "top1 needs an output with classes along its last axis, or an integer one; this model has none"
        )
    said = np.concatenate([_decisions(array) for value in outputs[name] for array in arrays(value)])
    truth = labels.reshape(-1)
    if said.size != truth.size:
        raise UsageError(
            f"there are {truth.size} labels for {said.size} rows of the output {name!r}; "
            "give one label for each row of the feeds"
        )
    return float(np.mean(said == truth))


def joined(values: Sequence[Value]) -> Any:
    """One array along the first axis where shapes allow, otherwise the list as it is."""
    first = values[0] if values else None
    if isinstance(first, np.ndarray) and first.ndim:
        same = all(isinstance(value, np.ndarray) and value.shape[1:] == first.shape[1:] for value in values)
        if same:
            return np.concatenate([np.asarray(value) for value in values])
    return list(values)


def _agreeing(left: Array, right: Array) -> tuple[int, int]:
    if left.shape != right.shape:
        return left.size or 1, 0
    if is_float(left.dtype) and left.ndim and left.shape[-1] > 1:
        return same_top1(left, right)
    return left.size, int(np.count_nonzero(left == right))


def _decisions(array: Array) -> Array:
    if is_float(array.dtype):
        return np.asarray(array.astype(np.float32).argmax(axis=-1)).reshape(-1)
    return array.reshape(-1)
