"""How a session is asked for, and what it says about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from graphopt.errors import UsageError
from graphopt.runtime.elements import Array, dtype_of, element_of

# What is fed and returned: a tensor, a sequence, a map, or an absent optional.
Value: TypeAlias = "Array | list[Value] | dict[int, Any] | dict[str, Any] | None"


CPU: Final = "CPUExecutionProvider"


@dataclass(frozen=True)
class Options:
    """How onnxruntime runs a model. Raises UsageError for less than one thread.

    optimize: all of its graph optimizations, or none. prepack: whether kernels may rearrange
    weights at load; off for bit-for-bit comparisons, because a rearranged weight selects other
    kernels. threads: inside one operator; operators always run one after the other, and
    deterministic kernels are asked for.

    arena: keep freed memory for the next run, as onnxruntime does when left alone. Off by
    default: measured, the arena holds up to four times what a run needed until its session is
    closed, reserves it in powers of two (which a memory limit counts), and never gives it back
    when asked to shrink. Timings want it on, since that is what users will run.

    provider: onnxruntime's name of the execution provider; what it does not take, the CPU runs.
    """

    optimize: bool = True
    prepack: bool = True
    threads: int = 1
    arena: bool = False
    provider: str = CPU

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise UsageError(f"onnxruntime needs one thread or more, not {self.threads}.")

    def as_dict(self) -> dict[str, Any]:
        """For the message to the worker."""
        return asdict(self)


@dataclass(frozen=True)
class Port:
    """An input or output of a session, in onnxruntime's words.

    type_text: such as `tensor(float)`, `seq(tensor(int64))`, `map(string,tensor(float))`.
    shape: sizes, names of symbolic dims, None for dims without either. Empty for scalars, for
    an unknown rank (onnxruntime does not tell them apart) and for what is not a tensor.
    """

    name: str
    type_text: str
    shape: tuple[int | str | None, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Of the arrays in it (object for strings); None when the type is not known."""
        element = element_of(self.type_text)
        return None if element is None else dtype_of(element)


@dataclass(frozen=True)
class Timed:
    """What one node of a session took, as onnxruntime's profiler says: a node of the graph that it made of the model.

    seconds: of one run, the median over runs. provider: which execution provider ran it.
    """

    node: str
    op: str
    provider: str
    seconds: float


@dataclass(frozen=True)
class Race:
    """Seconds per run of two sessions, measured in turn: `a[i]` and `b[i]` belong together.

    repeat: how many runs one figure is the mean of, chosen so that a figure spans a millisecond.
    """

    a: tuple[float, ...]
    b: tuple[float, ...]
    repeat: int
