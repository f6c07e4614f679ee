"""What a reduction found, as plain facts: the one source of its page and its JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Reduced:
    """How a reduction ended.

    `outcome`: "nothing" fails, or the model was "reduced". `before` and `after` count nodes, those in
    bodies included, `bytes_before` and `bytes_after` are of the model and its weights. `smallest` tells
    that nothing can be left out, False where the search ended early. `why` says how it fails, `text` is
    what remains, a node a line; `files` were written to `folder`.
    """

    outcome: Literal["nothing", "reduced"]
    model: str
    how: str
    why: str
    before: int
    after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    smallest: bool = True
    evaluations: int = 0
    seconds: float = 0.0
    folder: str | None = None
    files: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    steps: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0 when nothing fails, 1 when a part that fails was found."""
        return 0 if self.outcome == "nothing" else 1

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "model": self.model,
            "how": self.how,
            "why": self.why,
            "nodes": {"before": self.before, "after": self.after},
            "bytes": {"before": self.bytes_before, "after": self.bytes_after},
            "smallest": self.smallest,
            "evaluations": self.evaluations,
            "seconds": round(self.seconds, 3),
            "folder": self.folder,
            "files": list(self.files),
            "text": list(self.text),
            "steps": list(self.steps),
        }
