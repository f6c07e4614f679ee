"""Facts about operators that ONNX's schemas do not state, or state slowly."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx
import onnx.defs

# Operators whose result differs between two runs on the same inputs, unless seeded.
_RANDOM = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
)

# Domains whose operators are known to be functions of their inputs, without side effects.
PURE_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview"))


def standard(domain: str | None) -> bool:
    """Whether `domain` is a spelling of ONNX's default domain."""
    return domain in (None, "", "ai.onnx")


@cache
def schema(op: str, domain: str, opset: int) -> onnx.defs.OpSchema | None:
    """ONNX's schema of an operator at an opset version; None when ONNX does not know it."""
    if not onnx.defs.has(op, domain="" if standard(domain) else domain):
        return None
    try:
        return onnx.defs.get_schema(op, max_inclusive_version=opset, domain="" if standard(domain) else domain)
    except onnx.defs.SchemaError:
        return None


@cache
def attribute_type(op: str, domain: str, opset: int, name: str) -> int:
    """The declared AttributeProto type of an operator's attribute; 0 when unknown."""
    known = schema(op, domain, opset)
    if known is None or name not in known.attributes:
        return 0
    declared: Any = known.attributes[name].type
    return int(getattr(declared, "value", declared))


def is_random(op: str, domain: str | None) -> bool:
    """Whether the operator draws random numbers whatever its attributes say."""
    return standard(domain) and op in _RANDOM


def draws_randomness(op: str, domain: str | None, inputs: int, training: object) -> bool:
    """Whether a node draws random numbers: the random operators, and Dropout while training.

    `training` is Dropout's third input where it is known (True, False), None where it is not;
    it only counts when the node has at least three `inputs`.
    """
    if is_random(op, domain):
        return True
    return standard(domain) and op == "Dropout" and inputs >= 3 and training is not False
