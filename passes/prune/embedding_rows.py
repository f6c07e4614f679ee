"""Keep only the rows of embedding tables that are in use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from graphopt.analysis.activations import Observation
from graphopt.analysis.changes import is_real
from graphopt.analysis.constants import constant_of
from graphopt.ir import Graph, Node, Tensor
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.prune.nearest_rows import centres, nearest
from passes.prune.tables import Table, tables

Array = np.ndarray[Any, Any]

RULE = "rows"

_RANGE = re.compile(r"\s*(\d+)(?::(\d+))?\s*")
_HANDS_ON = (
    "Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Slice", "Split", "Concat",
)  # fmt: skip
_NEAREST = -1
_MAP = np.dtype(np.int32)


class Seen:
    """How often each of `rows` indices was looked up."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.counts: Array = np.zeros(rows, np.int64)

    @property
    def key(self) -> str:
        return f"indices of {self.rows}"

    def update(self, *values: Array) -> None:
        for value in values:
            if value.dtype.kind in "iu":
                flat = value.reshape(-1).astype(np.int64)
                inside = flat[(flat >= -self.rows) & (flat < self.rows)] % self.rows
                self.counts += np.bincount(inside, minlength=self.rows)

    def state(self) -> dict[str, Array]:
        return {"counts": self.counts}

    def restore(self, state: Mapping[str, Array]) -> None:
        if state["counts"].shape != (self.rows,):
            raise ValueError("counts of other indices")
        self.counts = state["counts"]


