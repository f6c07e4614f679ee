"""What is known about one value, and a call of an operator as its rule sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from onnx import TensorProto

from graphopt.analysis.dims import Dim
from graphopt.ir.dtypes import MOST_AXES

Dims = tuple[Dim, ...]
Values = np.ndarray[Any, np.dtype[np.object_]]
"""Elements of a small integer or boolean tensor (0 and 1), in its shape: ints and expressions."""

MOST_VALUES = 64
"""Elements of an integer tensor up to which its values are followed."""

T = TensorProto
INTEGERS = frozenset(
    (T.INT8, T.INT16, T.INT32, T.INT64, T.UINT8, T.UINT16, T.UINT32, T.UINT64, T.INT4, T.UINT4, T.BOOL)
)


class Fact:
    """ONNX's element type (0: unknown), dims (None: not even the rank is known), and elements where
    they are followed: of small integer tensors, and `floats` of small constants."""

    __slots__ = ("dims", "dtype", "floats", "value")

    def __init__(
        self, dtype: int = 0, dims: Dims | None = None, value: Values | None = None, floats: tuple[float, ...] = ()
    ) -> None:
        self.dtype, self.value, self.floats = dtype, value, floats
        # More axes than arrays have are nothing to reason about, and following them costs as many times their number.
        self.dims = dims if dims is None or len(dims) <= MOST_AXES else None

    def __repr__(self) -> str:
        return f"Fact({self.dtype}, {self.dims}, {None if self.value is None else self.value.tolist()})"


UNKNOWN = Fact()


class Unknown(Exception):
    """A rule cannot tell: something that it needs is not known, or the call is not valid."""


class Fresh(Protocol):
    """Makes symbols for sizes of which nothing is known but a bound."""

    def __call__(self, low: int | None = 0) -> Dim: ...


class Call:
    """One call of an operator: attributes, opset of its domain, and facts of inputs (None: left out)."""

    __slots__ = ("attrs", "count", "fresh", "inputs", "op", "opset")

    def __init__(
        self,
        op: str,
        opset: int,
        attrs: Mapping[str, Any],
        inputs: Sequence[Fact | None],
        count: int,
        fresh: Fresh,
    ) -> None:
        self.op, self.opset, self.attrs, self.inputs = op, opset, attrs, inputs
        self.count = count
        self.fresh = fresh

    def given(self, slot: int) -> bool:
        """Whether the input is there."""
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def fact(self, slot: int) -> Fact:
        """What is known of an input; nothing of one that is left out."""
        found = self.inputs[slot] if slot < len(self.inputs) else None
        return UNKNOWN if found is None else found

    def dtype(self, slot: int = 0) -> int:
        return self.fact(slot).dtype

    def dims(self, slot: int = 0) -> Dims:
        """The dims of an input. Raises Unknown."""
        found = self.fact(slot).dims
        if found is None:
            raise Unknown
        return found

    def value(self, slot: int = 0) -> Values:
        """The elements of an input. Raises Unknown."""
        found = self.fact(slot).value
        if found is None:
            raise Unknown
        return found

    def entries(self, slot: int) -> list[Dim]:
        """The elements of an input in row-major order. Raises Unknown."""
        return elements(self.value(slot))

    def integer(self, name: str, default: int) -> int:
        value = self.attrs.get(name, default)
        if not isinstance(value, int):
            raise Unknown
        return value

    def listed(self, name: str) -> list[int] | None:
        """An attribute that is a list of integers, None when it is not there."""
        value = self.attrs.get(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not all(isinstance(one, int) for one in value):
            raise Unknown
        return list(value)

    def numbers(self, name: str, slot: int) -> list[int] | None:
        """Plain integers: an attribute at old opsets, an input at newer ones; None when not given."""
        if name in self.attrs:
            return self.listed(name)
        if not self.given(slot):
            return None
        found = self.entries(slot)
        if not all(isinstance(one, int) for one in found):
            raise Unknown
        return [int(one) for one in found if isinstance(one, int)]

    def text(self, name: str, default: str) -> str:
        value = self.attrs.get(name, default)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if not isinstance(value, str):
            raise Unknown
        return value


Rule = Callable[[Call], "Fact | list[Fact]"]
"""Facts of the first outputs. Raises Unknown; LookupError, TypeError or ValueError for what is not valid."""

ValueRule = Callable[[Call], "Values | list[Values]"]
"""Elements of the first outputs. Raises as a Rule does."""


def axis_of(axis: int, rank: int) -> int:
    """An axis as a number from 0. Raises Unknown where it is out of range."""
    if not -rank <= axis < rank:
        raise Unknown
    return axis % rank


def elements(array: Values) -> list[Dim]:
    """The elements in row-major order."""
    return list(array.reshape(-1))


def concrete(dims: Dims | None) -> tuple[int, ...] | None:
    """The dims as numbers; None unless all are."""
    if dims is None or not all(isinstance(one, int) for one in dims):
        return None
    return tuple(one for one in dims if isinstance(one, int))
