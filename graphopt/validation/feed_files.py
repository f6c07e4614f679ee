"""The user's own feeds: arrays of a file or dict, matched to inputs and cut into feeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from graphopt.errors import UsageError
from graphopt.validation.imports import calling
from graphopt.validation.signature import Input, cast
from graphopt.validation.values import Array, describe

if TYPE_CHECKING:
    from graphopt.runtime.options import Value

ROWS: Final = 64  # rows of a symbolic leading dim that go into one feed


@dataclass(frozen=True)
class Feed:
    """Values for one run, by input name, and where they came from in words."""

    values: Mapping[str, Value]
    label: str


@dataclass(frozen=True)
class _Cut:
    """How one array becomes `count` values: whole, one by one, or `rows` of the leading axis each."""

    array: Array
    wanted: Input
    count: int
    rows: int = 0
    stacked: bool = False

    def piece(self, index: int) -> Array:
        if self.stacked:
            return np.asarray(self.array[index], order="C")
        if self.count == 1:
            return self.array
        return np.asarray(self.array[index * self.rows : (index + 1) * self.rows], order="C")


def ignored(arrays: Mapping[str, Any], required: tuple[Input, ...], optional: tuple[Input, ...]) -> tuple[str, ...]:
    """Names that no input has, so that they can be reported."""
    if len(required) == 1 and len(arrays) == 1:
        return ()
    known = {each.name for each in (*required, *optional)}
    return tuple(name for name in arrays if name not in known)


def cut(
    arrays: Mapping[str, Any], required: tuple[Input, ...], optional: tuple[Input, ...], label: str
) -> Iterator[Feed]:
    """The feeds that a set of named arrays holds.

    An array of the declared rank is one feed, or several where its leading axis is a multiple
    of the fixed leading dim, or longer than `ROWS` and symbolic; with one axis more, the
    leading axis counts feeds. Arrays that are one feed are shared by all.
    Raises `UsageError` naming the array and the input where they do not fit.
    """
    cuts: list[_Cut] = []
    fixed: dict[str, Value] = {}
    for wanted, value in _matched(arrays, required, optional, label):
        if wanted.form == "tensor":
            cuts.append(_cut(_array(value, f"the value for {wanted.name!r} in {label}"), wanted, label))
        else:
            fixed[wanted.name] = _structured(value, wanted, label)
    counts = {each.wanted.name: each.count for each in cuts if each.count > 1}
    if len(set(counts.values())) > 1:
        said = " and ".join(f"{name!r} {count}" for name, count in counts.items())
        raise UsageError(
            f"{label} has a different number of feeds for each input: {said}; give each the same number of rows"
        )
    total = next(iter(counts.values()), 1)
    for index in range(total):
        values: dict[str, Value] = dict(fixed)
        for each in cuts:
            values[each.wanted.name] = cast(
                each.piece(index), each.wanted, f"the array for {each.wanted.name!r} in {label}"
            )
        yield Feed(values, label if total == 1 else f"{label} feed {index + 1} of {total}")


def _array(value: Any, label: str) -> Array:
    with calling(f"{label} is no array:"):
        array: Array = np.asarray(value)
    return array


def _matched(
    arrays: Mapping[str, Any], required: tuple[Input, ...], optional: tuple[Input, ...], label: str
) -> list[tuple[Input, Any]]:
    if len(required) == 1 and len(arrays) == 1 and next(iter(arrays)) not in {each.name for each in optional}:
        return [(required[0], next(iter(arrays.values())))]
    missing = [each for each in required if each.name not in arrays]
    if missing:
        has = ", ".join(map(repr, arrays)) or "nothing"
        raise UsageError(f"{label} has no array for the input {missing[0].name!r} ({missing[0].text}); it has {has}")
    return [(each, arrays[each.name]) for each in (*required, *optional) if each.name in arrays]


def _cut(array: Array, wanted: Input, label: str) -> _Cut:
    dims = wanted.dims
    if dims is None:
        return _Cut(array, wanted, 1)
    if array.ndim == len(dims) + 1 and _fits(array.shape[1:], dims):
        return _Cut(array, wanted, _some(array.shape[0], wanted, label), stacked=True)
    if array.ndim != len(dims) or not _fits(array.shape[1:], dims[1:]):
        raise UsageError(_misfit(array, wanted, label))
    if not dims:
        return _Cut(array, wanted, 1)
    lead, rows = dims[0], array.shape[0]
    if isinstance(lead, str):
        return _Cut(array, wanted, max(1, -(-rows // ROWS)), rows=ROWS)
    if rows == lead:
        return _Cut(array, wanted, 1)
    if lead == 0 or rows % lead or rows == 0:
        raise UsageError(_misfit(array, wanted, label))
    return _Cut(array, wanted, rows // lead, rows=lead)


def _some(count: int, wanted: Input, label: str) -> int:
    if count == 0:
        raise UsageError(f"the array for {wanted.name!r} in {label} holds no feed; its leading axis is 0")
    return count


def _fits(shape: tuple[int, ...], dims: tuple[int | str, ...]) -> bool:
    return len(shape) == len(dims) and all(
        isinstance(dim, str) or dim == size for size, dim in zip(shape, dims, strict=True)
    )


def _misfit(array: Array, wanted: Input, label: str) -> str:
    return (
        f"the array for {wanted.name!r} in {label} is {describe(array)} and the model wants {wanted.text}; "
        "give that shape, or one more leading axis that counts feeds"
    )


def _structured(value: Any, wanted: Input, label: str) -> Value:
    """A sequence, map or optional, which only a function can give."""
    if wanted.form == "sparse tensor":
        raise UsageError(f"the input {wanted.name!r} is a sparse tensor, which onnxruntime cannot be fed from Python")
    if isinstance(value, np.ndarray) and wanted.form in ("sequence", "map"):
        raise UsageError(
            f"the input {wanted.name!r} is a {wanted.form}, which {label} cannot hold; give feeds as module:function "
            f"that returns a {'list' if wanted.form == 'sequence' else 'dict'} for it"
        )
    if isinstance(value, (list, tuple)):
        each = f"an element of {wanted.name!r} in {label}"
        return [cast(_array(item, each), wanted, each) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    what = f"the value for {wanted.name!r} in {label}"
    return None if value is None else cast(_array(value, what), wanted, what)
