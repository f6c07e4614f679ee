"""unused-functions and unused-opset-imports: what a model declares and does not use."""

from __future__ import annotations

from onnx import ModelProto

from graphopt.pipeline.gate import Limits
from graphopt.testing import apply, model
from passes.eliminate.unused_functions import UnusedFunctions
from passes.eliminate.unused_opset_imports import UnusedOpsetImports

FUNCTIONS = """
    <ir_version: 10, opset_import: ["": 21, "local": 1, "other": 3, "ai.onnx.ml": 4]>
    g (bool c, float[N] x) => (float[N] y) {
        y = If(c)<
            then_branch = t () => (float[N] o) { o = local.outer(x) }, else_branch = e () => (float[N] p) { p = Neg(x) }
        >
    }
    <domain: "local", opset_import: ["": 21, "local": 1, "other": 3]> outer (a) => (b) { b = local.inner(a) }
    <domain: "local", opset_import: ["": 21]> inner (a) => (b) { b = Exp(a) }
    <domain: "local", opset_import: ["": 21, "local": 1]> lonely (a) => (b) { b = local.friend(a) }
    <domain: "local", opset_import: ["": 21]> friend (a) => (b) { b = Abs(a) }
    """


def imports(proto: ModelProto) -> list[str]:
    return [one.domain for one in proto.opset_import]


def test_what_is_called_from_nowhere_goes_with_what_only_it_calls() -> None:
    done = apply(UnusedFunctions(), model(FUNCTIONS))
    assert [one.name for one in done.after.functions] == ["outer", "inner"]
    assert [one.why for one in done.applied] == [
        "nobody calls function local.lonely",
        "nobody calls function local.friend",
    ]
    assert done.applied[0].scope == "function local.lonely"


def test_the_gate_keeps_one() -> None:
    done = apply(UnusedFunctions(), model(FUNCTIONS), gate=Limits(frozenset({("unused-functions", 2)})))
    assert [one.name for one in done.after.functions] == ["outer", "inner", "friend"]


def test_overloads_are_functions_of_their_own() -> None:
    proto = model(FUNCTIONS)
    proto.functions[1].overload = "fast"
    proto.functions[0].node[0].overload = "fast"
    assert [one.name for one in apply(UnusedFunctions(), proto, feeds=()).after.functions] == ["outer", "inner"]
    proto.functions[3].name = "inner"  # the plain one, which nobody calls
    assert [one.overload for one in apply(UnusedFunctions(), proto, feeds=()).after.functions] == ["", "fast"]


def test_imports_of_domains_without_a_node_go() -> None:
    done = apply(UnusedOpsetImports(), model(FUNCTIONS))
    assert imports(done.after) == ["", "local"]
    assert [one.domain for one in done.after.functions[0].opset_import] == ["", "local"]
    assert sorted(one.why for one in done.applied) == ["of ai.onnx.ml", "of other", "of other"]


def test_the_domain_of_a_function_stays_imported() -> None:
    proto = model(FUNCTIONS.replace("local.outer(x)", "Exp(x)"))
    assert "local" in imports(apply(UnusedOpsetImports(), proto).after)


def test_onnx_s_own_operators_stay_imported() -> None:
    proto = model('<ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": 4]> g (float[N] x) => (float[N] x) { }')
    assert imports(apply(UnusedOpsetImports(), proto).after) == [""]


def test_a_domain_that_only_a_body_uses_stays() -> None:
    text = FUNCTIONS.replace("p = Neg(x)", "p = ai.onnx.ml.Scaler<offset = [0.0], scale = [1.0]>(x)")
    done = apply(UnusedOpsetImports(), model(text), feeds=())
    assert imports(done.after) == ["", "local", "ai.onnx.ml"]


def test_an_import_of_a_function_that_does_not_need_it() -> None:
    """The model itself needs it: its functions are defined in that domain."""
    done = apply(UnusedOpsetImports(), model(FUNCTIONS))
    inner = next(one for one in done.after.functions if one.name == "outer")
    assert [one.domain for one in inner.opset_import] == ["", "local"]
    assert "local" in imports(done.after)


def test_a_function_that_holds_nothing() -> None:
    proto = model(FUNCTIONS)
    proto.functions.add(name="empty", domain="local").opset_import.add(domain="", version=21)
    assert [one.name for one in apply(UnusedFunctions(), proto, laws=False).after.functions] == [
        "outer",
        "inner",
        "empty",
    ]
    apply(UnusedOpsetImports(), proto, laws=False)
