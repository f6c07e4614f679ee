"""Optimizers side by side on real models: nodes, bytes, CPU seconds, memory, and whether the result is right.

usage: python -m benchmarks.simplify [--models DIR] [--only a,b] [--peers PYTHON] [--rounds 3]
                                     [--contenders portable,onnxslim,...] [--json FILE] [--markdown FILE]

`--models` is a folder of .onnx files (GRAPHOPT_CORPUS's models unless given), `--peers` the Python of
an environment with the extra `peers` (this one unless given). Every contender is a whole process that
reads a file and writes one; contenders take turns, figures are medians of `--rounds`. Nodes are those of
the main graph, bodies and functions without Constant nodes. `right` is what graphopt.validate says of the
result against the original under the ROUNDING contract, at two or more sizes, with onnxruntime's
optimizations off and on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import onnx

_ORT: Final = (
    "import sys, onnxruntime as ort; o = ort.SessionOptions(); o.log_severity_level = 4; "
    "o.graph_optimization_level = getattr(ort.GraphOptimizationLevel, sys.argv[3]); "
    "o.optimized_model_filepath = sys.argv[2]; "
    "ort.InferenceSession(sys.argv[1], o, providers=['CPUExecutionProvider'])"
)
_SCRIPT: Final = (
    "import sys, onnx, onnxscript.optimizer as s; onnx.save(s.optimize(onnx.load(sys.argv[1])), sys.argv[2])"
)
_OPTIMIZER: Final = "import sys, onnx, onnxoptimizer as s; onnx.save(s.optimize(onnx.load(sys.argv[1])), sys.argv[2])"
_SIM: Final = "import sys, onnx, onnxsim as s; onnx.save(s.simplify(onnx.load(sys.argv[1]))[0], sys.argv[2])"
_OURS: Final = "import sys; sys.argv[0] = 'graphopt'; from graphopt.cli.app import main; main()"

PORTABLE: Final = ("portable", "onnxslim", "onnxsim", "onnxoptimizer", "onnxscript", "ort-basic")
TARGET: Final = ("target", "ort-extended")


def command(contender: str, peers: str, source: str, target: str) -> list[str]:
    """The command line of a contender. Raises KeyError for an unknown one."""
    ours = [sys.executable, "-c", _OURS, "optimize", source, "-o", target, "--validate", "none", "--quiet"]
    commands = {
        "clean": [*ours, "--recipe", "clean"],
        "portable": ours,
        "target": [*ours, "--target", "onnxruntime"],
        "onnxslim": [peers, "-m", "onnxslim", source, target],
        "onnxsim": [peers, "-c", _SIM, source, target],
        "onnxoptimizer": [peers, "-c", _OPTIMIZER, source, target],
        "onnxscript": [peers, "-c", _SCRIPT, source, target],
        "ort-basic": [peers, "-c", _ORT, source, target, "ORT_ENABLE_BASIC"],
        "ort-extended": [peers, "-c", _ORT, source, target, "ORT_ENABLE_EXTENDED"],
    }
    return commands[contender]


@dataclass
class Result:
    """What one contender made of one model. `verdict` is "" where nothing was made."""

    model: str
    contender: str
    cpu: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    nodes: int = 0
    size: int = 0
    verdict: str = ""
    failure: str = ""

    @property
    def seconds(self) -> float:
        """Median CPU seconds, user and system, of the process and its children."""
        return statistics.median(self.cpu) if self.cpu else float("nan")


def count(path: Path) -> int:
    """Nodes of a model but for Constants, bodies and functions included."""
    proto = onnx.load(path, load_external_data=False)
    pending = [proto.graph.node, *(function.node for function in proto.functions)]
    total = 0
    while pending:
        for node in pending.pop():
            total += node.op_type != "Constant"
            for attribute in node.attribute:
                pending.extend(graph.node for graph in (attribute.g, *attribute.graphs))
    return total


def measured(argv: Sequence[str], seconds: int) -> tuple[float, float, str]:
    """CPU seconds and peak MB of one process with its children, and why it failed ("" when it did not)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # a process of its own, so that its children's usage is that of one run
        os.close(reader)
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
            failure = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [str(done.returncode)])[-1]
        except subprocess.TimeoutExpired:
            failure = f"it took more than {seconds} s"
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        facts = (used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, failure[:200])
        os.write(writer, json.dumps(facts).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        cpu, peak, failure = json.loads(pipe.read())
    os.waitpid(child, 0)
    return cpu, peak, failure


def run(models: Sequence[Path], contenders: Sequence[str], peers: str, rounds: int) -> Iterator[Result]:
    """Every contender on every model, in turn."""
    import graphopt
    from graphopt.errors import GraphoptError

    for model in models:
        results = {name: Result(model.stem, name) for name in contenders}
        with tempfile.TemporaryDirectory() as folder:
            for turn in range(rounds):
                for name, result in results.items():
                    target = Path(folder) / f"{name}.onnx"
                    target.unlink(missing_ok=True)
                    cpu, peak, failure = measured(command(name, peers, str(model), str(target)), 300)
                    result.cpu.append(cpu)
                    result.peak_mb = max(result.peak_mb, peak)
                    result.failure = failure if failure or target.exists() else "it wrote nothing"
                    if turn or result.failure:
                        continue
                    result.nodes = count(target)
                    result.size = sum(one.stat().st_size for one in Path(folder).glob(f"{name}.onnx*"))
                    try:
                        result.verdict = graphopt.validate(model, target).outcome.value
                    except GraphoptError as error:
                        result.verdict = f"could not tell: {error}"
        yield from results.values()


def table(results: Sequence[Result]) -> str:
    """The results as Markdown: a row a model and contender, and the sums."""
    lines = ["| model | optimizer | nodes | bytes | CPU s | peak MB | right |", "|---|---|---:|---:|---:|---:|---|"]
    for one in results:
        if one.failure:
            lines.append(f"| {one.model} | {one.contender} | | | {one.seconds:.2f} | | failed: {one.failure} |")
        else:
            lines.append(
                f"| {one.model} | {one.contender} | {one.nodes} | {one.size:,} | {one.seconds:.2f} "
                f"| {one.peak_mb:.0f} | {one.verdict} |"
            )
    for contender in dict.fromkeys(one.contender for one in results):
        mine = [one for one in results if one.contender == contender]
        lines.append(
            f"| **sum** | {contender} | {sum(one.nodes for one in mine)} | {sum(one.size for one in mine):,} "
            f"| {sum(one.seconds for one in mine):.2f} | {max(one.peak_mb for one in mine):.0f} "
            f"| {sum(one.verdict == 'equivalent' for one in mine)} of {len(mine)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", default=",".join((*PORTABLE, *TARGET)))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    folder = given.models or Path(os.environ.get("GRAPHOPT_CORPUS", ".")) / "models"
    wanted = [name for name in given.only.split(",") if name]
    models = [one for one in sorted(folder.glob("*.onnx")) if not wanted or one.stem in wanted]
    if not models:
        parser.error(f"there are no models in {folder}")
    results: list[Result] = []
    for one in run(models, given.contenders.split(","), given.peers, given.rounds):
        results.append(one)
        said = one.failure or f"{one.nodes} nodes, {one.size:,} bytes, {one.verdict}"
        print(f"{one.model:40} {one.contender:14} {one.seconds:6.2f} s {one.peak_mb:6.0f} MB  {said}", flush=True)
    if given.json:
        given.json.write_text("".join(json.dumps(asdict(one)) + "\n" for one in results))
    if given.markdown:
        given.markdown.write_text(table(results) + "\n")


if __name__ == "__main__":
    main()
