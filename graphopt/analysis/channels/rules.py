"""The rules of all operators whose axes are understood.

A rule looks at one node, joins and bars labels, and gives its outputs axes. It returns None, or a clause
that goes on after the name of the node and says why nothing is known of it; then everything that the
node reads and makes stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphopt.analysis.channels import (
    elementwise,
    joining,
    linear,
    moving,
    normalization,
    quantized,
    recurrent,
    reductions,
    sizes,
    windows,
)
from graphopt.analysis.channels.flow import Flow
from graphopt.ir import Node

Rule = Callable[[Node, Flow], str | None]

RULES: Mapping[str, Rule] = {
    **elementwise.RULES,
    **joining.RULES,
    **linear.RULES,
    **moving.RULES,
    **normalization.RULES,
    **quantized.RULES,
    **recurrent.RULES,
    **reductions.RULES,
    **sizes.RULES,
    **windows.RULES,
}
"""By name of the operator, of ONNX's own domain."""