@dataclass(frozen=True)
class EmbeddingRows(Pass):
    """Store only those rows of embedding tables whose ids are in use, and few for all other ids.

    What it does
        For each table that Gather looks up along its first axis, the ids that reach it are counted over the
        calibration feeds. Rows of ids that are neither among them nor in `ids` go. The model takes the same ids as
        before: a table of integers with an entry for each old id says in which row it is now. An id that is not
        in use gets the nearest row of those that stay and of `shared` rows that are added: centres of the rows that
        go (k-means; one is their mean). Of a table that is stored in codes the rows nearest to these stay instead.
        With `unknown`, all such ids get the row of that id.

        Tables may be plain, or integers and small floats with scales, before or behind the Gather; several Gathers may
        read one.

    Example
        before: e = Gather(table, ids)                          table: 30522 x 384
        after:  r = Gather(rows, ids)    e = Gather(table, r)   table: 4001 x 384, rows: 30522 integers

    When not
        Where data in use has many other ids than the calibration feeds: an id that is not kept is read as one with
        a similar row. Give all feeds there are, or the ids of a language in `ids`. Left, with the reason: tables that
        are output projections, too, whose results are for every row of the vocabulary; tables whose indices are
        computed (positions, from the length), unless `ids` is given and seen is off; with fewer than min-rows rows;
        those that would not get smaller with the table of integers.

        Cost: one run over the calibration feeds of what makes the ids, and for n rows that go, m that stay and width
        d, n m d multiplications, 10 n d more for each shared row. A lookup becomes two, the first of integers.

    Contract
        LOSSY: needs a budget. For ids that are kept the rows are the same, to the bit.

    Source
        Abdaoui, Pradel, Sigel, "Load What You Need: Smaller Versions of Multilingual BERT", SustaiNLP 2020. Lloyd,
        "Least squares quantization in PCM", IEEE Transactions on Information Theory 1982 (k-means).
    """

    name = "embedding-rows"
    contract = Contract.LOSSY
    calibrates = True

    ids: str = option("", "ids that stay besides those that are seen, such as 0:1000,2000 (the end of a range is out)")
    seen: bool = option(True, "keep the ids that the calibration feeds have")
    shared: int = option(1, "rows that are added for ids that are not in use, each the mean of rows that go")
    unknown: int = option(_NEAREST, "the id whose row stands for all that go; -1 for the nearest row for each")
    min_rows: int = option(256, "leave tables with fewer rows as they are")
    skip: tuple[str, ...] = option((), "patterns of tables, and of the nodes that look them up, to leave as they are")
    only: tuple[str, ...] = option((), "patterns of the tables, and of the nodes that look them up; all when empty")

    def __post_init__(self) -> None:
        self.given()
        if self.unknown < _NEAREST or self.min_rows < 2 or self.shared < 1:
            raise ValueError("unknown must be an id, or -1, min-rows at least 2, and shared at least 1")
        if not self.seen and not self.ids:
            raise ValueError("with seen=false, ids must say which ids stay")

    def given(self) -> list[range]:
        """The ranges in `ids`. Raises ValueError."""
        found = []
        for part in self.ids.split(",") if self.ids.strip() else ():
            one = _RANGE.fullmatch(part)
            if one is None:
                raise ValueError(f"ids must be numbers and ranges such as 0:1000,2000, and {part.strip()!r} is neither")
            found.append(range(int(one[1]), int(one[2] or int(one[1]) + 1)))
        return found

    def run(self, graph: Graph, ctx: Context) -> None:
        chosen, every = list[Table](), tables(graph)
        if not every:
            for maker in [maker for output in graph.outputs for maker in output.inputs][:1]:
                ctx.missed(RULE, maker, "the model looks up no table by ids that are fed")
        for found in every:
            if isinstance(found, tuple):
                ctx.missed(RULE, *found)
            elif (why := self._why_not(found)) is not None:
                ctx.missed(RULE, found.gathers[0], why)
            else:
                chosen.append(found)
        asked = {(table, node): Observation((node.inputs[1],), Seen(table.rows)) for table in chosen
                 for node in table.gathers if self.seen}  # fmt: skip
        refused = ctx.calibration.observe(list(asked.values())).refused if asked else {}
        for table in chosen:
            questions = [asked[table, node] for node in table.gathers if (table, node) in asked]
            why = next((refused[one] for one in questions if one in refused), None)
            if why is None:
                counts = [one.accumulator.counts for one in questions if isinstance(one.accumulator, Seen)]
                self._trim(table, counts, ctx)
            else:
                ctx.missed(RULE, table.gathers[0], why)

    def _why_not(self, table: Table) -> str | None:
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in table.names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if self.only and not any(fnmatchcase(name, one) for one in self.only for name in table.names):
            return "only has no pattern for it"
        if table.rows < self.min_rows:
            return f"it has {table.rows} rows, fewer than min-rows={self.min_rows}"
        if self.unknown >= table.rows:
            return f"it has {table.rows} rows, and none for unknown={self.unknown}"
        maker = next((one for one in map(_computed, table.gathers) if one is not None), None)
        if maker is not None and self.seen:
            return f"its indices are computed by {maker.op} {maker.label!r}: other inputs may need other rows"
        return None

    def _trim(self, table: Table, counts: list[Array], ctx: Context) -> None:
        keep = np.zeros(table.rows, np.bool_)
        for one in counts:
            keep |= one > 0
        for ids in self.given():
            keep[ids.start : ids.stop] = True
        if self.unknown >= 0:
            keep[self.unknown] = True
        node = table.gathers[0]
        if keep.all():
            ctx.missed(RULE, node, f"all of its {table.rows} rows are in use")
            return
        if not keep.any():
            ctx.missed(RULE, node, "none of its rows is in use on the calibration feeds")
            return
        left = self._left(table, keep, ctx)
        if isinstance(left, str):
            ctx.missed(RULE, node, left)
            return
        places = dict.fromkeys((one.graph, one.inputs[1]) for one in table.gathers)
        after = table.bytes * left.count // table.rows + len(places) * table.rows * _MAP.itemsize
        if after >= table.bytes:
            would = f"with {left.count} of {table.rows} rows it would take {after} bytes with their numbers"
            ctx.missed(RULE, node, f"{would}, and takes {table.bytes}")
            return
        kept = f"{left.count} of {table.rows} rows left, {table.bytes} bytes become {after}"
        if ctx.rewrite(RULE, node, f"{kept}; {int((~keep).sum())} other ids get {left.words}"):
            table.trim(left.rows, left.more)
            _redirect(table, left.where.astype(_MAP))

    def _left(self, table: Table, keep: Array, ctx: Context) -> _Left | str:
        """What stays of a table of which the rows `keep` are in use; a clause where that cannot be told."""
        rows = np.flatnonzero(keep)
        where = np.cumsum(keep) - 1
        if self.unknown >= 0:
            where[~keep] = where[self.unknown]
            return _Left(rows, {}, where, f"the row of id {self.unknown}")
        values = _values(table, ctx)
        if values is None:
            return "what its rows hold is not known: give the id of one of them as unknown"
        flat = values.reshape(table.rows, -1).astype(np.float32)
        if not np.isfinite(flat).all():
            return "a row has NaN or infinities: give the id of another one as unknown"
        made = centres(flat[~keep], self.shared)
        if table.is_plain and is_real(values):
            more = {leaf: made.reshape(-1, *values.shape[1:]) for leaf in table.leaves}
            where[~keep] = nearest(flat[~keep], np.concatenate([flat[keep], made]))
            return _Left(rows, more, where, "the nearest of them")
        chosen = keep.copy()  # of codes no means can be stored: rows that are nearest to them stay
        chosen[np.flatnonzero(~keep)[nearest(made, flat[~keep])]] = True
        where = np.cumsum(chosen) - 1
        where[~chosen] = nearest(flat[~chosen], flat[chosen])
        return _Left(np.flatnonzero(chosen), {}, where, "the nearest of them")


