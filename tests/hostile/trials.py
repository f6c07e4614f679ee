"""One hostile case tried: built in an empty place, run, and what became of everything around it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from casebook import Case
from commandrun import Cold, Ended, Warm
from inotify import Watch

OUTPUT = "out.onnx"


@dataclass(frozen=True)
class Tried:
    """How it ended; `opened` and `left` are files opened elsewhere and left behind, `changed` inputs that differ."""

    ended: Ended
    output: Path | None
    opened: tuple[str, ...]
    left: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def said(self) -> str:
        """Everything that was printed."""
        return self.ended.err + self.ended.out


def attempt(
    case: Case,
    place: Path,
    commands: Cold | Warm,
    arguments: Sequence[str] | None = None,
    forbidden: Sequence[Path] = (),
) -> Tried:
    """Build a case below `place` and run `graphopt ARGUMENTS` on it, `optimize` unless said.

    Nothing beside the case's own folder may be opened, nor anything in the folders that are `forbidden`.
    `arguments` name the model as `{model}`, its folder as `{case}`, and a place for an output as `{out}`.
    """
    folder, elsewhere, out, home = (place / name for name in ("case", "elsewhere", "out", "home"))
    for one in (folder, elsewhere, out, home, home / "tmp"):
        one.mkdir(parents=True)
    (elsewhere / "secret.bin").write_bytes(b"A secret that nobody may read..." * 2)
    case.build(folder)
    names = {"{model}": str(folder / case.file), "{out}": str(out / OUTPUT), "{case}": str(folder)}
    wanted = arguments or ("optimize", "{model}", "-o", "{out}", *case.options)
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(":")
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    before = _state(folder)
    beside = [one for one in place.iterdir() if one not in (folder, out, home)]
    with Watch([*beside, *forbidden]) as watch:
        ended = commands.run([_named(one, names) for one in wanted], out, environment, 3 * case.seconds + 20)
        opened = tuple(watch.opened())
    after = _state(folder)
    changed = tuple(name for name in {**before, **after} if before.get(name) != after.get(name))
    left = [str(one.relative_to(place)) for root in (home, elsewhere) for one in sorted(root.rglob("*"))]
    left = [one for one in left if one not in ("home/tmp", "elsewhere/secret.bin")]
    made = sorted(one.name for one in out.iterdir())
    kept = [OUTPUT, OUTPUT + ".data"] if ended.code == 0 else []
    left += [f"out/{one}" for one in made if one not in kept]
    output = out / OUTPUT
    return Tried(ended, output if output.exists() else None, opened, tuple(left), changed)


def _named(text: str, names: dict[str, str]) -> str:
    for name, path in names.items():
        text = text.replace(name, path)
    return text


def _state(folder: Path) -> dict[str, object]:
    """What tells whether a folder is as it was: names, kinds, sizes, times, and the bytes of small files."""
    found: dict[str, object] = {}
    for one in sorted(folder.rglob("*")):
        status = one.lstat()
        digest = ""
        if one.is_file() and not one.is_symlink() and status.st_size < 1 << 28:
            digest = hashlib.sha256(one.read_bytes()).hexdigest()
        found[str(one.relative_to(folder))] = (status.st_mode, status.st_size, status.st_mtime_ns, digest)
    return found
