"""A line on the terminal that says which pass runs; silent where nobody watches."""

from __future__ import annotations

import sys
from typing import Any

from graphopt.ir import Graph
from graphopt.pipeline.instrument import Instrument, Place


class Progress(Instrument):
    """Shows the running pass on standard error, only while that is a terminal."""

    def __init__(self) -> None:
        self._status: Any = None
        self._shown = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Show what is going on outside of passes, such as validation."""
        if not self._shown:
            return
        if self._status is None:
            from rich.console import Console

            self._status = Console(stderr=True).status(text)
            self._status.start()
        else:
            self._status.update(text)

    def before_pass(self, place: Place, graph: Graph) -> None:
        round_ = f", round {place.round}" if place.round > 1 else ""
        self.say(f"running {place.pass_.name}{round_}")

    def stop(self) -> None:
        """Clear the line."""
        if self._status is not None:
            self._status.stop()
            self._status = None
