"""Streams calibration feeds through the graph as it is now, and through the model as it was read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import onnx

from graphopt.analysis.activations import Observation, Observed, Original
from graphopt.calibration.source import CalibrationData, Feeds
from graphopt.errors import GraphoptError
from graphopt.ir import Constant, Graph, Tensor, encode
from graphopt.ir.store import Store
from graphopt.runtime.client import Options, Session, Worker
from graphopt.runtime.failure import WorkerFailure
from graphopt.storage.wire import join

_MODE = Options(optimize=True, prepack=True, threads=1)


class Observer:
    """See `graphopt.pipeline.protocol.Calibration`."""

    def __init__(self, graph: Graph, worker: Worker, data: CalibrationData) -> None:
        self._graph, self._worker, self._data = graph, worker, data

    @property
    def why_not(self) -> str | None:
        """Why no feeds can be had, in a clause."""
        found = self._feeds()
        return found if isinstance(found, str) else None

    def observe(self, observations: Sequence[Observation]) -> Observed:
        """One run over all feeds for everything asked."""
        answer = Observed()
        feeds = self._feeds()
        if isinstance(feeds, str):
            answer.refused = dict.fromkeys(observations, feeds)
            return answer
        asked = list[Observation]()
        for one in observations:
            why = next((why for value in one.values if (why := self._why_not_seen(value)) is not None), None)
            if why is None:
                asked.append(one)
            else:
                answer.refused[one] = why
        if asked:
            self._stream(asked, feeds, answer)
        return answer

    def _feeds(self) -> Feeds | str:
        try:
            return self._data.feeds()
        except GraphoptError as error:
            return str(error).rstrip(". ")

    def _why_not_seen(self, value: Tensor | Original) -> str | None:
        if isinstance(value, Original):
            known = value.name in self._data.names
            return None if known else f"the model as it was read computes no {value.name!r}"
        if isinstance(value, Constant):
            return "it is a constant"
        makers = [node.graph for node in value.inputs]
        if makers and makers[0] is not self._graph.root:
            return "it is inside a body or a function"
        return None

    def _stream(self, asked: Sequence[Observation], feeds: Feeds, answer: Observed) -> None:
        now = dict.fromkeys(value.name for one in asked for value in one.values if not isinstance(value, Original))
        before = dict.fromkeys(value.name for one in asked for value in one.values if isinstance(value, Original))
        encoded = encode(self._graph.root)
        try:
            with ExitStack() as stack:
                runs = [
                    (self._load(stack, encoded.proto, encoded.store, list(now)), list(now)),
                    (
                        self._load(stack, self._data.original.proto, self._data.original.store, list(before)),
                        list(before),
                    ),
                ]
                for feed in feeds:
                    seen, told = (dict(_run(session, feed, names)) for session, names in runs)
                    for one in asked:
                        one.accumulator.update(
                            *((told if isinstance(value, Original) else seen)[value.name] for value in one.values)
                        )
                    answer.feeds += 1
        except WorkerFailure as failure:
            why = f"the model does not run on the calibration feeds: {str(failure).rstrip('. ')}"
            answer.refused.update(dict.fromkeys(asked, why))

    def _load(self, stack: ExitStack, proto: onnx.ModelProto, store: Store, names: list[str]) -> Session | None:
        if not names:
            return None
        tapped = onnx.ModelProto()
        tapped.CopyFrom(proto)
        known = {each.name for each in tapped.graph.output}
        for name in names:
            if name not in known:
                tapped.graph.output.add(name=name)
        return stack.enter_context(self._worker.load(b"".join(join(tapped, store)), _MODE, label="the model"))


def _run(session: Session | None, feed: Mapping[str, Any], names: list[str]) -> Iterator[tuple[str, Any]]:
    if session is None:
        return
    fed = {port.name for port in (*session.inputs, *session.overridable)}
    inputs = {name: value for name, value in feed.items() if name in fed}
    made = {port.name for port in session.outputs}
    found = session.run(inputs, [name for name in names if name in made])
    for name in names:
        yield name, np.asarray(found[name] if name in made else inputs[name])
