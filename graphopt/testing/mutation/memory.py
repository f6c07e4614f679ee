"""What `apply` has found out before: laws are not checked again on a result that is known to keep them."""

from __future__ import annotations

import functools
import hashlib
import importlib
import pickle
from collections.abc import Collection
from typing import Any

from graphopt.pipeline.gate import Gate
from graphopt.testing.equality import Differences
from graphopt.testing.trial import Made, Trial


def remember() -> None:
    """From now on in this process and its forks. A mutant that leaves the first run of a pass as it was, in its
    result and its remarks, is taken to leave the further runs so too that the laws compare it with."""
    module = importlib.import_module("graphopt.testing.apply")
    check, known = module.check_laws, dict[bytes, Differences]()

    def check_laws(
        trial: Trial, made: Made, changes: Collection[Any] = (), grows: bool = False, gated: Gate | None = None
    ) -> Differences:
        key = _key(trial, made, changes, grows, gated)
        if key not in known:
            known[key] = check(trial, made, changes, grows, gated)
        return known[key]

    for name in ("_drawn", "_invalid"):
        setattr(module, name, functools.lru_cache(maxsize=None)(getattr(module, name).__wrapped__))
    vars(module)["check_laws"] = check_laws


def _key(trial: Trial, made: Made, changes: Collection[Any], grows: bool, gated: Gate | None) -> bytes:
    given = None if trial.feeds is None else [sorted(one.items()) for one in trial.feeds]
    said = [repr(trial.pipeline), repr(made.outcome.remarks), repr(sorted(map(str, changes))), grows, repr(gated)]
    parts = [trial.data, made.data, "\0".join(map(str, said)).encode(), pickle.dumps(given)]
    return hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in parts)).digest()
