"""Optimizers side by side: nodes, bytes, CPU seconds, memory, and whether the result still computes the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError

import graphopt
from benchmarks import peers
from benchmarks.cells import by_model, plain, ratio
from benchmarks.inturns import Turns, in_turns, noise, paired
from benchmarks.judged import whole_bytes, without_folders
from benchmarks.record import Record
from benchmarks.simplifiers import CONTENDERS, FIRST, TARGETED, command, pythons, tool
from benchmarks.spent import Spent, spent
from benchmarks.suites import Asked, Model
from graphopt.errors import GraphoptError, UsageError

NAME: Final = "simplification"
HELP: Final = "optimizers side by side: nodes, bytes, CPU seconds, peak memory, and whether the result is right"
SAME: Final = "equivalent"
_LONGEST: Final = 240
_AGAINST: Final = ratio("cpu_ratio", ".2f")


def contenders(only: Sequence[str] = ()) -> list[str]:
    """Those of these names, all for none: a contender or a tool (`graphopt`). Raises UsageError."""
    found: list[str] = []
    for name in only:
        own = [one for one in CONTENDERS if name in (one, tool(one))]
        if not own:
            raise UsageError(f"the suite {NAME} has no contender {name!r}; it has {', '.join(CONTENDERS)}")
        found += [one for one in own if one not in found]
    return found if only else list(CONTENDERS)


def measure(models: Sequence[Model], asked: Asked) -> Iterator[Record]:
    """Every contender on every model, in turn; where some of a model's are recorded, `FIRST` runs again beside the
    rest, since ratios are of the same rounds."""
    wanted = contenders(asked.only)
    known = pythons(asked.peers)
    tools = {tool(one) for one in wanted} - {"graphopt"}
    versions = {name: peers.version_at(name, known[name]) for name in tools if name in known}
    versions["graphopt"] = graphopt.__version__
    for model in models:
        left = [one for one in wanted if (model.name, one) not in asked.done]
        for one in left:
            if tool(one) not in known:
                reason = f"{tool(one)} is not installed; python -m benchmarks fetch --peers brings it"
                yield Record(NAME, model.name, one, "", failure=reason)
        here = [one for one in left if tool(one) in known]
        if here:
            with tempfile.TemporaryDirectory(dir=asked.work, prefix="simplification-") as folder:
                yield from _records(model, here, known, versions, Path(folder), asked)


def _records(
    model: Model,
    wanted: Sequence[str],
    known: Mapping[str, Path],
    versions: Mapping[str, str],
    work: Path,
    asked: Asked,
) -> Iterator[Record]:
    rounds = 1 if asked.quick else asked.rounds
    ran = list(dict.fromkeys([FIRST, *wanted]))
    places = {name: work / f"contender-{index}" / "made.onnx" for index, name in enumerate(ran)}
    runs = {name: _run(command(name, known[tool(name)], model.path, place), place) for name, place in places.items()}
    found = in_turns(runs, rounds)
    for name in wanted:
        turns = found[name]
        if turns.failure:
            yield Record(NAME, model.name, name, versions.get(tool(name), ""), failure=turns.failure)
            continue
        try:
            figures, words = _worth(model.path, places[name], turns)
        except (GraphoptError, OSError, ValueError, DecodeError) as error:
            reason = f"what it wrote cannot be read: {error}"
            yield Record(NAME, model.name, name, versions.get(tool(name), ""), failure=_short(reason))
            continue
        if name != FIRST:
            figures |= paired(turns.cpu, found[FIRST].cpu)
            words |= noise(figures, rounds)
        yield Record(NAME, model.name, name, versions.get(tool(name), ""), figures, words)


def _run(argv: Sequence[str], target: Path) -> Callable[[int], Spent]:
    def run(turn: int) -> Spent:
        shutil.rmtree(target.parent, ignore_errors=True)
        target.parent.mkdir()
        found = spent(argv, target.parent)
        if not found.failure and not target.is_file():
            return Spent(found.cpu, found.peak, "it wrote no model")
        return found

    return run


def _worth(original: Path, made: Path, turns: Turns) -> tuple[dict[str, float], dict[str, str]]:
    """Figures and words of a model that was made. Raises what reading it raises."""
    whole, left = whole_bytes(original), whole_bytes(made)
    before, after = count(original), count(made)
    figures = {
        "nodes": float(after),
        "nodes_before": float(before),
        "bytes": float(left),
        "bytes_ratio": left / whole,
        "cpu_seconds": turns.seconds,
        "peak_bytes": float(turns.peak),
    }
    try:
        verdict = graphopt.validate(original, made)
    except GraphoptError as error:
        return figures, {"verdict": "could not tell", "why": _short(str(error))}
    words = {"verdict": verdict.outcome.value}
    return figures, words if words["verdict"] == SAME else {**words, "why": _short(verdict.sentence())}


def _short(text: str) -> str:
    return without_folders(" ".join(text.split()))[:_LONGEST]


def count(path: Path) -> int:
    """Nodes of a model but for Constants, bodies and functions included."""
    proto = onnx.load(str(path), load_external_data=False)
    pending = [proto.graph.node, *(function.node for function in proto.functions)]
    total = 0
    while pending:
        for node in pending.pop():
            total += node.op_type != "Constant"
            for attribute in node.attribute:
                pending.extend(graph.node for graph in (attribute.g, *attribute.graphs))
    return total


def tables(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The sums of each contender, then nodes by model and contender, then everything."""
    found = by_model(records, NAME)
    if not found:
        return []
    names = list(dict.fromkeys(one.contender for some in found.values() for one in some))
    return [
        (f"Simplification: {len(found)} models", _sums(found, names)),
        ("Simplification: nodes", _nodes(found, names)),
        ("Simplification: every figure", _whole(found)),
    ]


