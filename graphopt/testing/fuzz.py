"""Hold passes to their laws on random models, one seed after the other, and say which seeds fail.

    python -m graphopt.testing.fuzz --seeds 0:1000
    python -m graphopt.testing.fuzz --seeds 0:100 --pipeline default --minutes 5
    python -m graphopt.testing.fuzz --seeds 7:8 --pipeline merge-views --save found

A failure is printed with its law and, of a pipeline of several passes, the first pass that breaks it.
The same seed, pipeline and version give the same run. The exit status is 1 when anything failed.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import onnx
from onnx import ModelProto, TensorProto

from graphopt.contract import Contract
from graphopt.errors import GraphoptError
from graphopt.ir import Graph
from graphopt.pipeline import Context, Pass, Pipeline, Recipe, Registry, Repeat
from graphopt.testing.apply import apply
from graphopt.testing.breach import LawBroken
from graphopt.testing.feeds import SPECIAL, Feeds, feeds_at, feeds_for, sizes_of
from graphopt.testing.running import outputs_of
from graphopt.testing.wild import wild_model

KINDS = ("default", "some", "random")
_SOME = 12  # passes that a seed is tried with when not with all


@dataclass(frozen=True)
class Failure:
    """A law that broke: on the model of which seed, under which pipeline, and by which pass of it."""

    seed: int
    pipeline: str
    law: str
    blamed: str
    sentence: str

    def __str__(self) -> str:
        blamed = self.blamed or "no pass alone"
        return f"seed {self.seed}: {self.law}: {blamed}: {self.sentence}\n    under {self.pipeline}\n"


@dataclass(frozen=True)
class Rounded(Pass):
    """Nothing, under a contract that allows for rounding."""

    name = "rounded"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        return None


def in_halves(model: ModelProto) -> bool:
    """Whether a model may compute in float16, which onnxruntime does in float32 as far as it can: where it
    rounds on the way depends on which operators stand side by side."""
    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    inferred = onnx.shape_inference.infer_shapes(model)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return any(one.type.tensor_type.elem_type in halves for one in values)


def candidates(registry: Registry) -> list[type[Pass]]:
    """The passes that keep a model's signature and its outputs."""
    classes = [registry.get(name) for name in registry.names()]
    return [one for one in classes if one.contract is not Contract.LOSSY and not one.changes and not one.grows]


def pipelines(kind: str, seed: int, registry: Registry) -> Iterator[tuple[str, Pipeline]]:
    """The pipelines to hold on the model of a seed, each with a word for it."""
    if kind == "default":
        yield kind, Recipe.load("default").pipeline
    elif kind in ("alone", "some"):
        every = candidates(registry)
        for one in every if kind == "alone" else Random(-1 - seed).sample(every, min(_SOME, len(every))):
            yield one.name, Pipeline((one(),))
    elif kind == "random":
        rng = Random(seed)
        chosen = rng.sample(candidates(registry), rng.randint(2, 8))
        steps = tuple(one() for one in chosen)
        made = Pipeline.of(Repeat(8, steps))  # only what is run until nothing changes is idempotent
        yield made.text(), made
    else:
        made = Pipeline.parse(kind, registry)
        yield made.text(), made


@functools.lru_cache(maxsize=8)
def _feeds_of_data(data: bytes, special: bool) -> tuple[Feeds, ...]:
    return tuple(feeds_of(ModelProto.FromString(data), special))


def feeds_of(model: ModelProto, special: bool) -> list[Feeds]:
    """The usual feeds, with or without the one of special numbers, and more where the model runs on
    them: all symbolic dims 1, all the same, and each in turn 0."""
    usual = [one for at, one in enumerate(feeds_for(model)) if special or at != SPECIAL]
    sizes = sizes_of(model, 0)
    more = [dict.fromkeys(sizes, 1), dict.fromkeys(sizes, 3), *({**sizes, symbol: 0} for symbol in sizes)]
    data, found = model.SerializeToString(), list[Feeds]()
    for one in more if sizes else ():
        feeds = feeds_at(model, one)
        try:
            outputs_of(data, [feeds])
        except GraphoptError:
            continue
        found.append(feeds)
    return [*usual, *found]


