"""A student: a smaller model with the interface of the original, from which a pipeline starts instead."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx

from graphopt.errors import UsageError
from graphopt.ir.wording import shown, shown_path
from graphopt.storage.read import read
from graphopt.storage.source import Source
from graphopt.validation.signature import Input, default_inputs, required_inputs

UNTOUCHED: Final = "no pass changed anything: the result is the student as it came"


def read_student(path: Path, original: Source, target: Path | None) -> Source:
    """Read a student that may stand in for `original`; it is only read, so it must not be the `target`.

    Raises UsageError for another interface, or the same file; BadModel for what is no model.
    """
    student = read(path)
    said = f"--student {shown_path(path)}"
    if original.identity is not None and student.identity == original.identity:
        raise UsageError(f"{said}: this is the model itself; give a smaller one")
    if student.sha256() == original.sha256():
        raise UsageError(f"{said}: it is the same model as the one to learn from; give a smaller one")
    if target is not None and target.exists() and target.samefile(path):
        raise UsageError(f"-o {target}: this is the student; choose another output")
    why = why_not(original.proto, student.proto)
    if why is not None:
        raise UsageError(f"{said}: it has not the interface of the model: {why}")
    return student


def why_not(original: onnx.ModelProto, student: onnx.ModelProto) -> str | None:
    """Why a student cannot stand in for the original, in a clause: other inputs or outputs, or their types."""
    wanted, found = _named(required_inputs(original)), _named(required_inputs(student))
    optional = _named(default_inputs(original)).keys()
    for name in found:
        if name not in wanted and name not in optional:
            return f"it wants an input {shown(name)}, and the model has {_list(wanted)}"
    for name, one in wanted.items():
        if name not in found:
            return f"it has no input {shown(name)}; it has {_list(found)}"
        if not _fits(one, found[name], wider=True):
            return f"its input {shown(name)} is {found[name].text}, and the model's is {one.text}"
    before, after = _named(_outputs(original)), _named(_outputs(student))
    if list(before) != list(after):
        return f"its outputs are {_list(after)}, and the model's are {_list(before)}"
    for name, one in before.items():
        if not _fits(one, after[name], wider=False):
            return f"its output {shown(name)} is {after[name].text}, and the model's is {one.text}"
    return None


def _fits(original: Input, student: Input, wider: bool) -> bool:
    """Whether types and dims agree; a size that one of the two leaves open may be any. `wider`: the student must
    take every size that the original takes."""
    if (original.form, original.element, original.inner, original.key) != (
        student.form,
        student.element,
        student.inner,
        student.key,
    ):
        return False
    if original.dims is None or student.dims is None:
        return True
    if len(original.dims) != len(student.dims):
        return False
    return all(
        isinstance(theirs, str) or mine == theirs or (isinstance(mine, str) and not wider)
        for mine, theirs in zip(original.dims, student.dims, strict=True)
    )


def _outputs(proto: onnx.ModelProto) -> tuple[Input, ...]:
    bare = onnx.ModelProto()
    bare.graph.input.extend(proto.graph.output)
    return required_inputs(bare)


def _named(several: tuple[Input, ...]) -> Mapping[str, Input]:
    return {one.name: one for one in several}


def _list(names: Mapping[str, Input]) -> str:
    return ", ".join(shown(name) for name in names) or "none"
