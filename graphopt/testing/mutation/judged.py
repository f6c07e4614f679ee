"""Mutants that were looked at and found to change nothing that matters, each with the reason.

An entry of `judged.toml` names the file, the function and the statement (as `ast.unparse` writes it), and
either what it becomes (`after`), what kind of change it is (`kind`), or neither: then all changes of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from graphopt.testing.mutation.sites import Site

LIST = Path(__file__).with_name("judged.toml")
_FIELDS = ("file", "function", "before", "kind", "after")


class Judged:
    """The reviewed list."""

    def __init__(self, entries: Iterable[Mapping[str, str]]) -> None:
        self.entries = list(entries)
        for one in self.entries:
            if not {"file", "why"} <= one.keys() <= {*_FIELDS, "why"}:
                raise ValueError(f"an entry needs file and why, and may have {', '.join(_FIELDS[1:])}: {dict(one)}")

    @classmethod
    def read(cls, path: Path = LIST) -> Judged:
        return cls(tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", ()))

    def why(self, site: Site) -> str | None:
        """Why a mutant that survives is no gap, if somebody found out."""
        for one in self.entries:
            if all(one.get(name, getattr(site, name)) == getattr(site, name) for name in _FIELDS):
                return one["why"]
        return None

    def stale(self, sites: Iterable[Site]) -> list[Mapping[str, str]]:
        """The entries for files among those of `sites` that name none of them any more."""
        every = list(sites)
        files = {one.file for one in every}
        return [
            one
            for one in self.entries
            if one["file"] in files
            and not any(all(one.get(n, getattr(site, n)) == getattr(site, n) for n in _FIELDS) for site in every)
        ]