def held(seed: int, model: ModelProto, word: str, pipeline: Pipeline) -> tuple[bool, Failure | None]:
    """Whether the pipeline changed the model of the seed, and the law that it broke, if any."""
    if pipeline.contract is Contract.EXACT and in_halves(model):
        pipeline = Pipeline((*pipeline.steps, Rounded()))
    try:
        if len(list(pipeline.passes())) <= 2 and not apply(pipeline, model, laws=False).applied:
            return False, None
        feeds = _feeds_of_data(model.SerializeToString(), pipeline.contract is Contract.EXACT)
        return apply(pipeline, model, feeds=feeds).after.SerializeToString() != model.SerializeToString(), None
    except LawBroken as broken:
        return True, Failure(seed, word, broken.law, blame(model, pipeline), str(broken))
    except ValueError as error:  # the model itself is at fault: it says nothing about the passes
        return False, Failure(seed, word, "model", "", str(error))


def blame(model: ModelProto, pipeline: Pipeline) -> str:
    """The pass that is the first to break a law when the pipeline's passes are run one by one."""
    steps = list(pipeline.passes())
    if len(steps) == 1:
        return steps[0].name
    for _ in range(8):
        before = model.SerializeToString()
        for one in steps:
            try:
                model = apply(Pipeline((one,)), model).after
            except LawBroken as broken:
                return f"{one.name} ({broken.law}: {broken})"
            except (ValueError, GraphoptError) as error:
                return f"{one.name} ({error})"
        if model.SerializeToString() == before:
            break
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = _options(arguments)
    registry = Registry.load()
    first, last = (int(one) for one in options.seeds.split(":"))
    kinds = KINDS if options.pipeline == "all" else (options.pipeline,)
    until = time.monotonic() + 60 * options.minutes
    counts: Counter[str] = Counter()
    failures: list[Failure] = []
    for seed in range(first, last):
        if time.monotonic() > until:
            break
        try:
            model = wild_model(seed, nodes=options.nodes)
        except RuntimeError:  # no model of this seed is valid
            counts["seeds without a model"] += 1
            continue
        counts["models"] += 1
        for word, pipeline in (one for kind in kinds for one in pipelines(kind, seed, registry)):
            changed, failure = held(seed, model, word, pipeline)
            counts["runs"] += 1
            counts["changed"] += changed
            if failure is not None:
                failures.append(failure)
                sys.stdout.write(str(failure))
                sys.stdout.flush()
                if options.save:
                    Path(options.save).mkdir(parents=True, exist_ok=True)
                    (Path(options.save) / f"{seed}.onnx").write_bytes(model.SerializeToString())
        counts["next seed"] = seed + 1
        if counts["models"] % 100 == 0:
            sys.stderr.write(f"{counts['models']} models, next seed {seed + 1}, {len(failures)} failures\n")
    said = ", ".join(f"{what} {count}" for what, count in counts.items())
    sys.stdout.write(f"{said}, failures {len(failures)}\n")
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m graphopt.testing.fuzz", description="Hold passes to their laws on random models."
    )
    parser.add_argument(
        "--seeds", default="0:1000000", metavar="A:B", help="the seeds from A up to B, B not among them"
    )
    parser.add_argument(
        "--pipeline",
        default="all",
        help="default, alone (each pass), some (a dozen passes, each alone), random (a few together), "
        "all (default, some and random), or a pipeline's text",
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no other seed after so many minutes")
    parser.add_argument("--nodes", type=int, default=14, help="about how many nodes a model has")
    parser.add_argument("--save", metavar="FOLDER", help="write the models of failing seeds there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
