"""Every mutant of a file, each with a name that stays when lines move."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.testing.mutation.edits import Edit, children, edits_of


@dataclass(frozen=True)
class Site:
    """One mutant: an edit, the function it is in, and the statement before and after, as text.

    `function` is empty for statements of the module or of a class, which run when it is imported. `lines`
    are those of the statement (of a compound one: of its head) in the file as it is.
    """

    file: str
    function: str
    kind: str
    before: str
    after: str
    lines: tuple[int, int]
    edit: Edit

    @property
    def key(self) -> str:
        """What names the mutant: equal statements of one function share it."""
        return "\n".join((self.file, self.function, self.before, self.after))


@dataclass(frozen=True)
class Source:
    """A file of the passes or of what they ask: its tree, which the edits change in place, and its mutants."""

    path: Path
    module: str
    tree: ast.Module
    sites: tuple[Site, ...]


def read(root: Path, path: Path) -> Source:
    """Parse a file under `root` and find its mutants, each once."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.relative_to(root).as_posix()
    found: dict[str, Site] = {}
    for site in _sites(name, tree):
        if site.before != site.after:
            found.setdefault(site.key, site)
    module = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    return Source(path, module, tree, tuple(found.values()))


def _sites(file: str, tree: ast.Module) -> Iterator[Site]:
    pending: list[tuple[ast.AST, tuple[str, ...], bool, ast.stmt | None]] = [(tree, (), False, None)]
    heads: dict[ast.stmt, str] = {}
    while pending:
        holder, scope, inside, statement = pending.pop()
        for field, index, node in children(holder):
            around = node if isinstance(node, ast.stmt) else statement
            deferred = inside or (isinstance(holder, ast.FunctionDef) and field == "body")
            if around is not None and not isinstance(around, ast.ClassDef):
                for edit in edits_of(holder, field, index, node):
                    if around not in heads:
                        heads[around] = head(around)
                    yield _site(file, ".".join(scope) if deferred else "", edit, around, heads[around])
            below = (*scope, node.name) if isinstance(node, ast.FunctionDef | ast.ClassDef) else scope
            pending.append((node, below, deferred, around))


def _site(file: str, function: str, edit: Edit, statement: ast.stmt, before: str) -> Site:
    edit.swap()
    # A statement that is left out stands in its holder no more.
    after = "pass" if edit.kind == "skip the statement" else head(statement)
    edit.swap()
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno
    if isinstance(statement, ast.If | ast.While):
        last = statement.test.end_lineno
    return Site(file, function, edit.kind, before, after, (statement.lineno, last or statement.lineno), edit)


def head(statement: ast.stmt) -> str:
    """A statement as text, a compound one without what is in it."""
    if not isinstance(getattr(statement, "body", None), list):
        return ast.unparse(statement)
    empty: dict[str, Any] = {"body": [ast.Pass()], "orelse": [], "finalbody": [], "handlers": [], "cases": []}
    fields: Any = {name: empty.get(name, getattr(statement, name, None)) for name in statement._fields}
    bare = type(statement)(**fields)
    text = ast.unparse(ast.fix_missing_locations(ast.copy_location(bare, statement)))
    return text.removesuffix("pass").rstrip().removesuffix(":")
