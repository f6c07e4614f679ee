"""Every operator that is known: one table, put together from the families' own."""

from __future__ import annotations

from graphopt.training.call import Call, Maker, Operators
from graphopt.training.operators import (
    activation,
    arithmetic,
    attention,
    contrib,
    control,
    convolution,
    fused_attention,
    indexing,
    linear,
    logical,
    movement,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    sampling,
    sequences,
    shaping,
)

STANDARD: Operators = {
    **activation.OPERATORS,
    **arithmetic.OPERATORS,
    **attention.OPERATORS,
    **control.OPERATORS,
    **convolution.OPERATORS,
    **indexing.OPERATORS,
    **linear.OPERATORS,
    **logical.OPERATORS,
    **movement.OPERATORS,
    **normalization.OPERATORS,
    **pooling.OPERATORS,
    **quantization.OPERATORS,
    **recurrent.OPERATORS,
    **reduction.OPERATORS,
    **resize.OPERATORS,
    **sampling.OPERATORS,
    **sequences.OPERATORS,
    **shaping.OPERATORS,
}

_QUANTIZATION = {op: quantization.OPERATORS[op] for op in ("QuantizeLinear", "DequantizeLinear")}

CONTRIB: Operators = {
    **fused_attention.OPERATORS,
    **contrib.OPERATORS,
    **recurrent.CONTRIB,
    **{op: [(1, maker) for _, maker in versions] for op, versions in _QUANTIZATION.items()},
}

DOMAINS: dict[str, Operators] = {"": STANDARD, "ai.onnx": STANDARD, "com.microsoft": CONTRIB}


def known(domain: str, op: str) -> bool:
    """Whether there is a function for the operator in any version."""
    return op in DOMAINS.get(domain, {})


def maker_of(call: Call) -> Maker:
    """What makes the function of a call. Raises Unsupported, naming the operator, where nothing does."""
    versions = DOMAINS.get(call.domain, {}).get(call.op)
    if versions is None:
        raise call.refuse("there is no torch function for it")
    right = [maker for since, maker in versions if since <= call.version]
    if not right:
        raise call.refuse(f"version {call.version} of it is too old, opset{{to={versions[0][0]}}} helps")
    return right[-1]
