"""Who hears of edits: the graph tells a `Journal` what each edit took away and put in place."""

from __future__ import annotations

from typing import Literal, Protocol

Edit = Literal["remove", "replace", "insert", "rewire", "constant", "values", "drop", "order", "free"]


class Journal(Protocol):
    """Listens to edits. Names are those of values; `before` went away or lost a reader, `after`
    stands there now."""

    def note(self, edit: Edit, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        """One edit was made."""
        ...
