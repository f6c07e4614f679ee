"""Answers the questions of passes: statistics of the graph as it is now, and of the model as it was read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from graphopt.analysis.activations import Observation, Observed, Original
from graphopt.calibration.source import CalibrationData, Survey
from graphopt.calibration.stream import BOUND, Stream
from graphopt.calibration.tapped import Tapped
from graphopt.errors import GraphoptError
from graphopt.ir import Constant, Graph, Tensor, encode
from graphopt.runtime.client import Worker


class Observer:
    """See `graphopt.pipeline.protocol.Calibration`. `bound` are the bytes of values that are held at a time."""

    def __init__(self, graph: Graph, worker: Worker, data: CalibrationData, bound: int = BOUND) -> None:
        self._graph, self._worker, self._data, self._bound = graph, worker, data, bound

    @property
    def why_not(self) -> str | None:
        """Why no feeds can be had, in a clause."""
        found = self._survey()
        return found if isinstance(found, str) else None

    def observe(self, observations: Sequence[Observation]) -> Observed:
        """One run over all feeds for everything asked."""
        answer = Observed()
        survey = self._survey()
        if isinstance(survey, str):
            answer.refused = dict.fromkeys(observations, survey)
            return answer
        asked = list[Observation]()
        for one in observations:
            why = next((why for value in one.values if (why := self._why_not_seen(value)) is not None), None)
            if why is None:
                asked.append(one)
            else:
                answer.refused[one] = why
        if asked:
            self._stream(asked, survey, answer)
        return answer

    def _survey(self) -> Survey | str:
        try:
            found = self._data.survey()
        except GraphoptError as error:
            return str(error).rstrip(". ")
        return found if found.count else "there are no feeds to calibrate on"

    def _why_not_seen(self, value: Tensor | Original) -> str | None:
        if isinstance(value, Original):
            return None
        if isinstance(value, Constant):
            return "it is a constant"
        makers = [node.graph for node in value.inputs]
        if makers and makers[0] is not self._graph.root:
            return "it is inside a body or a function"
        return None

    def _stream(self, asked: Sequence[Observation], survey: Survey, answer: Observed) -> None:
        old = [isinstance(value, Original) for one in asked for value in one.values]
        with tempfile.TemporaryDirectory(prefix="graphopt-calibration-") as name:
            models = dict[bool, Tapped]()
            if not all(old):
                now = encode(self._graph.root)
                models[False] = Tapped(now.proto, now.store, self._worker, Path(name) / "now")
            if any(old):
                before = self._data.original
                models[True] = Tapped(before.proto, before.store, self._worker, Path(name) / "before")
            stream = Stream(self._data.feeds(), survey.largest, models, self._bound)
            answer.feeds, refused = stream.run(asked)
            answer.refused.update(refused)
