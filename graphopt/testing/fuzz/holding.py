"""Whether a pipeline keeps its laws on a random model, and which pass of it is the first that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from random import Random

from onnx import ModelProto

from graphopt.contract import Contract
from graphopt.errors import GraphoptError
from graphopt.ir import Graph
from graphopt.pipeline import Context, Pass, Pipeline, Repeat
from graphopt.runtime.failure import WorkerFailure
from graphopt.testing.apply import apply
from graphopt.testing.breach import LawBroken
from graphopt.testing.equality import check_outputs
from graphopt.testing.fuzz.ground import Ground, feeds_of
from graphopt.testing.laws import check_honest, check_laws, check_size, check_valid
from graphopt.testing.links import check_links
from graphopt.testing.running import PLAIN, USUAL, Feeds, outputs_of
from graphopt.testing.signature import check_signature
from graphopt.testing.trial import Made

_UNKNOWN = ("Could not find an implementation", "'tensor(bfloat16)' of input parameter")
ALL_LAWS = 6
"""One pipeline in so many is held to all laws, those that cost several runs of it among them."""


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

    def as_dict(self) -> dict[str, object]:
        """For a file of JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Rounded(Pass):
    """Nothing, under a contract that allows for rounding."""

    name = "rounded"
    contract = Contract.ROUNDING

    def run(self, graph: Graph, ctx: Context) -> None:
        return None


def held(seed: int, model: ModelProto, word: str, pipeline: Pipeline) -> tuple[bool, Failure | None]:
    """Whether the pipeline changed the model of the seed, and the law that it broke, if any: all are tried."""
    ground = Ground(seed, model)
    made, failure = tried(ground, word, pipeline, all_laws=True)
    return (made is not None and made.data != ground.data) or (failure is not None and failure.law != "model"), failure


def tried(
    ground: Ground, word: str, pipeline: Pipeline, *, all_laws: bool | None = None, blaming: bool = True
) -> tuple[Made | None, Failure | None]:
    """What the pipeline makes of the model, and the law that it broke, if any.

    Unless `all_laws` is given, one pipeline in a few is held to all of them and the others to those that
    one run of them shows.
    """
    made: Made | None = None
    held_to, asked = pipeline, word
    if pipeline.contract is Contract.EXACT and ground.halves:
        pipeline = Pipeline((*pipeline.steps, Rounded()))
    if all_laws is None:
        all_laws = Random(f"{ground.seed} {word}").randrange(ALL_LAWS) == 0
    try:
        trial = ground.trial(pipeline)
        made = trial.run()
        changes = {part for one in pipeline.passes() for part in one.changes}
        grows = any(one.grows for one in pipeline.passes())
        if all_laws and settles(held_to):
            check_laws(trial, made, changes, grows)
            return made, None
        if not undoes(pipeline):
            check_honest(trial, made)
        if made.data == ground.data:
            return made, None
        check_links(made.outcome.graph)
        check_valid(made.data)
        check_signature(ground.model, made.proto, changes)
        if not grows:
            check_size(trial, made)
        if pipeline.contract is not Contract.LOSSY:
            check_outputs(trial, made.data)
        else:
            loads(ground, made.data, trial.feeds or ())
        return made, None
    except LawBroken as broken:
        blamed = blame(ground.model, held_to) if blaming else ""
        return made, Failure(ground.seed, asked, broken.law, blamed, str(broken))
    except (ValueError, GraphoptError) as error:  # the model itself is at fault: it says nothing about the passes
        return made, Failure(ground.seed, asked, "model", "", str(error))


def settles(pipeline: Pipeline) -> bool:
    """Whether all laws are promised by the pipeline: one that is run once only may find more on its own result,
    and passes that add what others take away never come to an end."""
    steps = pipeline.steps
    if len(steps) != 1 or pipeline.contract is Contract.LOSSY:
        return False
    if undoes(pipeline):
        return False
    one = steps[0]
    return not isinstance(one, Repeat) or (one.max >= len(one.steps) and one.max == 8)


def undoes(pipeline: Pipeline) -> bool:
    """Whether one pass of it may take back what another did."""
    passes = list(pipeline.passes())
    return len(passes) > 1 and any(one.changes or one.grows for one in passes)


def loads(ground: Ground, made: bytes, feeds: Sequence[Feeds]) -> None:
    """See that what LOSSY passes made loads and runs, as it is and optimized by onnxruntime if the model itself
    does so. LawBroken."""
    for options in (PLAIN, USUAL) if ground.usual else (PLAIN,):
        try:
            outputs_of(made, feeds[:2], options)
        except WorkerFailure as failure:
            if any(
                one in str(failure) for one in _UNKNOWN
            ):  # a valid model, which this build of onnxruntime cannot run
                return
            raise LawBroken("runs", f"the result does not run: {failure}") from None


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


__all__ = ["Failure", "Ground", "Rounded", "blame", "feeds_of", "held", "tried"]
