"""Measure: `python -m benchmarks run --out results.jsonl`.

The file begins with a line about the machine; a line for each record follows as soon as there is one, so that a run
that is stopped has kept what it measured. `--resume` goes on in the same file: what is recorded is not measured again,
what failed is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from benchmarks import peers
from benchmarks.corpus_data.made import OrMade
from benchmarks.fetch import names
from benchmarks.machine import lasting, machine
from benchmarks.manifest import Entry, cache, chosen
from benchmarks.record import Record
from benchmarks.suites import SUITES, Asked, Suite, suite
from graphopt.errors import GraphoptError, UsageError

HELP: Final = "measure, and write a line of JSON for each result"
_QUICK_SECONDS: Final = 0.6


@dataclass
class Results:
    """A results file that lines are added to, each of them whole."""

    file: BinaryIO
    done: set[tuple[str, str, str]] = field(default_factory=set)

    def add(self, record: Record) -> bool:
        """Write a record, unless it is there."""
        key = (record.suite, record.model, record.contender)
        if key in self.done:
            return False
        self.done.add(key)
        self.line(record.to_json())
        return True

    def line(self, data: Mapping[str, Any]) -> None:
        """Write a line, to the disk."""
        self.file.write(json.dumps(data).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())


@contextmanager
def opened(path: Path, facts: Mapping[str, Any], *, resume: bool = False) -> Iterator[Results]:
    """A results file to add to: a new one, or with `resume` one that is there, from which half a line is taken away.

    Raises UsageError where there is one already, or it is of another machine.
    """
    there = path.exists() and path.stat().st_size > 0
    if there and not resume:
        raise UsageError(f"{path} holds results already; add --resume to go on, or name another file")
    done: set[tuple[str, str, str]] = set()
    whole = 0
    if there:
        whole, before, done = _before(path)
        if before is not None and lasting(before) != lasting(facts):
            raise UsageError(
                f"{path} was measured on another machine, with other versions or other settings; name another file"
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if there else "wb") as file:
            file.truncate(whole)
            file.seek(whole)
            results = Results(file, done)
            if whole == 0:
                results.line(facts)
            yield results
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror})") from None


def _before(path: Path) -> tuple[int, Mapping[str, Any] | None, set[tuple[str, str, str]]]:
    """How many bytes of a file are whole lines, the machine that it says, and what did not fail."""
    whole, facts = 0, None
    done: set[tuple[str, str, str]] = set()
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            data = json.loads(line)
            if data["kind"] == "machine":
                facts = data
            elif data["kind"] == "record":
                record = Record.from_json(data)
                if not record.failure:
                    done.add((record.suite, record.model, record.contender))
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path} is no file of results; name another one") from None
        whole += len(line)
    return whole, facts, done


def measured(
    plan: Sequence[tuple[Suite, Sequence[Entry], Sequence[str]]],
    results: Results,
    asked: Asked,
    folder: Path,
    data: Path | None = None,
) -> tuple[int, int]:
    """Run suites, each on its models with its contenders; how many records they wrote, and how many suites broke off,
    which is said on stderr before the next one runs."""
    written = broken = 0
    for one, entries, only in plan:
        done = frozenset((model, contender) for name, model, contender in results.done if name == one.NAME)
        models = [entry.model(folder, data) for entry in entries]
        loaders = {model.name: model.loader for model in models}
        own = dataclasses.replace(asked, only=tuple(only), done=done)
        _say(f"{one.NAME}: {len(models)} models" if models else one.NAME)
        try:
            for record in one.measure(models, own):
                loader = loaders.get(record.model)
                if record.figures and isinstance(loader, OrMade) and loader.fell:
                    record = dataclasses.replace(record, words={**record.words, "data": "made up"})
                if results.add(record):
                    written += 1
                    _say(f"{one.NAME}: {record.model}, {record.contender}: {record.failure or _told(record)}")
        except Exception as error:  # noqa: BLE001  what the other suites measure still counts
            broken += 1
            told = str(error) if isinstance(error, GraphoptError) else f"{type(error).__name__}: {error}"
            _say(f"{one.NAME}: broke off: {told}")
    return written, broken


def _told(record: Record) -> str:
    shown = ("nodes", "bytes", "cpu_seconds", "cpu_ratio", "latency_ratio", "sqnr_db", "own_bytes")
    figures = [f"{name} {record.figures[name]:,.6g}" for name in shown if name in record.figures]
    return ", ".join([*figures, *record.words.values()])


def planned(
    suites: Sequence[str], entries: Sequence[Entry], contenders: Sequence[str]
) -> list[tuple[Suite, Sequence[Entry], Sequence[str]]]:
    """Of each suite the models that are for it and the contenders that it has. Raises UsageError where none has one."""
    loaded = [suite(name) for name in suites]
    having = {name: [one.NAME for one in loaded if _has(one, name)] for name in contenders}
    for name, some in having.items():
        if not some:
            raise UsageError(f"none of the suites {', '.join(suites)} has a contender {name!r}")
    plan: list[tuple[Suite, Sequence[Entry], Sequence[str]]] = []
    for one in loaded:
        only = [name for name in contenders if one.NAME in having[name]]
        if only or not contenders:
            plan.append((one, [entry for entry in entries if one.NAME in entry.suites], only))
    return plan


def _has(one: Suite, contender: str) -> bool:
    try:
        one.contenders([contender])
    except UsageError:
        return False
    return True


def present(entries: Sequence[Entry], folder: Path, *, named: bool) -> list[Entry]:
    """Those that are there. Raises UsageError where one that was named is not, or none is."""
    missing = [entry.name for entry in entries if not entry.path(folder).is_file()]
    told = "python -m benchmarks fetch brings it" if len(missing) == 1 else "python -m benchmarks fetch brings them"
    if missing and named:
        raise UsageError(f"{', '.join(missing)} not in {folder}; {told}")
    if missing:
        _say(f"left out, since not in {folder}: {', '.join(missing)}; {told}")
    return [entry for entry in entries if entry.name not in missing]


def tools(given: str | None, folder: Path) -> dict[str, Path]:
    """The interpreters of peers: of NAME=PYTHON with commas between, of a folder, or of where `fetch` puts them, which
    need not be there. `none` is none. Raises UsageError."""
    if given == "none":
        return {}
    if given is not None and "=" in given:
        pairs = dict(one.partition("=")[::2] for one in names(given))
        known = {peer.name for peer in peers.chosen(list(pairs))}
        if wrong := [name for name in known if not Path(pairs[name]).is_file()]:
            raise UsageError(f"there is no interpreter {pairs[wrong[0]]} of {wrong[0]}")
        return {name: Path(place).absolute() for name, place in pairs.items()}
    place = folder / "peers" if given is None else Path(given)
    if given is None and not place.is_dir():
        _say("without other tools; python -m benchmarks fetch --peers brings them")
        return {}
    return {name: python.absolute() for name, python in peers.pythons(place).items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `python -m benchmarks run`."""
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results, a line of JSON each")
    parser.add_argument(
        "--suites", type=names, default=[], metavar="A,B", help=f"of {', '.join(SUITES)}; all unless given"
    )
    parser.add_argument(
        "--models", type=names, default=[], metavar="A,B", help="of benchmarks/models.toml; all unless given"
    )
    parser.add_argument(
        "--contenders", type=names, default=[], metavar="A,B", help="such as graphopt:default or onnxslim"
    )
    parser.add_argument("--from", dest="folder", type=Path, default=cache(), metavar="DIR", help="where fetch put them")
    parser.add_argument(
        "--peers", metavar="WHERE",
        help="a folder of peers, NAME=PYTHON with commas between, or none; where fetch put them unless given",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("GRAPHOPT_CORPUS"), metavar="DIR",
        help="labelled data of models that come without, in a folder `data`; $GRAPHOPT_CORPUS unless given",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a few models, one round: shows that everything works")
    parser.add_argument("--rounds", type=int, default=3, help="how often a whole process is repeated")
    parser.add_argument("--seconds", type=float, default=6.0, help="of one ratio of latencies")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime")
    parser.add_argument("--resume", action="store_true", help="go on in a file that is there")


def main(options: argparse.Namespace) -> int:
    """0 where every suite went to its end, 1 where one broke off. Raises UsageError."""
    if options.rounds < 1 or options.threads < 1 or not options.seconds > 0:
        raise UsageError("--rounds, --threads and --seconds are more than 0")
    wanted = chosen(options.models)
    if options.quick and not options.models:
        wanted = [entry for entry in wanted if entry.quick]
    suites = options.suites or list(SUITES)
    plan = planned(suites, wanted, options.contenders)
    needed = [entry for entry in wanted if any(entry in entries for _, entries, _ in plan)]
    there = {entry.name for entry in present(needed, options.folder, named=bool(options.models))}
    plan = [(one, [entry for entry in entries if entry.name in there], only) for one, entries, only in plan]
    plan = [(one, entries, only) for one, entries, only in plan if entries or one.NAME == "startup"]
    if not plan:
        raise UsageError(f"no model for {', '.join(suites)} is in {options.folder}")
    pythons = tools(options.peers, options.folder)
    start = time.monotonic()
    settings = {name: getattr(options, name) for name in ("quick", "rounds", "seconds", "threads")}
    facts = {**machine(), "settings": settings}
    with opened(options.out, facts, resume=options.resume) as results, tempfile.TemporaryDirectory() as work:
        asked = Asked(
            Path(work), pythons, (), options.rounds, _QUICK_SECONDS if options.quick else options.seconds,
            options.threads, options.quick,
        )  # fmt: skip
        data = None if options.data is None else Path(options.data)
        written, broken = measured(plan, results, asked, options.folder, data)
    print(f"{written} records in {options.out} after {(time.monotonic() - start) / 60:.1f} minutes")
    return 1 if broken else 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
