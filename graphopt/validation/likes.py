"""What is declared of a value that is fed to a part of a model: its element type, and its rank where it has one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnx import TensorProto, ValueInfoProto

from graphopt.runtime.elements import number_of
from graphopt.validation.values import Array


@dataclass(frozen=True)
class Like:
    """Type and rank of a value that is given: ONNX's element type, and None where feeds differ in rank."""

    element: int
    rank: int | None

    @classmethod
    def of(cls, array: Array) -> Like:
        """As one array is."""
        return cls.of_all([array])

    @classmethod
    def of_all(cls, arrays: Iterable[Array]) -> Like:
        """As some arrays of one type are."""
        several = list(arrays)
        ranks = {array.ndim for array in several}
        element = number_of(several[0].dtype) or TensorProto.UNDEFINED
        return cls(element, ranks.pop() if len(ranks) == 1 else None)


def typed(name: str, like: Like) -> ValueInfoProto:
    """What declares an input of that type and rank."""
    info = ValueInfoProto(name=name)
    info.type.tensor_type.elem_type = like.element
    if like.rank is not None:
        info.type.tensor_type.shape.SetInParent()
        for _ in range(like.rank):
            info.type.tensor_type.shape.dim.add()
    return info
