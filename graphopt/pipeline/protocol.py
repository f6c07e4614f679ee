"""What a pass is and what it may ask for: the only part of the engine that a pass sees.

A pass is a frozen dataclass. Its fields are its options, its docstring is its page, and `run`
edits the graph it is given through the graph's own methods. Everything a pass cannot know from
the graph alone it asks of the `Context`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeVar

from graphopt.contract import Contract

if TYPE_CHECKING:
    from graphopt.analysis.activations import Array, Observation, Observed
    from graphopt.analysis.changes import Change, Measured
    from graphopt.analysis.evaluated import Evaluated
    from graphopt.analysis.lesson import Learnt, Lesson
    from graphopt.analysis.shapes import Shapes
    from graphopt.ir import Graph, Node, Tensor

__all__ = ["Calibration", "Context", "Contract", "Measure", "Pass", "Remark", "Training", "option"]

T = TypeVar("T")
Part = Literal["inputs", "outputs", "defaults", "opsets"]


def option(default: T, help: str, *, name: str = "") -> T:  # noqa: A002
    """Declare an option of a pass: a dataclass field with a default and a one-line help text.

    `name` is what users write where that is not the field's own name, as for `run`, which is a method.
    """
    field: T = dataclasses.field(default=default, metadata={"help": help, "name": name})
    return field


@dataclass(frozen=True)
class Remark:
    """What a pass did, or nearly did and why not, for one node (or one initializer).

    `number` counts the candidates of one pass over a whole run, from 1, and is the handle that
    `--disable PASS:NUMBER` takes; a missed remark has none. `scope` is the path of the body or
    function that holds the node, "" for the main graph. `before` and `after` are provenance:
    the names of the values that the rewrite took away, and of those that stand for them now.
    `values` are those that the node of a rewrite that did not happen makes.
    """

    kind: Literal["applied", "missed", "disabled"]
    pass_name: str
    rule: str
    node: str
    op: str
    why: str = ""
    number: int | None = None
    step: int = 0
    scope: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


class Calibration(Protocol):
    """What is known about the activations of the graph, from feeds that are streamed through it."""

    @property
    def why_not(self) -> str | None:
        """Why there is nothing to calibrate with, in a clause; None when there is."""
        ...

    def observe(self, observations: Sequence[Observation]) -> Observed:
        """Run the graph as it is now (and, for `Original` values, the model as it was read) once on each
        calibration feed, and let the accumulators sum up what they see.

        Everything asked in one call costs one run over the feeds. What cannot be observed is in the
        answer's `refused`, with a clause; its accumulator has seen nothing, or not all.
        """
        ...

    def worked_out(
        self, question: str, given: Sequence[Array], make: Callable[[], Mapping[str, Array]]
    ) -> Mapping[str, Array]:
        """What `make` gives, or gave to the same `question` with the same arrays `given`, where the user lets a run
        that is stopped go on. All that `make` depends on is in these two; its arrays are of numpy's own types."""
        ...


class Measure(Protocol):
    """What changes would do to the outputs of the model, on the calibration feeds."""

    @property
    def why_not(self) -> str | None:
        """Why there is nothing to measure on, in a clause; None when there is."""
        ...

    def changes(self, changes: Sequence[Change], samples: int = 0) -> Measured:
        """Run the graph as it is now with each change by itself, on the first `samples` of the feeds (0: all).

        Outputs are compared with those of the model as it was read, and with those of the graph as it is. The
        graph is not edited. What cannot be tried is in the answer's `refused`, with a clause.
        """
        ...


class Training(Protocol):
    """Gradient descent on weights of the graph, on the calibration feeds, towards the model as it was read."""

    @property
    def why_not(self) -> str | None:
        """Why nothing can be trained, in a clause; None when it can."""
        ...

    def train(self, lesson: Lesson) -> Learnt | str:
        """Train weights of the graph as it is now; the graph itself is not touched. A clause where it cannot be,
        or where nothing that was tried is better on the samples that were held out."""
        ...


class Context(Protocol):
    """What a running pass may ask for. The session injects it; a pass never keeps it."""

    @property
    def shapes(self) -> Shapes:
        """Dtypes and (symbolic) shapes of the graph's values as inferred from its inputs."""
        ...

    @property
    def calibration(self) -> Calibration:
        """Activations of the graph as it is now, over the calibration feeds."""
        ...

    @property
    def measure(self) -> Measure:
        """What changes of the graph as it is now would do to its outputs, on the calibration feeds."""
        ...

    @property
    def training(self) -> Training:
        """Training of the graph as it is now."""
        ...

    def originals(self, tensor: Tensor) -> tuple[str, ...]:
        """Names of the values of the model as it was read that `tensor` may stand for: its own name where
        no rewrite touched it, else those that the rewrites that led to it took away; none for a new value."""
        ...

    def evaluate(self, values: Iterable[Tensor]) -> Evaluated:
        """The values that are computed from constants only, as onnxruntime computes them.

        Deterministic operators of ONNX, without bodies, and calls of functions of such. All values of
        one call are computed together, within limits that are checked beforehand. Gives a mapping from
        tensors to read-only arrays; its `refused` has a clause for every value that is not in it.
        """
        ...

    def rewrite(self, rule: str, subject: Node | Tensor, detail: str = "") -> bool:
        """Announce one rewrite. True: carry it out now. False: leave the subject as it is."""
        ...

    def missed(self, rule: str, subject: Node | Tensor, why: str) -> None:
        """Record that `rule` nearly applied to `subject`, and in one clause why it did not."""
        ...


@dataclass(frozen=True)
class Pass(ABC):
    """One kind of rewrite: a name, a contract, options as fields, and `run`.

    Laws: edits in place through the graph's methods; keeps no state on itself; touches no
    disk, clock, logger or unseeded randomness; deterministic; EXACT and ROUNDING passes change
    nothing the second time; LOSSY passes run once. Missing information is `ctx.missed`, never
    an exception.
    """

    name: ClassVar[str]
    contract: ClassVar[Contract]
    changes: ClassVar[tuple[Part, ...]] = ()
    """The parts of the model's signature that the pass is there to change."""
    grows: ClassVar[bool] = False
    """Whether the file may grow; the pass's page gives the reason."""
    calibrates: ClassVar[bool] = False
    """Whether the pass asks for `ctx.calibration` or `ctx.measure`, so that feeds of the user's are kept for that."""

    strength: ClassVar[str] = ""
    """The option, a number from 0 to 1, that says how much of a model goes; what `--to` turns."""
    repairs: ClassVar[bool] = False
    """Whether all that the pass does is to make up for what others took, at the same size and speed."""

    predicts: ClassVar[str] = ""
    """The compression of a table of sensitivities whose predictions, NAME=ERROR for weights and nodes, the pass
    takes as its option `predicted`."""

    def code(self) -> str | None:
        """The code that the pass's options make it run, in words such as `the script surgery.py`; None for a
        pass that runs none but its own. Recipes and bundles with such passes are refused unless allowed."""
        return None

    @abstractmethod
    def run(self, graph: Graph, ctx: Context) -> None:
        """Rewrite `graph` (bodies and functions included) in place."""
