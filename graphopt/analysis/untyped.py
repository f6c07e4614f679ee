"""Where an operator that ONNX does not know may stand: its inference must do without the types behind it."""

from __future__ import annotations

from graphopt.ir import Graph


def why_not_untyped(scope: Graph) -> str | None:
    """Why ONNX would find fault with the types of a model that gets an operator unknown to it in `scope`, in a clause;
    None where it would not.

    In the main graph it passes over what follows from such an operator, and in bodies that declare what they give. Of a
    function nothing is declared, so that a call has no types, and the first node that asks for them fails.
    """
    while scope.is_body:
        untyped = [one.name for one in scope.outputs if one.dtype is None and one.type == "tensor_type"]
        if untyped:
            return f"the type of {untyped[0]!r}, which the body gives, is not declared, and ONNX could not infer it"
        assert scope.parent is not None, "a body is of a node"
        outer = scope.parent.graph
        if outer is None:
            return None
        scope = outer
    if scope.is_function:
        return "ONNX could not infer what the function gives then; inline-functions before this leaves none"
    return None
