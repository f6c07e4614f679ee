"""Attributes and weights of a node in a few words, for pages that show many nodes."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from graphopt.ir import Constant, Graph, Node
from graphopt.ir.attributes import Opaque

_LONGEST = 120  # characters of one attribute
_ALL = 400  # characters of all attributes of a node
_SHOWN = 4  # elements of a weight that are shown themselves


def attribute_text(node: Node) -> str:
    """The attributes as `axis=1, then_branch=(body)`, cut where they go on for long."""
    attrs = node.attrs
    if not attrs:
        return ""
    return _cut(", ".join(f"{key}={_cut(_shown(value), _LONGEST)}" for key, value in attrs.items()), _ALL)


def constant_text(constant: Constant) -> str:
    """A weight as `float[64,3]`, and what it holds where that is a few numbers: `float[] {0.5}`."""
    shape = tuple(constant.shape)
    number = constant.onnx_dtype
    kind = TensorProto.DataType.Name(number).lower() if number else "?"
    head = f"{kind}[{','.join(str(dim) for dim in shape)}]"
    count = 1
    for dim in shape:
        count *= dim
    if not 0 < count <= _SHOWN:
        return head
    values = constant.values.ravel().tolist()
    constant.forget()
    return _cut(f"{head} {{{', '.join(_number(one) for one in values)}}}", _LONGEST)


def _shown(value: Any) -> str:
    if isinstance(value, Graph):
        return "(body)"
    if isinstance(value, Constant):
        return constant_text(value)
    if isinstance(value, Opaque):
        return f"({type(value.proto).__name__})"
    if isinstance(value, bytes):
        return repr(value[:_LONGEST])[1:]
    if isinstance(value, list | tuple):
        return f"[{', '.join(_shown(one) for one in value[:16])}{', …' if len(value) > 16 else ''}]"
    return _number(value)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
