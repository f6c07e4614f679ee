"""The model after each pass that changed it, as a file and as text, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from graphopt.errors import UsageError
from graphopt.ir import Graph, encode
from graphopt.ir.text import to_text
from graphopt.pipeline.instrument import Instrument, Turn
from graphopt.storage.files import replacing
from graphopt.storage.target import writing
from graphopt.storage.write import stage


class Snapshots(Instrument):
    """Writes `000-input.txt`, then `003-weight-int8.onnx` and `.txt` for the third turn if it
    changed anything, and so on.

    Raises UsageError when the folder exists and holds anything, or is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--snapshots {folder}: this is a file; name a folder that is empty or does not exist")
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"--snapshots {folder}: the folder holds other files; name an empty or a new one")
        self._folder = folder
        self.written: list[Path] = []

    def begins(self, graph: Graph) -> None:
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._write("000-input", graph)

    def after_pass(self, turn: Turn, graph: Graph) -> None:
        if not turn.changed:
            return
        stem = f"{turn.place.turn:03d}-{turn.place.pass_.name}"
        target = self._folder / f"{stem}.onnx"
        encoded = encode(graph)
        with stage(target, source=None) as staged:
            staged.put(encoded.proto, encoded.store)
            staged.commit()
        self._write(stem, graph)
        self.written.append(target)

    def _write(self, stem: str, graph: Graph) -> None:
        with replacing(
            self._folder / f"{stem}.txt", "the snapshot", "; nothing was written besides snapshots"
        ) as stream:
            stream.write(to_text(graph).encode())
