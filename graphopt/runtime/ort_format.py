"""A model in onnxruntime's own format, made by onnxruntime's own converter in the worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from graphopt.errors import UsageError
from graphopt.runtime.failure import WorkerFailure, clean, sentence

if TYPE_CHECKING:
    from graphopt.runtime.client import Worker

SUFFIX: Final = ".ort"
OPERATORS: Final = ".required_operators.config"
_TAKEN: Final = ".onnx"  # the only names that the converter takes
_LEFT: Final = ".optimized.onnx"  # ... except these, which it leaves as its own


class OrtFiles(NamedTuple):
    """A model in onnxruntime's format, and the list of its operators that a build of only these needs."""

    model: Path
    operators: Path

    @classmethod
    def at(cls, place: Path) -> OrtFiles:
        """The files that belong together, of which `place` is the model."""
        return cls(place, place.with_suffix(OPERATORS))


def to_ort(worker: Worker, model: Path, folder: Path) -> OrtFiles:
    """Convert `model`, its external data beside it, into `folder`, which is there and empty.

    It gets all of onnxruntime's optimizations but those for this kind of CPU, and signed 8-bit integers stay signed,
    which ARM prefers. Where its name does not end in `.onnx`, the model has a second name meanwhile. Raises
    WorkerFailure, and UsageError where it cannot be given one.
    """
    path, doing = model.absolute(), f"converting '{clean(model.name, 120)}' to its {SUFFIX} format"
    named = _named(path)
    library = [str(one) for one in worker.custom_ops]
    try:
        with worker.lock:
            worker.ready()
            request = {"do": "convert", "path": str(named), "folder": str(folder.absolute()), "libraries": library}
            made, _ = worker.request(request, None, doing)
    except WorkerFailure as failure:
        if failure.kind == "failed":
            reason = failure.message.removeprefix(f"onnxruntime failed while {doing}: ")
            what = f"onnxruntime cannot convert '{clean(model.name, 120)}' to its {SUFFIX} format"
            raise WorkerFailure("failed", sentence(f"{what}: {reason.rstrip('.')}")) from failure
        raise
    finally:
        if named != path:
            named.unlink(missing_ok=True)
    found = OrtFiles(*(folder / one for one in made))
    text = found.operators.read_text(encoding="utf-8").splitlines()
    # Comments name the temporary files that the converter read.
    found.operators.write_text("".join(f"{line}\n" for line in text if not line.startswith("#")), encoding="utf-8")
    return found


def _named(path: Path) -> Path:
    """A name of the file that the converter takes: its own, or a second one beside it, where its data are found too."""
    lower = path.name.lower()
    if lower.endswith(_TAKEN) and not lower.endswith(_LEFT):
        return path
    other = path.with_name(f"{path.name[:200]}.{os.getpid()}{_TAKEN}")
    try:
        os.link(path, other)
    except OSError as error:
        raise UsageError(
            f"onnxruntime's converter takes files that end in {_TAKEN}, and '{clean(path.name, 120)}' cannot be linked "
            f"to such a name ({os.strerror(error.errno or 0).lower()}); name the output so"
        ) from None
    return other
