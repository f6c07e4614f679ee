"""What each node of a session takes, by onnxruntime's own profiler in the worker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphopt.runtime.options import Timed
from graphopt.runtime.session import Session
from graphopt.runtime.shared import Layout


def profile(session: Session, feeds: Mapping[str, Any], runs: int) -> list[Timed]:
    """What each node takes, of a model that was loaded from a file, over `runs` runs on `feeds`.

    The nodes are those of the graph that onnxruntime makes of the model. It is loaded once more, with the options
    of `session`. Errors as of `Session.run`.
    """
    worker = session.worker
    with worker.lock:
        session.ensure()
        layout = Layout()
        request = {
            "do": "profile",
            "path": str(session.model),
            "options": session.options.as_dict(),
            "feeds": session.described(feeds, layout),
            "runs": runs,
        }
        rows, _ = worker.request(request, layout, f"profiling {session.label}")
    return [Timed(*row) for row in rows]
