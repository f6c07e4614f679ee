"""Answers the questions of passes: statistics of the graph as it is now, and of the model as it was read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from graphopt.analysis.activations import Array, Observation, Observed, Original
from graphopt.analysis.shapes import Shapes, infer
from graphopt.calibration.answers import answered
from graphopt.calibration.cache import Cache
from graphopt.calibration.inner import Inner, Scopes, body_of
from graphopt.calibration.source import CalibrationData, Survey
from graphopt.calibration.stream import BOUND, Place, Stream
from graphopt.calibration.tapped import Tapped
from graphopt.errors import GraphoptError
from graphopt.ir import Constant, Graph, Tensor, encode
from graphopt.ir.encode import Encoded
from graphopt.runtime.client import Worker
from graphopt.storage.refused import refusals
from graphopt.storage.scratch import Scratch
from graphopt.storage.source import Source


class Observer:
    """See `graphopt.pipeline.protocol.Calibration`. `bound` are the bytes of values that are held at a time."""

    def __init__(
        self,
        graph: Graph,
        worker: Worker,
        data: CalibrationData,
        shapes: Callable[[Graph], Shapes] = infer,
        bound: int = BOUND,
    ) -> None:
        self._graph, self._worker, self._data, self._shapes, self._bound = graph, worker, data, shapes, bound

    @property
    @refusals()
    def why_not(self) -> str | None:
        """Why no feeds can be had, in a clause."""
        found = self._survey()
        return found if isinstance(found, str) else None

    @refusals()
    def observe(self, observations: Sequence[Observation]) -> Observed:
        """One run over all feeds for everything asked."""
        survey = self._survey()
        answer = Observed(0 if isinstance(survey, str) else survey.count)
        if isinstance(survey, str):
            answer.refused = dict.fromkeys(observations, survey)
            return answer
        now = encode(self._graph.root)  # first: places in it are those of nodes once loose ends are settled
        scopes = Scopes(self._graph.root, self._shapes(self._graph))
        asked: dict[Observation, list[Place]] = {}
        inner: dict[str, Inner] = {}
        for one in observations:
            found = [_place(value, scopes, inner) for value in one.values]
            why = next((place for place in found if isinstance(place, str)), None)
            placed = [place for place in found if not isinstance(place, str)]
            if why is None and len({body_of(name) for _, name in placed} - {""}) > 1:
                why = "its values are in different bodies"
            if why is None:
                asked[one] = placed
            else:
                answer.refused[one] = why
        if asked:
            self._stream(asked, survey, answer, now, inner)
        return answer

    def worked_out(
        self, question: str, given: Sequence[Array], make: Callable[[], Mapping[str, Array]]
    ) -> Mapping[str, Array]:
        """What is made, or was made before and kept in the folder of the cache."""
        if self._data.folder is None:
            return make()
        return answered(self._data.folder, question, given, make, self._complain)

    def _complain(self, said: str) -> None:
        if said not in self._data.notes:
            self._data.notes.append(said)

    def _survey(self) -> Survey | str:
        try:
            found = self._data.survey()
        except GraphoptError as error:
            return str(error).rstrip(". ")
        return found if found.count else "there are no feeds to calibrate on"

    def _stream(
        self,
        asked: dict[Observation, list[Place]],
        survey: Survey,
        answer: Observed,
        now: Encoded,
        inner: dict[str, Inner],
    ) -> None:
        before = self._data.original
        sources = {False: Source(None, now.proto, now.store), True: before}
        used = {place[0] for places in asked.values() for place in places}
        hashes = [sources[old].sha256() if old in used else "" for old in (False, True)]
        cache = Cache([*hashes, survey.sha256], self._data.folder, self._data.notes.append)
        keys = {one: cache.key(one, places) for one, places in asked.items()}
        unknown = {one: places for one, places in asked.items() if not _recalled(cache, one, keys[one])}
        used = {place[0] for places in unknown.values() for place in places}

        def done(one: Observation) -> None:
            key = keys[one]
            if key is not None:
                cache.keep(one, key)

        with Scratch("calibration") as name:
            models = {
                old: Tapped(sources[old].proto, sources[old].store, self._worker, Path(name) / str(old), values)
                for old, values in ((False, inner), (True, {}))
                if old in used
            }
            if models:
                stream = Stream(self._data.feeds(), survey.largest, models, unknown, self._bound)
                answer.refused.update(stream.run(list(unknown), done))


def _recalled(cache: Cache, one: Observation, key: str | None) -> bool:
    return key is not None and cache.recall(one, key)


def _place(value: Tensor | Original, scopes: Scopes, inner: dict[str, Inner]) -> Place | str:
    """Where a value is, or a clause that says why it cannot be seen."""
    if isinstance(value, Original):
        return True, value.name
    if isinstance(value, Constant):
        return "it is a constant"
    found = scopes.of(value)
    if found is None:
        return False, value.name
    inner[found.key] = found
    return False, found.key
