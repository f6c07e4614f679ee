"""The rules of all operators whose axes are understood.

A rule looks at one node, joins and bars labels, and gives its outputs axes. It returns None, or a clause
that goes on after the name of the node and says why nothing is known of it; then everything that the
node reads and makes stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphopt.analysis.channels import (
    attention,
    elementwise,
    joining,
    linear,
    moving,
    normalization,
    quantized,
    recurrent,
    reductions,
    sizes,
    sums,
    windows,
)
from graphopt.analysis.channels.flow import Flow
from graphopt.ir import Node

Rule = Callable[[Node, Flow], str | None]

RULES: Mapping[str, Rule] = {
    **attention.RULES,
    **elementwise.RULES,
    **joining.RULES,
    **linear.RULES,
    **moving.RULES,
    **normalization.RULES,
    **quantized.RULES,
    **recurrent.RULES,
    **reductions.RULES,
    **sizes.RULES,
    **sums.RULES,
    **windows.RULES,
}
"""By name of the operator, of ONNX's own domain."""

CONTRIBUTED: Mapping[str, Rule] = attention.CONTRIBUTED
"""By name of the operator, of onnxruntime's domain com.microsoft."""


def rule_of(node: Node, flow: Flow) -> Rule | None:
    """The rule of an operator; None where there is none, or a function of the model has its name."""
    if node.is_standard:
        return RULES.get(node.op)
    is_contributed = node.domain == "com.microsoft" and (node.domain, node.op) not in flow.functions
    return CONTRIBUTED.get(node.op) if is_contributed else None
