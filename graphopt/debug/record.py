"""The values inside of a model in one run, as onnxruntime computes them, in groups that memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto

from graphopt.errors import OverLimit
from graphopt.runtime.failure import WorkerFailure
from graphopt.storage.hidden import remove_tree
from graphopt.storage.source import Source
from graphopt.storage.write import stage
from graphopt.validation.runs import OFF, Spill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphopt.runtime.client import Worker

_FIRST, _MOST = 64, 1024  # values of one run
_GOAL = 256 << 20  # bytes of one run
LIMIT = 16 << 30  # bytes of all values


def record(
    source: Source, feeds: Mapping[str, Any], names: Sequence[str], worker: Worker, folder: Path, limit: int = LIMIT
) -> dict[str, Any]:
    """The values of a model by name on `feeds`, optimizations off; large ones are files in `folder`, mapped.

    Values that onnxruntime does not give as an output are left out. Raises WorkerFailure when the
    model does not run even as it is, OverLimit when there is more than `limit` bytes of values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spill = Spill(folder)
    found: dict[str, Any] = {}
    total, size = 0, _FIRST
    pending = list(reversed([list(names)] if names else []))
    while pending:
        group = pending.pop()
        if len(group) > size:
            pending.append(group[size:])
            group = group[:size]
        try:
            values = _run(source, feeds, group, worker, folder)
        except WorkerFailure:
            if len(group) == 1:
                continue  # of a kind that cannot be an output
            pending += [group[len(group) // 2 :], group[: len(group) // 2]]
            continue
        held = sum(one.nbytes for one in values.values() if isinstance(one, np.ndarray))
        total += held
        if total > limit:
            raise OverLimit(f"the values inside of the model are more than {limit >> 30} GiB; use smaller feeds")
        found.update((name, spill.keep(value)) for name, value in values.items())
        size = max(1, min(_MOST, size * 2, int(len(group) * _GOAL / max(held, 1))))
    return found


def _run(
    source: Source, feeds: Mapping[str, Any], names: Sequence[str], worker: Worker, folder: Path
) -> dict[str, Any]:
    proto = ModelProto()
    proto.CopyFrom(source.proto)
    known = {one.name for one in proto.graph.output}
    for name in names:
        if name not in known:
            proto.graph.output.add(name=name)
    with loadable(proto, source, folder / "tapped") as path, worker.load(path, OFF) as session:
        return dict(session.run(feeds, list(names)))


@contextmanager
def loadable(proto: ModelProto, source: Source, folder: Path) -> Iterator[Path]:
    """A model (its weights are the source's) as a file that onnxruntime can load, for as long as the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with stage(folder / "model.onnx", source=None) as staged:
            staged.put(proto, source.store)
            path = staged.commit().path
        yield path
    finally:
        remove_tree(folder)
