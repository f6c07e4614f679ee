"""The folder that a reduction leaves: the model, its feeds, and a script that needs onnxruntime only."""

from __future__ import annotations

import os
from pathlib import Path

from graphopt.debug.extract import Part
from graphopt.errors import OverLimit, UsageError
from graphopt.ir.wording import shown_path
from graphopt.session.failing import save_feeds
from graphopt.storage.hidden import Hidden
from graphopt.storage.refused import is_scarce, why
from graphopt.storage.source import Source
from graphopt.storage.write import stage

MODEL, FEEDS, SCRIPT = "repro.onnx", "feeds.npz", "repro.py"

_HEAD = '''"""{what}"""
import numpy as np
import onnxruntime as ort
from pathlib import Path

here, options = Path(__file__).parent, ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
feeds = dict(np.load(here / "feeds.npz"))
'''
_ONE = """session = ort.InferenceSession(here / "repro.onnx", options)
for output, value in zip(session.get_outputs(), session.run(None, feeds)):
    print(output.name, value)
"""
_TWO = """a, b = (ort.InferenceSession(here / name, options) for name in ("repro.onnx", "{other}"))
for output, x, y in zip(a.get_outputs(), a.run(None, feeds), b.run(None, feeds)):
    same = x.shape == y.shape and np.array_equal(x, y)
    print(output.name, "same" if same else f"differs:\\n{{x}}\\n{{y}}")
"""


def check_folder(folder: Path) -> None:
    """See before the search that the folder can be made. Raises UsageError when it is taken, or cannot be."""
    what = f"-o {shown_path(folder)}"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{what}: this is not a folder; name one that is empty or does not exist")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{what}: the folder holds other files; name an empty or a new one")
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"{what}: there is no folder {shown_path(folder.absolute().parent)}; create it first")
    if not os.access(folder.absolute().parent, os.W_OK):
        raise UsageError(f"{what}: nothing can be written in {shown_path(folder.absolute().parent)}")


def write(folder: Path, part: Part, what: str, other: tuple[str, Source] | None = None) -> tuple[str, ...]:
    """Write a part, its feeds and the script to a new folder, all or nothing; the names of the files.

    `what` says in a line what fails; `other` is a second model with its file's name, which the script compares.
    Raises UsageError or OverLimit when it cannot be written.
    """
    place = folder.absolute()
    try:
        hidden = Hidden(place.parent)
        try:
            made = hidden.files
            for name, source in [(MODEL, part.source), *([other] if other is not None else [])]:
                with stage(made / name, source=None) as staged:
                    staged.put(source.proto, source.store)
                    staged.commit()
            save_feeds(made / FEEDS, part.feeds)
            script = _HEAD.format(what=_quoted(what)) + (_ONE if other is None else _TWO.format(other=other[0]))
            (made / SCRIPT).write_text(script, encoding="utf-8")
            names = tuple(sorted(path.name for path in made.iterdir()))
            made.chmod(0o777 & ~_mask())
            if place.is_dir():
                place.rmdir()
            made.rename(place)
        finally:
            hidden.remove()
    except OSError as error:
        kind = OverLimit if is_scarce(error) else UsageError
        raise kind(f"cannot write {shown_path(folder)}: {why(error)}; nothing was written") from None
    return names


def _quoted(text: str) -> str:
    """A text that can stand in a docstring: of one line, without what would end it or mean something else."""
    line = "".join(one if one.isprintable() else " " for one in text).replace("\\", "/").replace('"', "'")
    return line if len(line) <= 300 else f"{line[:297]}..."


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
