"""What a mutant changes: one place of a syntax tree, and what to put there.

Messages, docstrings, annotations and remarks are left alone: they are no side conditions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MOST_MEMBERS = 8  # of a table of operators, so many members are left out in turn, evenly spread

_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_BOUNDS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
}
_TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_SYMMETRIC = frozenset({"isinstance", "min", "max", "range", "array_equal", "same_shape", "getattr", "hasattr"})
_SAID = frozenset({"missed", "rewrite", "warn"})  # calls that tell, and decide nothing by what they are told
_DECLARED = frozenset({"name", "contract", "changes", "grows", "calibrates", "__all__", "__slots__", "RULE"})


@dataclass
class Edit:
    """A change of one field of one node. `swap` carries it out, and a second time takes it back."""

    kind: str
    holder: ast.AST
    field: str
    index: int | None
    new: Any

    def swap(self) -> None:
        if self.index is None:
            old = getattr(self.holder, self.field)
            setattr(self.holder, self.field, self.new)
        else:
            items = getattr(self.holder, self.field)
            old, items[self.index] = items[self.index], self.new
        self.new = old


def edits_of(holder: ast.AST, field: str, index: int | None, node: ast.AST) -> Iterator[Edit]:
    """The changes of `node` itself, which stands in that field of `holder`, and not of what is in it."""

    def put(kind: str, new: ast.AST) -> Edit:
        return Edit(kind, holder, field, index, ast.copy_location(new, node))

    match node:
        case ast.If() | ast.IfExp() | ast.While():
            yield from _branches(node)
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=called))) if called in _SAID:
            return
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield put("skip the statement", ast.Pass())
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield put("skip the statement", ast.Pass())
        case ast.comprehension(ifs=tests):
            for place, test in enumerate(tests):
                yield Edit("always", node, "ifs", place, ast.copy_location(ast.Constant(True), test))
        case ast.BoolOp(op=op, values=values):
            for place in range(len(values)):
                kept = [one for at, one in enumerate(values) if at != place]
                yield put("drop a condition", kept[0] if len(kept) == 1 else ast.BoolOp(op, kept))
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield Edit("and for or", node, "op", None, other)
        case ast.UnaryOp(op=ast.Not(), operand=operand) if not _is_test(holder, field):
            yield put("drop the not", operand)
        case ast.Compare(ops=ops):
            for place, one in enumerate(ops):
                if isinstance(one, _BOUNDS) or not _is_test(holder, field):
                    yield Edit("other comparison", node, "ops", place, _FLIPPED[type(one)]())
        case ast.BinOp(op=arithmetic) if type(arithmetic) in _ARITHMETIC and not _is_text(node):
            yield Edit("other arithmetic", node, "op", None, _ARITHMETIC[type(arithmetic)]())
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
            yield put("off by one", ast.Constant(1 - number))
        case ast.Constant(value=bool(truth)):
            yield put("other truth", ast.Constant(not truth))
        case ast.Constant(value=int(number)):
            down = number == 1 and isinstance(holder, ast.Subscript)
            yield put("off by one", ast.Constant(0 if down else number + 1))
        case ast.Constant(value=float(real)):
            yield put("other number", ast.Constant(real * 2 if real else 1.0))
        case ast.Call():
            yield from _of_call(node)
        case ast.Tuple(ctx=ast.Load()) | ast.List(ctx=ast.Load()) | ast.Set():
            if all(isinstance(one, ast.Constant | ast.Attribute) for one in node.elts):
                yield from _members(node, "elts")
        case ast.Dict():
            if all(isinstance(one, ast.Constant | ast.Attribute) for one in node.keys):
                yield from _entries(node)


def children(node: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    """The parts of a node in which to look further."""
    skipped: set[str] = set()
    match node:
        case ast.Raise() | ast.Assert() | ast.Import() | ast.ImportFrom() | ast.JoinedStr():
            return
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called)) if called in _SAID:
            return
        case ast.Call(func=ast.Name(id="option"), args=[first, *_]):
            yield "args", 0, first
            return
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Assign(targets=[ast.Name(id=target)]) if target in _DECLARED:
            return
        case ast.AnnAssign(target=ast.Name(id=target)) if target in _DECLARED:
            return
        case ast.BinOp(op=ast.LShift()):
            return
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()) | ast.keyword(arg="strict"):
            return
        case ast.FunctionDef() | ast.ClassDef():
            skipped = {"decorator_list", "returns", "bases", "keywords"}
        case ast.arg() | ast.AnnAssign():
            skipped = {"annotation", "target"}
        case ast.Assign():
            skipped = {"targets"}
    for field, value in ast.iter_fields(node):
        if field in skipped:
            continue
        if isinstance(value, list):
            for index, one in enumerate(value):
                if isinstance(one, ast.AST):
                    yield field, index, one
        elif isinstance(value, ast.AST):
            yield field, None, value


def _branches(node: ast.If | ast.IfExp | ast.While) -> Iterator[Edit]:
    for word, truth in (("never", False), ("always", True)):
        if not (truth and isinstance(node, ast.While)):
            yield Edit(word, node, "test", None, ast.copy_location(ast.Constant(truth), node.test))


def _of_call(node: ast.Call) -> Iterator[Edit]:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called in _SAID:
        return
    if isinstance(node.func, ast.Name) and called in _TWINS:
        yield Edit(f"{_TWINS[called]} for {called}", node.func, "id", None, _TWINS[called])
    if isinstance(node.func, ast.Name) and called == "reversed":
        yield Edit("not reversed", node.func, "id", None, "list")
    if called == "split" and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Constant):
        words = str(node.func.value.value).split()
        for place in _spread(len(words)):
            kept = " ".join(words[:place] + words[place + 1 :])
            yield Edit("drop a member", node.func.value, "value", None, kept)
    strings = [isinstance(one, ast.Constant) and isinstance(one.value, str) for one in node.args]
    if sum(strings) > 1 and called != "get":
        for place in [at for at, one in enumerate(strings) if one]:
            yield Edit("drop a member", node, "args", None, node.args[:place] + node.args[place + 1 :])
    if called == "get" and len(node.args) == 2 and strings[1]:
        yield Edit("other default", node, "args", 1, ast.copy_location(ast.Constant("?"), node.args[1]))
    plain = (ast.Name, ast.Attribute, ast.Subscript)
    if len(node.args) > 1 and called not in _SYMMETRIC and all(isinstance(one, plain) for one in node.args[:2]):
        yield Edit("swap arguments", node, "args", None, [node.args[1], node.args[0], *node.args[2:]])


def _members(node: ast.Tuple | ast.List | ast.Set, field: str) -> Iterator[Edit]:
    if len(node.elts) > 1:
        for place in _spread(len(node.elts)):
            yield Edit("drop a member", node, field, None, node.elts[:place] + node.elts[place + 1 :])


@dataclass
class _Entries(Edit):
    """The entries of a dict, keys and values together."""

    def swap(self) -> None:
        assert isinstance(self.holder, ast.Dict)
        old = (self.holder.keys, self.holder.values)
        self.holder.keys, self.holder.values = self.new
        self.new = old


def _entries(node: ast.Dict) -> Iterator[Edit]:
    if len(node.keys) > 1:
        for place in _spread(len(node.keys)):
            kept = [at for at in range(len(node.keys)) if at != place]
            new = ([node.keys[at] for at in kept], [node.values[at] for at in kept])
            yield _Entries("drop a member", node, "keys", None, new)


def _spread(count: int) -> list[int]:
    step = max(1.0, count / MOST_MEMBERS)
    return sorted({int(step * at) for at in range(min(count, MOST_MEMBERS))})


def _is_test(holder: ast.AST, field: str) -> bool:
    """Whether it decides a branch alone: never and always taking it are harder to notice than the opposite."""
    return field == "test" or (field == "ifs" and isinstance(holder, ast.comprehension))


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(one, ast.JoinedStr) or (isinstance(one, ast.Constant) and isinstance(one.value, str))
        for one in (node.left, node.right)
    )
