"""Which passes of a pipeline run at all: `--only` and `--until`."""

from __future__ import annotations

from graphopt.errors import UsageError
from graphopt.ir import Graph
from graphopt.pipeline.instrument import Instrument, Place
from graphopt.pipeline.pipeline import Pipeline


class Limit(Instrument):
    """Runs only the passes named in `only` (all when empty), and nothing after `until` has run
    once. Raises UsageError for a name that the pipeline does not have."""

    def __init__(self, pipeline: Pipeline, only: tuple[str, ...] = (), until: str | None = None) -> None:
        known = {one.name for one in pipeline.passes()}
        for flag, name in (*(("--only", name) for name in only), ("--until", until)):
            if name is not None and name not in known:
                raise UsageError(f"{flag} {name}: the pipeline has no such pass; it has {', '.join(sorted(known))}")
        self._only = frozenset(only)
        self._until = until
        self._over = False

    def begins(self, graph: Graph) -> None:
        self._over = False

    def should_run(self, place: Place) -> bool:
        name = place.pass_.name
        if self._over or (self._only and name not in self._only):
            return False
        self._over = name == self._until
        return True