@dataclass(frozen=True)
class _Left:
    """What is left of a table: old rows in ascending order, rows more for some stored tensors, in which of all these
    each id is, and in words what ids get that are not in use."""

    rows: Array
    more: Mapping[Tensor, Array]
    where: Array
    words: str

    @property
    def count(self) -> int:
        return len(self.rows) + max(map(len, self.more.values()), default=0)


def _values(table: Table, ctx: Context) -> Array | None:
    """What the rows of a table hold."""
    held = constant_of(table.data)
    if held is not None:
        return held.values
    return ctx.evaluate([table.data]).get(table.data)


def _computed(gather: Node) -> Node | None:
    """The node that computes the indices of a Gather from something else than indices that are fed."""
    pending, seen = [gather.inputs[1]], set[Tensor]()
    while pending:
        one = pending.pop()
        maker: Node | None = one.inputs[0] if one.inputs and one not in seen else None
        seen.add(one)
        if maker is None or constant_of(one) is not None:
            continue
        # A part of a constant is as long as other inputs ask for; constants beside what is fed are always seen.
        if not maker.is_op(*_HANDS_ON) or (maker.op != "Concat" and constant_of(maker.inputs[0]) is not None):
            return maker
        pending.extend(maker.inputs if maker.op == "Concat" else maker.inputs[:1])
    return None


def _redirect(table: Table, where: Array) -> None:
    """Let the Gathers look ids up in `where` first."""
    made: dict[tuple[Graph, Tensor], Tensor] = {}
    for node in table.gathers:
        scope, ids = node.graph, node.inputs[1]
        assert scope is not None, "a Gather that is found is in a graph"
        if (scope, ids) not in made:
            stem = table.names[0] or "table"
            inputs = [scope.constant(where, f"{stem}_rows"), ids]
            outputs = [scope.variable(f"{stem}_row")]
            new = Node("Gather", scope.fresh_name(f"{stem}_Gather"), {}, inputs, outputs)
            made[scope, ids] = scope.insert(new, before=node).outputs[0]
        scope.rewire(node, 1, made[scope, ids])
