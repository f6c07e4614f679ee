"""A pass whose work is done by code that knows nothing of graphopt: a whole model goes in, a whole one comes out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from graphopt.contract import Contract
from graphopt.errors import GraphoptError, InternalError, UsageError
from graphopt.ir import Graph, decode, encode
from graphopt.ir.supplant import supplant
from graphopt.pipeline.protocol import Context, Part, Pass, option
from graphopt.storage.read import read
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source
from graphopt.storage.wire import join
from graphopt.storage.write import stage

Promise = Literal["exact", "rounding", "lossy"]


@dataclass(frozen=True)
class Foreign(Pass):
    """One rewrite that replaces the model by what other code made of it.

    What that code promises it cannot say itself: the option `contract` decides what validation holds it to.
    It may import other versions of operator sets, and has to keep the rest of the signature, but for the parts
    that the option `changes` names.
    """

    contract = Contract.ROUNDING
    changes: ClassVar[tuple[Part, ...]] = ("opsets",)
    grows = True
    promise: Promise = option(  # noqa: RUF009 - what it gives is a text
        "rounding", "what validation holds the result to: exact, rounding, or lossy with a budget", name="contract"
    )
    allowed: tuple[Literal["inputs", "outputs", "defaults"], ...] = option(
        (), "parts of the signature that it may change: inputs, outputs, defaults of inputs", name="changes"
    )

    def __post_init__(self) -> None:
        # The class has a contract, as all do; this one's is what its user says, and so is what it may change.
        object.__setattr__(self, "contract", Contract[self.promise.upper()])
        object.__setattr__(self, "changes", (*type(self).changes, *self.allowed))

    @abstractmethod
    def made(self, graph: Graph) -> Graph:
        """The model that the code makes of `graph`, which it leaves as it is; may be unchanged.

        Raises UsageError for what the user can put right, InternalError where the code fails.
        """

    @abstractmethod
    def code(self) -> str:
        """The code that runs, in words."""

    def run(self, graph: Graph, ctx: Context) -> None:
        """Replace the whole model, if the code changed anything."""
        before = _bytes(graph)
        new = self.made(graph)
        if _bytes(new) == before:
            return
        subject = next(iter((*graph.nodes, *graph.outputs)), None)
        if subject is not None and ctx.rewrite("run", subject, self.code()):
            supplant(graph, new)

    def needed(self, option: str, given: str, example: str) -> None:
        """See that an option is given that the pass cannot do without. Raises UsageError."""
        if not given:
            raise UsageError(f"the pass {self.name} needs the option {option}, for example {self.name}{{{example}}}")


@contextmanager
def exchange(graph: Graph) -> Iterator[tuple[Path, Path]]:
    """A file that holds the model, and a place for another one, for as long as the block lasts."""
    with Scratch() as folder:
        encoded = encode(graph)
        given = Path(folder) / "in" / "in.onnx"
        wanted = Path(folder) / "out" / "out.onnx"
        for place in (given, wanted):
            place.parent.mkdir()
        with stage(given, source=None) as staged:
            staged.put(encoded.proto, encoded.store)
            staged.commit()
        yield given, wanted


def read_back(path: Path, who: str) -> Graph:
    """The model that other code wrote; its weights stay mapped also when the file is removed.

    Raises InternalError when it is none.
    """
    if not path.exists():
        raise InternalError(f"{who} wrote no model")
    try:
        source = read(path)
    except GraphoptError as error:
        raise InternalError(f"{who} wrote no model that can be read: {error}") from error
    return decode(source.proto, source.store)


def _bytes(graph: Graph) -> str:
    """What tells one model from another, metadata and all."""
    encoded = encode(graph)
    source = Source(None, encoded.proto, encoded.store)
    return f"{sum(len(piece) for piece in join(encoded.proto, encoded.store))}:{source.sha256()}"
