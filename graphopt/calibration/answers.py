"""What passes have worked out from statistics, kept in the folder of the cache, so that a stopped run goes on there.

An answer is named by a hash of the question, of all arrays that it is worked out from, and of the versions of what
computes; what is in a file counts only if it is what was written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from graphopt.analysis.activations import Array
from graphopt.calibration.cache import State, read_state, versions, write_state

_FORMAT: Final = 1  # raised where the same question comes to be answered otherwise
_SUM: Final = "sum of the rest"


def answered(
    folder: Path, question: str, given: Sequence[Array], make: Callable[[], Mapping[str, Array]],
    complain: Callable[[str], None] = lambda _: None,
) -> Mapping[str, Array]:  # fmt: skip
    """What `make` gives, or gave to the same question before, bit for bit; the arrays may be kept and changed.

    `complain` is told in a sentence when the answer cannot be kept.
    """
    digest = hashlib.sha256(repr((_FORMAT, versions(), question)).encode())
    _add(digest, {str(number): array for number, array in enumerate(given)})
    path = folder / f"{digest.hexdigest()}.npz"
    known = read_state(path)
    if known is not None and np.array_equal(known.get(_SUM, ()), _sum(known)):
        return {name: array for name, array in known.items() if name != _SUM}
    made = dict(make())
    try:
        write_state(path, made | {_SUM: _sum(made)})
    except OSError as error:
        complain(f"what was worked out could not be kept in {str(folder)!r} ({os.strerror(error.errno or 0).lower()})")
    return made


def _sum(state: State) -> Array:
    digest = hashlib.sha256()
    _add(digest, {name: array for name, array in state.items() if name != _SUM})
    return np.frombuffer(digest.digest(), np.uint8)


def _add(digest: hashlib._Hash, arrays: State) -> None:
    for name, array in sorted(arrays.items()):
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.dtype.name}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
