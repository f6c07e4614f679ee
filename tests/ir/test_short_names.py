"""Short names for values: what the signature or an annotation speaks of keeps its own, and nothing is hidden."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, StringStringEntryProto, TensorAnnotation, checker

from graphopt.ir import decode
from graphopt.ir.short_names import shorter
from graphopt.storage.read import from_proto
from graphopt.testing import apply, model
from passes.tidy.strip import Strip

LONG = """<ir_version: 10, opset_import: ["": 21, "local": 1]>
g (bool c, float[3] a) => (float[3] outcome) {
    first_value = Mul(a, the_weight)  second_value = Add(first_value, the_weight)  third_value = local.f(second_value)
    outcome = If(c)<then_branch = t () => (float[3] inner_out) { mid = Exp(third_value)  inner_out = Neg(mid) },
                    else_branch = e () => (float[3] other_out) { other_out = Add(third_value, first_value) }>
}
<domain: "local", opset_import: ["": 21]>
f (given_value) => (given_back) { halfway_there = Neg(given_value)  given_back = Exp(halfway_there) }"""


def stripped(before: ModelProto, **kwargs: bool) -> ModelProto:
    return apply(Strip(docs=False, values=True), before, **kwargs).after


def names(proto: ModelProto) -> list[str]:
    graph = decode((source := from_proto(proto)).proto, source.store)
    return [value.name for scope in graph.scopes() for node in scope.nodes for value in node.outputs]


def test_values_of_every_scope_get_short_names_and_compute_the_same() -> None:
    before = model(LONG, the_weight=np.float32([1, 2, 3]))
    after = stripped(before)
    checker.check_model(after, full_check=True)
    assert len(after.graph.initializer[0].name) == 1
    kept = {"outcome", "inner_out", "other_out", "given_back"}
    assert {one for one in names(after) if len(one) > 1} == kept
    assert [one.name for one in after.graph.input] == ["c", "a"]
    assert list(after.functions[0].input) == ["given_value"]


def test_a_new_name_is_nobody_elses() -> None:
    after = stripped(model(LONG, the_weight=np.float32([1, 2, 3])))
    every = [*names(after), after.graph.initializer[0].name, "c", "a", "given_value"]
    assert len(set(every)) == len(every)


def test_what_is_read_most_often_has_the_shortest_name() -> None:
    chain = "\n".join(f"value_{n} = Add(value_{n - 1}, often_read)" for n in range(1, 40))
    before = model(
        f"g (float[2] value_0) => (float[2] y) {{ {chain} y = Neg(value_39) }}", often_read=np.float32([1, 2])
    )
    found = stripped(before).graph
    assert found.initializer[0].name == "a"
    lengths = [len(one.output[0]) for one in found.node[:-1]]
    assert lengths.count(1) == 25 - 1 and set(lengths) == {1, 2}, "y is the output's"


def test_a_second_time_nothing_is_shorter() -> None:
    after = stripped(model(LONG, the_weight=np.float32([1, 2, 3])))
    source = from_proto(after)
    assert not shorter(decode(source.proto, source.store))


def test_weights_that_can_be_fed_keep_their_names() -> None:
    before = model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[2] x, float[2] fed_weight) => (float[2] y) '
        "{ product = Mul(x, fed_weight)  y = Neg(product) }",
        fed_weight=np.float32([1, 2]),
    )
    after = stripped(before, laws=False)
    assert [one.name for one in after.graph.initializer] == ["fed_weight"]
    assert after.graph.node[0].output[0] == "a"


def test_what_an_annotation_speaks_of_keeps_its_name() -> None:
    before = model("g (float[2] x) => (float[2] y) { product = Neg(x)  other = Exp(product)  y = Neg(other) }")
    note = TensorAnnotation(tensor_name="product")
    note.quant_parameter_tensor_names.append(StringStringEntryProto(key="SCALE_TENSOR", value="a"))
    before.graph.quantization_annotation.append(note)
    after = stripped(before)
    assert after.graph.node[0].output[0] == "product"
    assert after.graph.node[1].output[0] == "b", "a is spoken of"
    assert after.graph.quantization_annotation[0].tensor_name == "product"
