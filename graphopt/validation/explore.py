"""The search for generated feeds that the model accepts, at two or more bindings of its sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx

from graphopt.errors import CouldNotTell, UsageError
from graphopt.ir.dtypes import MOST_AXES
from graphopt.ir.store import Store
from graphopt.validation.feed_files import Feed
from graphopt.validation.flow import Flow
from graphopt.validation.generate import Recipe, draw, pinned
from graphopt.validation.hints import size_hints
from graphopt.validation.roles import Role, role_of
from graphopt.validation.signature import Input, default_inputs
from graphopt.validation.sizes import Sizes, Symbols
from graphopt.validation.values import Array

if TYPE_CHECKING:
    from graphopt.runtime.options import Value

# runs a feed on the original; "" where it was accepted, otherwise the reason in a clause
Trial = Callable[[Mapping[str, "Value"]], str]

# is told of feeds that a trial is likely to be asked for, to run them together
Ahead = Callable[[Sequence[Mapping[str, "Value"]]], None]

STYLES: Final = ("normal", "uniform", "wide")
BINDINGS: Final = 2  # different sizes wanted where any are free
FEEDS: Final = 3
ELEMENTS: Final = 1 << 27  # of one generated input; a declared size beyond this is not tried
RANKS: Final = (2, 4, 3, 1, 0)  # tried in turn for an input whose rank is not declared
TRIES: Final = 64  # runs of the original before the search gives up
_FLIPS: Final = 12  # bindings tried for another value of a switch
PATIENCE: Final = 6  # rungs tried for a second binding before looking near the first


@dataclass
class Found:
    """The accepted feeds, and sentences on what could not be had."""

    feeds: list[Feed] = field(default_factory=list)
    warnings: tuple[str, ...] = ()


def explore(
    proto: onnx.ModelProto, required: tuple[Input, ...], pins: Mapping[str, Array], sizes: Mapping[str, int],
    trial: Trial, seed: int, store: Store | None = None, count: int = FEEDS, ahead: Ahead | None = None,
) -> Found:  # fmt: skip
    """Generate feeds until the model accepts `count` of them, at `BINDINGS` bindings where sizes are free.

    `ahead` is given the feeds that would be tried if each were accepted, as most are. Raises `UsageError` for a pin
    that names nothing or does not fit, `CouldNotTell` quoting onnxruntime where no feed is accepted.
    """
    if ahead is not None:
        likely: list[Mapping[str, Value]] = []

        def accepts(values: Mapping[str, Value]) -> str:
            likely.append(values)
            return ""

        _Search(proto, required, pins, sizes, accepts, seed, store, count).run()
        ahead(likely)
    return _Search(proto, required, pins, sizes, trial, seed, store, count).run()


class _Search:
    def __init__(
        self, proto: onnx.ModelProto, required: tuple[Input, ...], pins: Mapping[str, Array], sizes: Mapping[str, int],
        trial: Trial, seed: int, store: Store | None, count: int,
    ) -> None:  # fmt: skip
        for each in required:
            if each.form == "sparse tensor":
                raise CouldNotTell(f"the input {each.name!r} is a sparse tensor, which onnxruntime cannot be fed")
            if len(each.dims or ()) > MOST_AXES:
                axes = len(each.dims or ())
                raise CouldNotTell(
                    f"the input {each.name!r} has {axes} axes, more than the {MOST_AXES} that can be fed"
                )
        flow = Flow(proto, store)
        self._inputs = required + tuple(each for each in default_inputs(proto) if each.name in pins)
        self._roles: dict[str, Role] = {each.name: role_of(each, flow, required) for each in required}
        self._symbols = Symbols(self._inputs, size_hints(required, flow), sizes)
        self._pins, self._trial, self._seed, self._count = pins, trial, seed, count
        self._found = Found()
        self._bindings: list[tuple[Sizes, bool]] = []
        self._rank = RANKS[0]
        self._reason = ""
        self._unreached: list[str] = []
        self._tries = 0

    def run(self) -> Found:
        wanted = BINDINGS if self._symbols.free else 1
        ranks = RANKS if any(each.dims is None for each in self._inputs) else RANKS[:1]
        for timid, self._rank in itertools.product((False, True), ranks):
            missed = 0
            for sizes in self._symbols.ladder():
                if not self._left() or len(self._bindings) == wanted or (self._bindings and missed == PATIENCE):
                    break
                missed = 0 if self._attempt(sizes, timid) else missed + 1
            if self._bindings:
                break
        if not self._bindings:
            raise CouldNotTell(
                f"the model accepted none of {self._tries} generated inputs; give --feeds, or pin what it needs "
                f"with --dim and --input-value; the first reason was: {self._reason}"
            )
        self._widen(wanted)
        self._fill_up()
        self._flip_switches()
        self._found.warnings = self._warnings(wanted)
        return self._found

    def _left(self) -> bool:
        return self._tries < TRIES

    def _widen(self, wanted: int) -> None:
        """A second binding near the first, where the ladder had none."""
        sizes, timid = self._bindings[0]
        for near in self._symbols.neighbours(sizes):
            if len(self._bindings) >= wanted or not self._left():
                break
            self._attempt(near, timid)

    def _fill_up(self) -> None:
        """More feeds at the bindings found, in the styles not yet used."""
        for sizes, timid in list(self._cycle()):
            if len(self._found.feeds) >= (self._count if self._inputs else 1):
                break
            self._attempt(sizes, timid)

    def _cycle(self) -> Iterator[tuple[Sizes, bool]]:
        for _ in range(self._count):
            yield from self._bindings

    def _flip_switches(self) -> None:
        """One feed more for each switch that only one value is known of: with another value, so that
        the branch it skips is run too. The model may refuse it; then the branch is named."""
        sizes, timid = self._bindings[0]
        for each in self._inputs:
            if each.name in self._pins or (role := self._roles[each.name]).kind != "switch" or len(role.choices) != 1:
                continue
            known = role.choices[0]
            other = known / 2 if known > 1 else 1 - known
            ladder = [sizes, *itertools.islice(self._symbols.ladder(), _FLIPS)]
            tried = (self._attempt(s, timid, {each.name: np.full(each.shape(s), other, each.dtype)}) for s in ladder)
            if not any(tried):
                self._unreached.append(
                    f"no generated input has {each.name!r} other than {known:g}; pin one with --input-value"
                )

    def _attempt(self, sizes: Sizes, timid: bool, fixed: Mapping[str, Array] | None = None) -> bool:
        index = len(self._found.feeds)
        recipe = Recipe(sizes, self._seed, index, STYLES[index % len(STYLES)], timid, self._rank)
        values: dict[str, Value] = {}
        self._tries += 1
        for each in self._inputs:
            if math.prod(each.shape(sizes)) > ELEMENTS:
                shape = ",".join(map(str, each.shape(sizes)))
                self._reason = self._reason or f"{each.name}[{shape}] is too large to be generated"
                return False
            if fixed is not None and each.name in fixed:
                values[each.name] = fixed[each.name]
            elif each.name in self._pins:
                value = pinned(each, self._pins[each.name], sizes)
                if value is None:
                    count = self._pins[each.name].size
                    raise UsageError(
                        f"the value pinned for {each.name!r} has {count} numbers, which do not fill {each.text}"
                    )
                values[each.name] = value
            else:
                values[each.name] = draw(each, self._roles[each.name], recipe)
        why = self._trial(values)
        if why:
            self._reason = self._reason or why
            return False
        bound = self._symbols.text(sizes)
        self._found.feeds.append(Feed(values, f"generated feed {index + 1}{f' ({bound})' if bound else ''}"))
        if all(sizes != known for known, _ in self._bindings):
            self._bindings.append((sizes, timid))
        return True

    def _warnings(self, wanted: int) -> tuple[str, ...]:
        said = ["the inputs were generated, not real data; give --feeds for a verdict on the data that matters"]
        if len(self._bindings) < wanted:
            said.append(
                f"the model accepted only one binding of its sizes ({self._symbols.text(self._bindings[0][0])})"
            )
        return (*said, *self._unreached)
