"""One seed after the other, in processes that may die: what a seed was at when it happened is known."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import re
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from graphopt.pipeline import Registry
from graphopt.testing.fuzz.choosing import SHARES, pipelines
from graphopt.testing.fuzz.ground import Ground, nodes_of
from graphopt.testing.fuzz.holding import Failure, tried
from graphopt.testing.fuzz.opinion import second_opinion, wavers
from graphopt.testing.fuzz.tally import UNSURE, Tally
from graphopt.testing.running import run_inside
from graphopt.testing.wild import wild_model

TOGETHER = 100  # seeds that one process takes
SECONDS = 120.0  # for one seed
_RUNNING = "running the model itself"
_WARM = (
    "graphopt.runtime.engine", "graphopt.testing.inside", "graphopt.calibration.observe",
    "graphopt.calibration.measuring", "onnx.version_converter", "onnx.reference", "graphopt.training.trainer",
)  # fmt: skip
_EMPTY = re.compile(r"is (\w+)\[0[^\]]*\] instead of \1\[0[^\]]*\]")
"""A Loop without rounds gives no elements, of the dims that onnxruntime knows by inference, or of 0."""
_UNTYPED = "expected to have type but instead is null"
"""ONNX's strict inference forgives an operator that it does not know in a graph, and not in a function of it."""
_NO_KERNEL = "Could not find an implementation"
_UNREAD_INPUT = re.compile(r"Type 'tensor\(\w+\)' of input parameter \(\w+\) of operator \((part|fn)\d")
"""onnxruntime takes the types of a function's inputs from the nodes that read them: of one that nobody reads
any more it takes some types only, which ONNX does not ask for."""
_OPINIONS = 20  # one seed in so many asks for a second opinion


@dataclass(frozen=True)
class Plan:
    """What is held on each seed."""

    kinds: tuple[str, ...]
    nodes: int = 14
    opinions: int = _OPINIONS


Say = Callable[[str], None]


def one_seed(seed: int, plan: Plan, registry: Registry, say: Say = lambda _: None, more: bool = True) -> dict[str, Any]:
    """Make the model of a seed and hold all its pipelines: counts and failures. `more`: at odd sizes too."""
    counts: Counter[str] = Counter()
    failures: list[Failure] = []
    say("growing")
    try:
        model = wild_model(seed, nodes=plan.nodes, discarded=lambda why: counts.update([f"discard {why}"]))
    except RuntimeError:
        return {"counts": dict(counts), "failures": []}
    counts["models"] += 1
    counts.update(f"op {op}" for op in {node.op_type for node in nodes_of(model)})
    counts[f"opset {model.opset_import[0].version}"] += 1
    ground = Ground(seed, model, more)
    say(_RUNNING)
    ground.run()
    if plan.opinions and Random(f"opinion {seed}").randrange(plan.opinions) == 0:
        say("asking for a second opinion")
        _ask(ground, counts)
    for kind in plan.kinds:
        if len(plan.kinds) > 1 and seed % SHARES[kind]:
            continue
        for word, pipeline in pipelines(kind, seed, registry):
            say(f"holding {word}")
            made, failure = tried(ground, word, pipeline)
            counts.update(["pipelines", f"kind {kind if len(kind) < 10 else 'given'}"])
            if kind == "pairs":
                counts[f"pair {word}"] += 1
            counts.update(f"ran {one.name}" for one in pipeline.passes())
            if made is not None:
                counts["changed pipelines"] += made.outcome.rewrites > 0
                changed = {turn.place.pass_.name for turn in made.outcome.turns if turn.applied}
                counts.update(f"changed {name}" for name in changed)
            if failure is not None:
                failures.append(_judged(failure, ground, counts))
    return {"counts": dict(counts), "failures": [one.as_dict() for one in failures]}


def _ask(ground: Ground, counts: Counter[str]) -> None:
    found = second_opinion(ground.model, ground.feeds[0])
    counts["opinions"] += found.told
    if not found.agrees:
        counts[f"unsure {found.operator}"] += 1


def _judged(failure: Failure, ground: Ground, counts: Counter[str]) -> Failure:
    """A failure, unless the model gives one thing and then another, or two evaluators disagree about what it means."""
    if _UNTYPED in failure.sentence and ground.model.functions and "ort-" in failure.pipeline:
        counts["unsure failures, types that ONNX does not infer through a function"] += 1
        return replace(failure, law=UNSURE)
    if failure.law not in ("outputs", "gated"):
        return failure
    if _UNREAD_INPUT.search(failure.sentence):
        counts["unsure failures, type of what a function does not read"] += 1
        return replace(failure, law=UNSURE)
    if _EMPTY.search(failure.sentence) and any(node.op_type == "Loop" for node in ground.model.graph.node):
        counts["unsure failures, shape of what a Loop without rounds collects"] += 1
        return replace(failure, law=UNSURE)
    if _NO_KERNEL in failure.sentence and "opset" in failure.pipeline:
        counts["unsure failures, no kernel for an operator's newer version"] += 1
        return replace(failure, law=UNSURE)
    if wavers(ground.data, ground.feeds):
        counts["unsure failures, not twice the same"] += 1
        return replace(failure, law=UNSURE)
    if ground.halves:
        return failure
    for feeds in ground.feeds[:2]:
        found = second_opinion(ground.model, feeds)
        if not found.agrees:
            counts[f"unsure {found.operator}"] += 1
            counts["unsure failures"] += 1
            return replace(failure, law=UNSURE, sentence=f"{found.operator}: {failure.sentence}")
    return failure


