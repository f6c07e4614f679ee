"""Sizes for symbolic dims: bound by name across inputs, plausible first, then a ladder of others."""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from graphopt.errors import UsageError
from graphopt.validation.signature import Input

Sizes = dict[str, int]

_GROUPS: Final = ("batch", "sequence", "past", "spatial", "samples", "other")
# One row is one guess for all symbols at once, tried from the top: a small and unequal start, then
# round numbers that real models insist on (image sides, audio windows), then everything equal.
_LADDER: Final = (
    (2, 8, 4, 64, 512, 4),
    (1, 6, 3, 96, 1024, 6),
    (3, 16, 8, 32, 576, 8),
    (1, 32, 1, 224, 16000, 16),
    (1, 12, 12, 128, 256, 3),
    (1, 64, 0, 48, 2048, 2),
    (1, 100, 10, 256, 480, 64),
    (1, 128, 16, 320, 4096, 8),
    (1, 384, 32, 640, 160, 3),
    (1, 512, 1, 512, 32000, 1),
    (1, 1, 1, 1, 1, 1),
    (2, 2, 2, 2, 2, 2),
    (3, 3, 3, 3, 3, 3),
    (4, 4, 4, 4, 4, 4),
    (8, 8, 8, 8, 8, 8),
    (16, 16, 16, 16, 16, 16),
)
_PAST: Final = re.compile(r"past|cache|history|prev|kv_?len", re.IGNORECASE)
_BATCH: Final = re.compile(r"batch|^n$|^b$|^bs$|^bsz$", re.IGNORECASE)
_SEQUENCE: Final = re.compile(r"seq|len|time|token|frame|step|word|^t$|^l$|^s$", re.IGNORECASE)
_SPATIAL: Final = re.compile(r"height|width|^h$|^w$", re.IGNORECASE)
_STATE: Final = re.compile(r"state|hidden|cell|^[hc](0|n|_|$)", re.IGNORECASE)
_ARITHMETIC: Final[dict[type[ast.AST], Callable[[int, int], int]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}


class Symbols:
    """The symbolic dims of a model's inputs and what sizes they may take.

    A dim whose name is arithmetic over other names (`past_len + seq_len`) follows from them.
    `pins` fixes sizes by name; a name that no input has raises `UsageError`. `hints` are sizes
    that the weights dictate.
    """

    def __init__(self, inputs: tuple[Input, ...], hints: Mapping[str, int], pins: Mapping[str, int]) -> None:
        self._dims = tuple(dict.fromkeys(symbol for each in inputs for symbol in each.symbols))
        self._formulas = _formulas(self._dims)
        self._groups: dict[str, str] = {}
        for each in inputs:
            for axis, dim in enumerate(each.dims or ()):
                if isinstance(dim, str):
                    for atom in _names(self._formulas[dim]) if dim in self._formulas else (dim,):
                        self._groups.setdefault(atom, _group(atom, each, axis))
        self._fixed = {name: hints[name] for name in self._groups if name in hints} | self._checked(pins)
        self.free = tuple(name for name in self._groups if name not in self._fixed)

    def ladder(self) -> Iterator[Sizes]:
        """Bindings of all symbols, the plausible first, each once."""
        seen: list[Sizes] = []
        for row in _LADDER:
            for summed in (True, False):
                sizes = self._bind(dict(zip(_GROUPS, row, strict=True)), summed)
                if sizes is not None and sizes not in seen:
                    seen.append(sizes)
                    yield sizes

    def neighbours(self, accepted: Sizes) -> Iterator[Sizes]:
        """Bindings near one that a model took: one group of symbols changed at a time."""
        for group in dict.fromkeys(self._groups[name] for name in self.free):
            members = [name for name in self.free if self._groups[name] == group]
            for factor, more in ((1, 1), (2, 0), (3, 0), (16, 0)):
                changed = {name: accepted[name] for name in self._groups if name in accepted}
                changed |= {name: accepted[name] * factor + more for name in members if name in accepted}
                for summed in (True, False):
                    sizes = self._derive(changed, summed)
                    if sizes is not None and sizes != accepted:
                        yield sizes

    def text(self, sizes: Sizes) -> str:
        """The sizes of the free symbols in words, such as `batch=2, seq=8`."""
        return ", ".join(f"{name}={sizes[name]}" for name in self.free if name in sizes)

    def _checked(self, pins: Mapping[str, int]) -> dict[str, int]:
        for name, size in pins.items():
            if name not in self._groups:
                near = difflib.get_close_matches(name, self._groups, n=1, cutoff=0.0)
                known = f"did you mean {near[0]!r}?" if near else "every input has fixed dims"
                raise UsageError(f"no input of the model has a dim named {name!r}; {known}")
            if size < 0:
                raise UsageError(f"the dim {name!r} cannot have the size {size}; give zero or more")
        return dict(pins)

    def _bind(self, row: Mapping[str, int], summed: bool) -> Sizes | None:
        return self._derive({name: row[group] for name, group in self._groups.items()}, summed)

    def _derive(self, chosen: Mapping[str, int], summed: bool) -> Sizes | None:
        """Complete a choice for every atom: fixed sizes, totals as past + sequence, arithmetic dims."""
        sizes = {**chosen, **self._fixed}
        totals = [name for name in self.free if "total" in name.lower()]
        past = next((name for name in sizes if self._groups[name] == "past" and name not in totals), None)
        tokens = next((name for name in sizes if self._groups[name] == "sequence" and name not in totals), None)
        if summed and past is not None and tokens is not None:
            sizes |= dict.fromkeys(totals, sizes[past] + sizes[tokens])
        for dim in self._dims:
            if dim not in sizes:
                value = _value(self._formulas[dim], sizes)
                if value is None or value < 0:
                    return None
                sizes[dim] = value
        return sizes


def _group(symbol: str, wanted: Input, axis: int) -> str:
    """Which column of the ladder a symbol takes, from its name and where it stands."""
    rank, unnamed = len(wanted.dims or ()), symbol.startswith(f"{wanted.name}[")
    if not unnamed:
        for group, pattern in (("past", _PAST), ("batch", _BATCH), ("sequence", _SEQUENCE), ("spatial", _SPATIAL)):
            if pattern.search(symbol):
                return group
    if axis == 0 or (axis == 1 and rank == 3 and _STATE.search(wanted.name)):
        return "batch"
    if wanted.dtype.kind in "iub":
        return "sequence" if axis == rank - 1 or axis == 1 else "other"
    if rank >= 4:
        return "spatial" if axis >= 2 else "other"
    if rank == 2:
        return "samples"
    return "sequence" if rank == 3 else "other"


def _formulas(dims: tuple[str, ...]) -> dict[str, ast.expr]:
    """The dims that are arithmetic over names, parsed.

    `batch-size` and `images/height` are more likely names than formulas: differences and
    quotients count as arithmetic only over names that are dims themselves.
    """
    trees = {dim: _parse(dim) for dim in dims}
    found = {}
    for dim, tree in trees.items():
        if tree is None or isinstance(tree, ast.Name) or not _names(tree):
            continue
        doubtful = any(isinstance(node, (ast.Sub, ast.Div, ast.FloorDiv)) for node in ast.walk(tree))
        if not doubtful or all(name in trees for name in _names(tree)):
            found[dim] = tree
    return found


def _names(tree: ast.expr) -> tuple[str, ...]:
    return tuple(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))


def _parse(dim: str) -> ast.expr | None:
    if len(dim) > 200:
        return None
    try:
        tree = ast.parse(dim.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    allowed = (ast.BinOp, ast.Name, ast.Constant, ast.Load, *_ARITHMETIC)
    return tree if all(isinstance(node, allowed) for node in ast.walk(tree)) else None


def _value(node: ast.expr, sizes: Mapping[str, int]) -> int | None:
    if isinstance(node, ast.Name):
        return sizes.get(node.id)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) else None
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _value(node.left, sizes), _value(node.right, sizes)
    if left is None or right is None or (right == 0 and isinstance(node.op, (ast.Div, ast.FloorDiv))):
        return None
    return _ARITHMETIC[type(node.op)](left, right)
