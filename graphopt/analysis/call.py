"""One call of an operator on values that are known, and the exception for what is not computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphopt.ir.values import Array

_WHOLE = "iu"


class NotHere(Exception):
    """The case is left to onnxruntime."""


class Call:
    """The operands of one node."""

    def __init__(self, attrs: Mapping[str, Any], inputs: Sequence[Array | None], opset: int) -> None:
        self.attrs, self.inputs, self.opset = attrs, inputs, opset

    def __getitem__(self, slot: int) -> Array:
        found = self.inputs[slot] if slot < len(self.inputs) else None
        if found is None:
            raise NotHere
        return found

    def has(self, slot: int) -> bool:
        return slot < len(self.inputs) and self.inputs[slot] is not None

    def integer(self, name: str, default: int) -> int:
        value = self.attrs.get(name, default)
        if not isinstance(value, int):
            raise NotHere
        return value

    def integers(self, name: str, slot: int) -> list[int] | None:
        """A list that is an attribute at old opsets and an input at newer ones; None when not given."""
        if name in self.attrs:
            value = self.attrs[name]
            if not isinstance(value, list):
                raise NotHere
            return [int(one) for one in value]
        return [int(one) for one in self[slot].reshape(-1).tolist()] if self.has(slot) else None

    def whole(self, slots: int) -> list[Array]:
        """The first inputs, all of one integer type."""
        found = [self[slot] for slot in range(slots)]
        if any(one.dtype.kind not in _WHOLE or one.dtype != found[0].dtype for one in found):
            raise NotHere
        return found
