"""Feeds for validation: the user's own, or generated ones that the model really accepts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from graphopt.errors import CouldNotTell, OverLimit, UsageError
from graphopt.ir.store import Store
from graphopt.validation.aside import within_clock
from graphopt.validation.endless import endless
from graphopt.validation.explore import FEEDS, Ahead, Trial, explore
from graphopt.validation.feed_files import Feed, cut, ignored
from graphopt.validation.halves import ALONE, Part, halved, samples
from graphopt.validation.imports import calling, load_function
from graphopt.validation.npz import natural_key, read_npz
from graphopt.validation.pins import check_pins
from graphopt.validation.plan import Arrays, FeedPlan, Given
from graphopt.validation.signature import Input, default_inputs, required_inputs
from graphopt.validation.values import nbytes
from graphopt.validation.verdict import FeedsReport

FUNCTION_LIMIT: Final = 4 << 30  # bytes that a feeds function may give in all
FUNCTION_FEEDS: Final = 100_000  # feeds that it may give


class FeedSet:
    """Feeds that can be gone through any number of times, in the same order.

    Files are read again each time, so that a folder of any size takes the memory of one file. `part` is what
    half of the user's feeds they are, None where they are all.
    """

    def __init__(
        self,
        make: Callable[[], Iterator[Feed]],
        report: FeedsReport,
        warnings: Sequence[str] = (),
        part: Part | None = None,
    ) -> None:
        self._make = make
        self.report = report
        self.warnings = tuple(warnings)
        self.part = part

    def __iter__(self) -> Iterator[Feed]:
        return self._make()

    def __len__(self) -> int:
        return self.report.count


def gather(
    plan: FeedPlan, proto: onnx.ModelProto, trial: Trial, seed: int = 0, store: Store | None = None,
    ahead: Ahead | None = None,
) -> FeedSet:  # fmt: skip
    """The feeds of a plan for the model `proto`, or for a skeleton with its `store`.

    Generated feeds are tried on the model with `trial` until it accepts them; `ahead` is told of those that are likely
    to be tried. Raises
    `UsageError` where the user's feeds do not fit the inputs, `CouldNotTell` where the model accepts
    no generated feed, or cannot end.
    """
    if (why := endless(proto)) is not None:
        raise CouldNotTell(f"the model cannot be run: {why}")
    required, optional = required_inputs(proto), default_inputs(proto)
    if plan.limit is not None and plan.limit < 1:
        raise UsageError(f"the number of feeds cannot be {plan.limit}; give 1 or more")
    if plan.feeds is None:
        pins = check_pins(plan.values, (*required, *optional))
        found = explore(proto, required, pins, plan.sizes, trial, seed, store, plan.generate or FEEDS, ahead)
        feeds = found.feeds[: plan.limit]
        return FeedSet(lambda: iter(feeds), _report(feeds, "generated", seed), found.warnings)
    if plan.values or plan.sizes:
        raise UsageError("--input-value and --dim pin generated feeds; leave them out when giving --feeds")
    return _given(plan, required, optional)


def _given(plan: FeedPlan, required: tuple[Input, ...], optional: tuple[Input, ...]) -> FeedSet:
    """The user's feeds, gone through once to check and count them."""
    sources, name = _sources(plan.feeds)
    notes: dict[str, None] = {}
    items = 0

    def whole() -> Iterator[Feed]:
        nonlocal items
        items = 0
        for label, arrays in sources():
            items += 1
            for extra in ignored(arrays, required, optional):
                notes.setdefault(f"the array {extra!r} of {label} is no input and was not fed")
            yield from cut(arrays, required, optional, label)

    def make() -> Iterator[Feed]:
        return itertools.islice(whole(), plan.limit)

    sizes = [samples(feed, (*required, *optional)) for feed in make()]
    if not sizes:
        raise UsageError(f"{name} gave no feeds; give at least one")
    part = halved(sizes, items == 1)[plan.half] if plan.half else None
    if part is not None and part.everything:
        notes.setdefault(ALONE)

    def chosen() -> Iterator[Feed]:
        return make() if part is None else part.of(make())

    shapes: dict[str, None] = {}
    count = 0
    for feed in chosen():
        count += 1
        if len(shapes) < 8:
            shapes.setdefault(_shapes(feed))
    said = "" if part is None else str(part)
    report = FeedsReport(generated=False, count=count, source=name, shapes=tuple(shapes), part=said)
    return FeedSet(chosen, report, tuple(notes), part)


