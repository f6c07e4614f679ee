"""The model after each pass that changed it, as a file and as text, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from graphopt.ir import Graph, encode
from graphopt.ir.text import to_text
from graphopt.pipeline.instrument import Instrument, Turn
from graphopt.storage.files import replacing
from graphopt.storage.target import writing
from graphopt.storage.unfinished import Unfinished, check_fillable
from graphopt.storage.write import stage

_FLAG = "--snapshots"


class Snapshots(Instrument):
    """Writes `000-input.txt`, then `003-weight-int8.onnx` and `.txt` for the third turn if it
    changed anything, and so on.

    While it writes, the folder is marked; the next run clears what one that was killed or stopped has left.
    Raises UsageError when the folder holds anything else, or is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        check_fillable(folder, _FLAG)
        self._folder = folder
        self._unfinished: Unfinished | None = None
        self.written: list[Path] = []

    def begins(self, graph: Graph) -> None:
        if self._unfinished is None:
            with writing(self._folder):
                self._unfinished = Unfinished(self._folder, _FLAG)
        self._begin("000-input")
        self._write("000-input", graph)

    def close(self, kind: type[BaseException] | None, *_: object) -> None:
        """The run has ended, by an error of this kind or well: the snapshots are the user's, unless it was stopped."""
        if self._unfinished is None:
            return
        if kind is None or issubclass(kind, Exception):
            self._unfinished.finish()
        else:
            self._unfinished.leave()

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        if not turn.changed:
            return
        stem = f"{turn.place.turn:03d}-{turn.place.pass_.name}"
        target = self._folder / f"{stem}.onnx"
        self._begin(stem)
        encoded = encode(graph)
        with stage(target, source=None) as staged:
            staged.put(encoded.proto, encoded.store)
            staged.commit()
        self._write(stem, graph)
        self.written.append(target)

    def _begin(self, stem: str) -> None:
        assert self._unfinished is not None, "the run has begun"
        with writing(self._folder):
            self._unfinished.begin(stem)

    def _write(self, stem: str, graph: Graph) -> None:
        with replacing(
            self._folder / f"{stem}.txt", "the snapshot", "; nothing was written besides snapshots"
        ) as stream:
            stream.write(to_text(graph).encode())
