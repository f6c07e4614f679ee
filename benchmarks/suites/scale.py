"""What the size of a model costs: CPU seconds by number of nodes, memory by bytes of weights.

A model whose weights lie in files of their own is a matter of memory: whole processes of the simplifiers, and the most
that they have to themselves at a time. Any other is a matter of nodes: load, remove dead nodes, sort, save, in
processes that have loaded their library before.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import graphopt
from benchmarks import peers
from benchmarks.cells import plain
from benchmarks.inturns import in_turns, noise, paired
from benchmarks.judged import whole_bytes
from benchmarks.pairs import race
from benchmarks.record import Record
from benchmarks.simplifiers import PORTABLE, command, pythons, tool
from benchmarks.spent import Spent
from benchmarks.suites import Asked, Model
from benchmarks.suites.simplification import count
from benchmarks.watched import watched
from graphopt.errors import UsageError

NAME: Final = "scale"
HELP: Final = "what size costs: CPU seconds by number of nodes, memory by bytes of weights"
CLEANERS: Final = {"graphopt:dead-nodes": "graphopt", "onnx-graphsurgeon": "graphsurgeon", "onnx-ir": "onnx_ir"}
_FIRST: Final = next(iter(CLEANERS))
_WEIGHTS: Final = ("graphopt:clean", *(one for one in PORTABLE if one != "graphopt:clean"))


def contenders(only: Sequence[str] = ()) -> list[str]:
    """Those of these names, all for none: a contender or a tool. Raises UsageError."""
    every = [*CLEANERS, *_WEIGHTS]
    found: list[str] = []
    for name in only:
        own = [one for one in every if name in (one, tool(one))]
        if not own:
            raise UsageError(f"the suite {NAME} has no contender {name!r}; it has {', '.join(every)}")
        found += [one for one in own if one not in found]
    return found if only else every


def measure(models: Sequence[Model], asked: Asked) -> Iterator[Record]:
    """Every contender on every model, in turn."""
    wanted = contenders(asked.only)
    for model in models:
        whole = whole_bytes(model.path)
        weights = whole > model.path.stat().st_size
        known = _WEIGHTS if weights else tuple(CLEANERS)
        left = [one for one in wanted if one in known and (model.name, one) not in asked.done]
        if left:
            yield from (_memory if weights else _nodes)(model, left, float(whole), asked)


def _nodes(model: Model, left: Sequence[str], whole: float, asked: Asked) -> Iterator[Record]:
    places = {name: f"benchmarks.cleaners:{CLEANERS[name]}" for name in dict.fromkeys([_FIRST, *left])}
    if (theirs := _with_onnx_ir(asked)) is None and "onnx-ir" in places:
        reason = "onnx-ir is not installed; python -m benchmarks fetch --peers brings it"
        yield Record(NAME, model.name, "onnx-ir", "", failure=reason)
        del places["onnx-ir"]
    interpreters = {"benchmarks.cleaners:onnx_ir": str(theirs)}
    rounds = 1 if asked.quick else asked.rounds
    with tempfile.TemporaryDirectory(dir=asked.work, prefix="scale-") as folder:
        arguments = [str(model.path.absolute()), f"{folder}/made.onnx"]
        found = race(list(places.values()), arguments, rounds, pythons=interpreters)
    size = {"nodes_before": float(count(model.path)), "bytes_before": whole}
    for name, place in places.items():
        runs = found[place]
        if name not in left:
            continue
        if runs.error is not None:
            yield Record(NAME, model.name, name, "", failure=runs.error)
            continue
        figures = {**size, "nodes": float(runs.facts["nodes"]), "cpu_seconds": runs.median}
        if name != _FIRST:
            figures |= paired(runs.cpu, found[places[_FIRST]].cpu)
        yield Record(NAME, model.name, name, str(runs.facts["version"]), figures, noise(figures, rounds))


def _with_onnx_ir(asked: Asked) -> Path | None:
    """An interpreter that has onnx-ir, which comes with onnxscript."""
    if "onnxscript" in asked.peers:
        return asked.peers["onnxscript"]
    return Path(sys.executable) if importlib.util.find_spec("onnx_ir") else None


def _memory(model: Model, left: Sequence[str], whole: float, asked: Asked) -> Iterator[Record]:
    known = pythons(asked.peers)
    for name in left:
        if tool(name) not in known:
            reason = f"{tool(name)} is not installed; python -m benchmarks fetch --peers brings it"
            yield Record(NAME, model.name, name, "", failure=reason)
    here = [name for name in left if tool(name) in known]
    if not here:
        return
    first = _WEIGHTS[0]
    rounds = 1 if asked.quick else asked.rounds
    with tempfile.TemporaryDirectory(dir=asked.work, prefix="scale-") as folder:
        runs = {
            name: _watch(command(name, known[tool(name)], model.path, Path(folder) / "out" / "made.onnx"))
            for name in dict.fromkeys([first, *here])
        }
        found = in_turns(runs, rounds)
    size = {"nodes_before": float(count(model.path)), "bytes_before": whole}
    for name in here:
        turns = found[name]
        own = tool(name) == "graphopt"
        version = graphopt.__version__ if own else peers.version_at(tool(name), known[tool(name)])
        if turns.failure:
            yield Record(NAME, model.name, name, version, failure=turns.failure)
            continue
        figures = {**size, "own_bytes": float(turns.peak), "cpu_seconds": turns.seconds}
        if name != first:
            figures |= paired(turns.cpu, found[first].cpu)
        yield Record(NAME, model.name, name, version, figures, noise(figures, rounds))


def _watch(argv: Sequence[str]) -> Callable[[int], Spent]:
    """A run whose peak is what its processes have to themselves, mapped files apart."""
    target = next(Path(one) for one in argv if one.endswith("made.onnx"))

    def run(turn: int) -> Spent:
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        try:
            seen = watched(argv)
            if seen.code:
                said = (seen.output.strip().splitlines() or ["it gave no reason"])[-1]
                reason = f"its process was ended by signal {-seen.code}" if seen.code < 0 else said[:240]
                return Spent(seen.cpu, seen.own, reason)
            return Spent(seen.cpu, seen.own, "" if target.is_file() else "it wrote no model")
        finally:
            shutil.rmtree(target.parent, ignore_errors=True)

    return run


def tables(records: Sequence[Record]) -> list[tuple[str, str]]:
    """By size and contender: CPU seconds of graphs of many nodes, memory of models of many bytes."""
    mine = [one for one in records if one.suite == NAME]
    nodes = [one for one in mine if one.contender in CLEANERS]
    weights = [one for one in mine if one.contender in _WEIGHTS]
    found = []
    if nodes:
        text = _table(nodes, "nodes_before", "nodes", lambda f: f"{f['cpu_seconds']:.2f} s")
        found.append(("Scale: CPU seconds by number of nodes", text))
    if weights:
        text = _table(
            weights, "bytes_before", "MB of weights",
            lambda f: f"{f['own_bytes'] / 1e6:.0f} MB, {f['cpu_seconds']:.1f} s", 1e6,
        )  # fmt: skip
        found.append(("Scale: memory and CPU seconds by bytes of weights", text))
    return found


def _table(
    records: Sequence[Record], figure: str, head: str, cell: Callable[[Mapping[str, float]], str], unit: float = 1.0
) -> str:
    names = list(dict.fromkeys(one.contender for one in records))
    sizes: dict[str, float] = {}
    for one in records:
        sizes[one.model] = max(sizes.get(one.model, 0.0), one.figures.get(figure, 0.0))
    cells = {(one.model, one.contender): plain(one.failure) or cell(one.figures) for one in records}
    lines = [f"| {head} | " + " | ".join(names) + " |", "|--:|" + "--:|" * len(names)]
    for model, size in sorted(sizes.items(), key=lambda one: one[1]):
        row = " | ".join(cells.get((model, name), "") for name in names)
        lines.append(f"| {size / unit:,.0f} | {row} |")
    return "\n".join(lines)
