"""What names cost in a file: whoever reads or makes a value spells its name out."""

from __future__ import annotations

from graphopt.ir import Tensor


def longer_names(old: Tensor, new: Tensor) -> int:
    """Bytes that names take more once `new` stands for `old`: whoever reads `old` spells out `new`.

    Where `old` is an output of its graph, `new` takes over its name: its readers and its maker spell that out.
    """
    more = len(new.name.encode()) - len(old.name.encode())
    return -more * (len(new.outputs) + len(new.inputs)) if old.graph_outputs else more * len(old.outputs)
