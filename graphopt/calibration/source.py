"""The feeds to calibrate on, and the model as it was read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphopt.storage.source import Source

Feeds = Iterable[Mapping[str, Any]]


@dataclass
class CalibrationData:
    """What a run calibrates with. `make` gives the feeds, gathered when a pass first asks for them.

    It raises GraphoptError where no feeds can be made; passes then get its sentence as the reason.
    """

    make: Callable[[], Feeds]
    original: Source
    _feeds: Feeds | None = field(default=None, repr=False)
    _names: frozenset[str] | None = field(default=None, repr=False)

    @property
    def names(self) -> frozenset[str]:
        """The inputs of the original, and what its nodes make."""
        if self._names is None:
            graph = self.original.proto.graph
            made = (name for node in graph.node if node.op_type != "Constant" for name in node.output)
            self._names = frozenset({*(one.name for one in graph.input), *made} - {""})
        return self._names

    def feeds(self) -> Feeds:
        """The feeds; they can be gone through any number of times."""
        if self._feeds is None:
            self._feeds = self.make()
        return self._feeds
