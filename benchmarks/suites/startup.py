"""How long a command takes to say something, and a library to be imported: CPU seconds and memory of processes."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import graphopt
from benchmarks import peers
from benchmarks.cells import plain, ratio
from benchmarks.inturns import in_turns, noise, paired
from benchmarks.record import Record
from benchmarks.spent import Spent, spent
from benchmarks.suites import Asked, Model
from graphopt.errors import UsageError

NAME: Final = "startup"
HELP: Final = "how long --help and an import take: CPU seconds and memory of whole processes"
_CLI: Final = "import sys; sys.argv = ['graphopt', *sys.argv[1:]]; from graphopt.cli.start import main; main()"
WAYS: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "nothing": {"python": ("-c", "pass")},
    "import": {
        "graphopt": ("-c", "from graphopt import optimize"),  # graphopt itself loads nothing until it is asked
        "onnxslim": ("-c", "import onnxslim"),
        "onnxsim": ("-c", "import onnxsim"),
        "onnxoptimizer": ("-c", "import onnxoptimizer"),
        "onnxscript": ("-c", "import onnxscript"),
        "onnxruntime": ("-c", "import onnxruntime"),
    },
    "--help": {
        "graphopt": ("-c", _CLI, "--help"),
        "onnxslim": ("-m", "onnxslim", "--help"),
        "onnxsim": ("-m", "onnxsim", "--help"),
        "onnxoptimizer": ("-m", "onnxoptimizer", "--help"),
    },
    "passes": {"graphopt": ("-c", _CLI, "passes")},
}
"""What is started, which stands where other suites have a model, and how each contender is told to."""
CONTENDERS: Final = tuple(dict.fromkeys(name for way in WAYS.values() for name in way))
_ROUNDS: Final = 11  # at least: a round is short
_OURS: Final = "graphopt"
_AGAINST: Final = ratio("cpu_ratio", ".2f")


def contenders(only: Sequence[str] = ()) -> list[str]:
    """Those of these names, all for none. Raises UsageError."""
    if unknown := [name for name in only if name not in CONTENDERS]:
        raise UsageError(f"the suite {NAME} has no contender {unknown[0]!r}; it has {', '.join(CONTENDERS)}")
    return [name for name in CONTENDERS if not only or name in only]


def measure(models: Sequence[Model], asked: Asked) -> Iterator[Record]:
    """Every contender in turn; the models do not matter."""
    wanted = contenders(asked.only)
    here = Path(sys.executable)
    known = {"onnxruntime": here, **asked.peers, _OURS: here, "python": here}
    versions = {name: peers.version_at(name, known[name]) for name in wanted if name in asked.peers}
    versions |= {_OURS: graphopt.__version__, "python": platform.python_version()}
    if "onnxruntime" in wanted:
        versions["onnxruntime"] = peers.version_at("onnxruntime", known["onnxruntime"])
    rounds = 1 if asked.quick else max(asked.rounds, _ROUNDS)
    for way, commands in WAYS.items():
        left = [name for name in wanted if name in commands and (way, name) not in asked.done]
        for name in left:
            if name not in known:
                reason = f"{name} is not installed; python -m benchmarks fetch --peers brings it"
                yield Record(NAME, way, name, "", failure=reason)
        ran = [name for name in left if name in known]
        if not ran:
            continue
        every = dict.fromkeys([*([_OURS] if _OURS in commands else []), *ran])
        runs = {name: _run([str(known[name]), *commands[name]], asked.work) for name in every}
        found = in_turns(runs, rounds, 0 if asked.quick else 1)  # the first turn compiles and warms the file cache
        for name in ran:
            turns = found[name]
            if turns.failure:
                yield Record(NAME, way, name, versions.get(name, ""), failure=turns.failure)
                continue
            figures = {"cpu_seconds": turns.seconds, "peak_bytes": float(turns.peak)}
            if name != _OURS and _OURS in every:
                figures |= paired(turns.cpu, found[_OURS].cpu)
            yield Record(NAME, way, name, versions.get(name, ""), figures, noise(figures, rounds))


def _run(argv: Sequence[str], where: Path) -> Callable[[int], Spent]:
    return lambda turn: spent(argv, where)


def tables(records: Sequence[Record]) -> list[tuple[str, str]]:
    """A line for each command."""
    mine = [one for one in records if one.suite == NAME]
    if not mine:
        return []
    lines = ["| command | of | CPU s | of graphopt | MB |", "|---|---|--:|---|--:|"]
    for one in mine:
        if one.failure:
            lines.append(f"| {one.model} | {one.contender} | | {plain(one.failure)} | |")
            continue
        f = one.figures
        spent, against = f"{f['cpu_seconds']:.3f}", _AGAINST(one)
        lines.append(f"| {one.model} | {one.contender} | {spent} | {against} | {f['peak_bytes'] / 1e6:.0f} |")
    return [("Start-up", "\n".join(lines))]
