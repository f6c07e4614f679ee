"""What users see of a model: inputs, outputs, defaults of inputs, opset imports."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import get_args

from onnx import ModelProto, TensorProto, ValueInfoProto

from graphopt.pipeline.protocol import Part
from graphopt.testing.breach import LawBroken


def check_signature(before: ModelProto, after: ModelProto, changes: Collection[Part] = ()) -> None:
    """Check that `after` looks to its users as `before` did, apart from the parts in `changes`.

    Inputs and outputs keep names, order, dtypes and dims (symbolic ones by name), overridable
    inputs their default values, the model its opset imports. Raises LawBroken, ValueError for a
    part that does not exist.
    """
    for part in changes:
        if part not in get_args(Part):
            raise ValueError(f"{part!r} is no part of a signature; the parts are {', '.join(get_args(Part))}")
    for part in get_args(Part):
        if part not in changes:
            old, new = _part(before, part), _part(after, part)
            if old != new:
                raise LawBroken("signature", f"the pass changed the {part} of the model: {_differ(old, new)}")


def _part(proto: ModelProto, part: Part) -> list[tuple[str, bytes]]:
    if part == "opsets":
        return [(one.domain or "ai.onnx", str(one.version).encode()) for one in proto.opset_import]
    if part == "defaults":
        inputs = {one.name for one in proto.graph.input}
        found = [(one.name, _said(one)) for one in proto.graph.initializer if one.name in inputs]
        sparse = [one for one in proto.graph.sparse_initializer if one.values.name in inputs]
        found += [(one.values.name, one.SerializeToString(deterministic=True)) for one in sparse]
        return sorted(found)
    return _infos(proto.graph.input if part == "inputs" else proto.graph.output)


def _said(tensor: TensorProto) -> bytes:
    """A default without its documentation, which is not what callers get."""
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.ClearField("doc_string")
    said: bytes = copy.SerializeToString(deterministic=True)
    return said


def _infos(infos: Iterable[ValueInfoProto]) -> list[tuple[str, bytes]]:
    return [(one.name, one.type.SerializeToString(deterministic=True)) for one in infos]


def _differ(old: list[tuple[str, bytes]], new: list[tuple[str, bytes]]) -> str:
    before, after = [name for name, _ in old], [name for name, _ in new]
    if before != after:
        return f"they were {', '.join(before) or 'none'} and are {', '.join(after) or 'none'}"
    names = [name for (name, a), (_, b) in zip(old, new, strict=True) if a != b]
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} declared differently"