def _sources(given: Given | None) -> tuple[Callable[[], Iterator[tuple[str, Arrays]]], str]:
    """A function that goes through (label, arrays), and what to call the whole."""
    if isinstance(given, str) and ":" in given and not Path(given).exists():
        function = load_function(given, "feeds")
        return within_clock(f"the feeds function {given}", lambda: _called(function, given))
    if given == "":
        raise UsageError("the name of the feeds is empty; give an .npz file, a folder of them, or module:function")
    if isinstance(given, (str, Path)):
        return _files(Path(given))
    if callable(given):
        return _called(given, getattr(given, "__name__", "the feeds function"))
    several = [given] if isinstance(given, Mapping) else list(given or ())
    return _listed(several, "the given feeds")


def _files(path: Path) -> tuple[Callable[[], Iterator[tuple[str, Arrays]]], str]:
    if path.is_dir():
        files = sorted(path.glob("*.npz"), key=natural_key)
        if not files:
            raise UsageError(f"the folder {str(path)!r} holds no .npz file; give feeds as .npz files")
    elif path.suffix == ".npz" or path.is_file():
        files = [path]
    else:
        raise UsageError(
            f"there are no feeds at {str(path)!r}; give an .npz file, a folder of them, or module:function"
        )
    if len(files) == 1:
        only = read_npz(files[0])
        return lambda: iter([(files[0].name, only)]), path.name
    return lambda: ((file.name, read_npz(file)) for file in files), f"{path.name}/ ({len(files)} files)"


def _called(function: Callable[[], Any], name: str) -> tuple[Callable[[], Iterator[tuple[str, Arrays]]], str]:
    """What a function returned or yielded, kept: a second call might give something else."""
    several: list[Arrays] = []
    size = 0
    with calling(f"the feeds function {name} raised"):
        result = function()
        for arrays in [result] if isinstance(result, Mapping) else result:
            if not isinstance(arrays, Mapping):
                raise UsageError(_no_feed(name, arrays))
            several.append(arrays)
            size += sum(nbytes(value) for value in arrays.values())
            if size > FUNCTION_LIMIT or len(several) > FUNCTION_FEEDS:
                break
    if len(several) > FUNCTION_FEEDS:
        raise OverLimit(f"the feeds function {name} gave more than {FUNCTION_FEEDS} feeds; does it ever end?")
    if size > FUNCTION_LIMIT:
        raise OverLimit(
            f"the feeds function {name} gave more than {FUNCTION_LIMIT >> 30} GiB; write them to a folder of .npz files"
        )
    return _listed(several, name)


def _listed(several: list[Any], name: str) -> tuple[Callable[[], Iterator[tuple[str, Arrays]]], str]:
    for arrays in several:
        if not isinstance(arrays, Mapping):
            raise UsageError(_no_feed(name, arrays))
    label = name if len(several) == 1 else f"{name} item"
    return lambda: ((label if len(several) == 1 else f"{label} {i}", each) for i, each in enumerate(several, 1)), name


def _no_feed(name: str, given: object) -> str:
    return f"{name} gave a {type(given).__name__}; a feed is a dict of arrays by input name"


def _report(feeds: Sequence[Feed], source: str, seed: int) -> FeedsReport:
    shapes = tuple(dict.fromkeys(_shapes(feed) for feed in feeds))
    return FeedsReport(generated=True, count=len(feeds), source=source, shapes=shapes, seed=seed)


def _shapes(feed: Feed) -> str:
    """The shapes of one feed in words: `x[2,3] mask[2]`."""
    parts = []
    for name, value in feed.values.items():
        if isinstance(value, np.ndarray):
            parts.append(f"{name}[{','.join(map(str, value.shape))}]")
        else:
            parts.append(f"{name}(absent)" if value is None else f"{name}({len(value)} items)")
    return " ".join(parts)
