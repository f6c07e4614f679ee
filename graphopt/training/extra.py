"""PyTorch, which only the extra `distill` installs: asked for when training is, never at import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from graphopt.errors import UsageError


def require_torch() -> None:
    """Raise UsageError, with how to get it, where PyTorch is not installed."""
    if find_spec("torch") is None:
        raise UsageError("training needs PyTorch, which is in the extra: pip install 'graphopt[distill]'")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use `count` threads inside the block; 0 leaves the number as it is."""
    require_torch()
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