def right(record: Record) -> bool:
    """Whether it made a model that computes the same."""
    return record.words.get("verdict") == SAME


def _sums(found: Mapping[str, Sequence[Record]], names: Sequence[str]) -> str:
    """Sums are over the models on which every contender has a right result, so that none gains by failing."""
    shared = [model for model, some in found.items() if {one.contender for one in some if right(one)} >= set(names)]
    every = [one for some in found.values() for one in some]
    lines = ["| contender | right | failed | nodes | bytes | CPU s | most MB |", "|---|--:|--:|--:|--:|--:|--:|"]
    for name in names:
        mine = [one for one in every if one.contender == name]
        some = [one for one in mine if one.model in shared]
        sums = [sum(one.figures[figure] for one in some) for figure in ("nodes", "bytes", "cpu_seconds")]
        most = max((one.figures.get("peak_bytes", 0.0) for one in mine), default=0.0)
        lines.append(
            f"| {name} | {sum(map(right, mine))} of {len(mine)} | {sum(bool(one.failure) for one in mine)} "
            f"| {sums[0]:,.0f} | {sums[1]:,.0f} | {sums[2]:.1f} | {most / 1e6:.0f} |"
        )
    said = f"Nodes, bytes and CPU seconds are sums over the {len(shared)} models that all contenders have right."
    targeted = " and ".join(name for name in names if name in TARGETED)
    only = f" The results of {targeted} are for onnxruntime only." if targeted else ""
    return "\n".join([*lines, "", said + only])


def _nodes(found: Mapping[str, Sequence[Record]], names: Sequence[str]) -> str:
    lines = ["| model | before | " + " | ".join(names) + " |", "|---|--:|" + "--:|" * len(names)]
    for model, some in found.items():
        by_name = {one.contender: one for one in some}
        before = next((f"{one.figures['nodes_before']:.0f}" for one in some if "nodes_before" in one.figures), "")
        lines.append(f"| {model} | {before} | " + " | ".join(_cell(by_name.get(name)) for name in names) + " |")
    return "\n".join([*lines, "", "In brackets what does not compute the same, or cannot be compared."])


def _cell(record: Record | None) -> str:
    if record is None:
        return ""
    if record.failure:
        return "failed"
    nodes = f"{record.figures['nodes']:.0f}"
    return nodes if right(record) else f"({nodes})"


def _whole(found: Mapping[str, Sequence[Record]]) -> str:
    heads = "| model | contender | nodes | bytes | CPU s | of graphopt | peak MB | right |"
    lines = [heads, "|---|---|--:|--:|--:|---|--:|---|"]
    for model, some in found.items():
        for one in some:
            if one.failure:
                lines.append(f"| {model} | {one.contender} | | | | | | failed: {plain(one.failure)} |")
                continue
            f = one.figures
            said = one.words.get("verdict", "")
            lines.append(
                f"| {model} | {one.contender} | {f['nodes']:.0f} | {f['bytes']:,.0f} | {f['cpu_seconds']:.2f} "
                f"| {_AGAINST(one)} | {f['peak_bytes'] / 1e6:.0f} | {said} |"
            )
    return "\n".join(lines)