def campaign(
    seeds: range, plan: Plan, tally: Tally, registry: Registry, *, until: float,
    found: Callable[[Failure], None] = lambda _: None, inside: bool = True,
) -> Iterator[int]:  # fmt: skip
    """Run the seeds, adding to the tally; yields each seed that is done. No seed begins after `until`."""
    at, careful = seeds.start, -1
    if inside:
        _warm()
    while at < seeds.stop and time.monotonic() < until:
        chunk = range(at, min(at + TOGETHER, seeds.stop))
        told_of = _child(chunk, plan, registry, until, careful) if inside else _here(chunk, plan, registry, until)
        for seed, told in told_of:
            if told.get("again"):
                at = careful = seed
                break
            for one in tally.add(told["counts"], told["failures"]):
                found(one)
            at = tally.next = seed + 1
            yield seed


def _here(chunk: range, plan: Plan, registry: Registry, until: float) -> Iterator[tuple[int, dict[str, Any]]]:
    for seed in chunk:
        if time.monotonic() < until:
            yield seed, one_seed(seed, plan, registry)


def _warm() -> None:
    """Import here what every process would have to import for itself."""
    for name in _WARM:
        importlib.import_module(name)


def _child(
    chunk: range, plan: Plan, registry: Registry, until: float, careful: int = -1
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The seeds of a chunk in a process of their own; what it dies or hangs of is what that seed gave. The
    model of the seed `careful` is run at its usual sizes only: at others the process died."""
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _work(chunk, plan, registry, until, write, careful)
    os.close(write)
    seed, doing, done = chunk.start, "starting", False
    try:
        with os.fdopen(read, "rb", buffering=0) as stream:
            for line in _lines(stream.fileno(), SECONDS):
                told = json.loads(line)
                if "doing" in told:
                    seed, doing = told["seed"], told["doing"]
                elif "broken" in told:
                    sys.stderr.write(told["broken"])
                elif "end" in told:
                    done = True
                else:
                    yield told["seed"], told
    except TimeoutError:
        doing += f", for more than {SECONDS:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if not done and doing == _RUNNING and seed != careful:
        yield seed, {"again": True}
    elif not done:
        yield seed, _died(seed, doing, status)


def _died(seed: int, doing: str, status: int) -> dict[str, Any]:
    how = "hung" if "more than" in doing else f"died of {_signal(status)}"
    if not doing.startswith("holding"):
        return {"counts": {f"discard onnxruntime {how}": 1}, "failures": []}
    word = doing.removeprefix("holding ")
    failure = Failure(seed, word, "alive", "", f"the process {how} while {doing}")
    return {"counts": {"models": 1}, "failures": [failure.as_dict()]}


def _signal(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"status {os.waitstatus_to_exitcode(status)}"


def _work(chunk: Sequence[int], plan: Plan, registry: Registry, until: float, write: int, careful: int) -> None:
    """What the child does; never returns."""
    code = 1

    def tell(what: dict[str, Any]) -> None:
        os.write(write, json.dumps(what).encode() + b"\n")

    try:
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries say there what they die of, which is told anyway
        run_inside()
        gc.set_threshold(50_000)
        for seed in chunk:
            if time.monotonic() >= until:
                break

            def say(doing: str, at: int = seed) -> None:
                tell({"seed": at, "doing": doing})

            made = one_seed(seed, plan, registry, say, seed != careful)
            tell({"seed": seed, **made})
        tell({"end": True})
        code = 0
    except Exception:  # noqa: BLE001  (a process that ends, and says of what)
        tell({"broken": traceback.format_exc()})
    finally:
        os._exit(code)


def _lines(file: int, seconds: float) -> Iterator[bytes]:
    """The lines of a pipe; TimeoutError when none comes for so long."""
    kept = b""
    while True:
        ready, _, _ = select.select([file], [], [], seconds)
        if not ready:
            raise TimeoutError
        more = os.read(file, 1 << 16)
        if not more:
            return
        kept += more
        *lines, kept = kept.split(b"\n")
        yield from lines
