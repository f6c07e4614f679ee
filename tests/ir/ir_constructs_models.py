"""Constructs of models, graphs and functions that must survive a round trip."""

from __future__ import annotations

from collections.abc import Callable

import onnx
from ir_models import BOOL, FLOAT, INT64, body, floats, info, model, node, relu, typed
from onnx import AttributeProto, ModelProto, TensorProto, helper

Build = Callable[[], ModelProto]
CONSTRUCTS: dict[str, Build] = {}


def construct(build: Build) -> Build:
    CONSTRUCTS[build.__name__.replace("_", " ")] = build
    return build


@construct
def nothing_special() -> ModelProto:
    return relu()


@construct
def everything_said_about_the_model() -> ModelProto:
    made = relu()
    made.domain, made.model_version, made.doc_string = "org.example", 7, "about the model"
    made.producer_name, made.producer_version = "maker", "1.2"
    helper.set_model_props(made, {"author": "somebody", "": "empty key"})
    return made


@construct
def empty_texts_that_are_present() -> ModelProto:
    made = relu()
    made.producer_name = made.doc_string = made.graph.doc_string = made.graph.node[0].doc_string = ""
    made.graph.node[0].domain = ""
    return made


@construct
def metadata_everywhere() -> ModelProto:
    made = model([node("Add", "x w", "y")], weights=[floats("w")])
    holders = (made.graph, made.graph.node[0], made.graph.input[0], made.graph.output[0], made.graph.initializer[0])
    for index, holder in enumerate(holders):
        holder.doc_string = f"about {index}"
        holder.metadata_props.add(key="scope", value=str(index))
    return made


@construct
def denotations() -> ModelProto:
    made = relu()
    made.graph.input[0].type.denotation = "IMAGE"
    made.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    return made


@construct
def doc_strings_that_are_not_utf8() -> ModelProto:
    made = relu()
    odd = b"caf\xe9"
    made.MergeFromString(b"\x32\x04" + odd)  # ModelProto.doc_string
    made.graph.MergeFromString(b"\x52\x04" + odd)
    made.graph.node[0].MergeFromString(b"\x32\x04" + odd)
    return made


@construct
def fields_that_nobody_knows() -> ModelProto:
    """A newer ONNX may say more: varint, text, fixed64, fixed32 and group fields of high numbers."""
    made = model(
        [node("Odd", "x", "t", domain="f"), node("Relu", "t", "y")], functions=[_function()], value_info=[info("t")]
    )
    later = b"\xa0\x7d\x07" + b"\xaa\x7d\x03new" + b"\xa9\x7d12345678" + b"\xad\x7d1234" + b"\xb3\x7d\x08\x01\xb4\x7d"
    for message in (
        made,
        made.graph,
        made.graph.node[0],
        made.graph.input[0],
        made.graph.value_info[0],
        made.functions[0],
    ):
        message.MergeFromString(later)
    return made


@construct
def value_info_of_every_kind() -> ModelProto:
    made = model(
        [node("Add", "x w", "a"), node("Neg", "a", "b"), node("Abs", "b", "c"), node("Relu", "c", "y")],
        weights=[floats("w")],
        value_info=[info("w"), info("b"), info("nobody"), info("a", shape=()), info("c", TensorProto.UNDEFINED)],
    )
    made.graph.value_info.add(name="x")
    return made


@construct
def dims_of_every_kind() -> ModelProto:
    made = relu()
    for one in (made.graph.input[0], made.graph.output[0]):
        one.CopyFrom(info(one.name, shape=("N", "a + b", None, 3, 0, -1)))
    made.graph.input[0].type.tensor_type.shape.dim[2].dim_param = ""
    return made


@construct
def rank_unknown() -> ModelProto:
    return relu(inputs=[info("x", shape=None)], outputs=[info("y", shape=None)])


@construct
def rank_zero() -> ModelProto:
    return relu(inputs=[info("x", shape=())], outputs=[info("y", shape=())])


@construct
def no_elements() -> ModelProto:
    return relu(inputs=[info("x", shape=(0, 3))], outputs=[info("y", shape=(0, 3))])


@construct
def outputs_without_a_type() -> ModelProto:
    return relu(outputs=[onnx.ValueInfoProto(name="y")])


def _function(overload: str = "", op: str = "Elu") -> onnx.FunctionProto:
    """Odd<alpha, beta = 2>(a) => (b), of domain f."""
    inner = node(op, "a", "t")
    inner.attribute.append(AttributeProto(name="alpha", ref_attr_name="alpha", type=AttributeProto.FLOAT))
    made = helper.make_function(
        "f",
        "Odd",
        ["a"],
        ["b"],
        [inner, node("Relu", "t", "b")],
        [helper.make_opsetid("", 21)],
        attributes=["alpha"],
        attribute_protos=[helper.make_attribute("beta", 2)],
        overload=overload,
    )
    made.doc_string = "a function"
    return made


def _calling(*functions: onnx.FunctionProto) -> ModelProto:
    call = node("Odd", "x", "y", domain="f", alpha=0.1)
    call.overload = functions[0].overload
    return model([call], domains={"f": 3}, functions=functions)


@construct
def function_with_attributes_and_references() -> ModelProto:
    return _calling(_function())


@construct
def function_with_metadata_and_value_info() -> ModelProto:
    function = _function()
    function.metadata_props.add(key="k", value="v")
    function.value_info.extend([info("t"), info("nobody"), info("a", shape=("N",))])
    return _calling(function)


@construct
def function_overloads() -> ModelProto:
    return _calling(_function("one"), _function("two", "LeakyRelu"))


@construct
def function_with_constants_and_a_body() -> ModelProto:
    branch = body("branch", [node("Add", "a c", "r")], [], ["r"])
    nodes = [
        node("Constant", "", "c", value=floats("")),
        node("Constant", "", "k", value=helper.make_tensor("k", BOOL, [], [True])),
        node("If", "k", "b", then_branch=branch, else_branch=branch),
    ]
    function = helper.make_function("f", "Odd", ["a"], ["b"], nodes, [helper.make_opsetid("", 21)])
    return _calling(function)


@construct
def function_that_imports_nothing_of_onnx() -> ModelProto:
    return _calling(helper.make_function("f", "Odd", ["a"], ["b"], [node("G", "a", "b", domain="g")], []))


@construct
def function_whose_attribute_is_a_tensor() -> ModelProto:
    function = _function()
    function.attribute_proto.append(helper.make_attribute("table", floats("table")))
    return _calling(function)


@construct
def domains_custom_and_unused() -> ModelProto:
    return model([node("Foo", "x", "y", domain="my.domain")], domains={"my.domain": 5, "unused": 2})


@construct
def a_domain_that_is_not_imported() -> ModelProto:
    return model([node("Foo", "x", "y", domain="my.domain")])


@construct
def no_import_at_all() -> ModelProto:
    return relu(opset=0)


@construct
def the_other_spelling_of_the_default_domain() -> ModelProto:
    return model([node("Relu", "x", "y", domain="ai.onnx")], opset=0, domains={"ai.onnx": 21})


@construct
def the_default_domain_imported_twice() -> ModelProto:
    return relu(domains={"ai.onnx": 20})


@construct
def an_old_ir_version() -> ModelProto:
    return relu(ir=3)


@construct
def quantization_annotations() -> ModelProto:
    made = model([node("Add", "x w", "t"), node("Relu", "t", "y")], weights=[floats("w"), floats("w_scale", 0.1)])
    for tensor, scale in (("w", "w_scale"), ("t", "nobody"), ("nobody", "w_scale"), ("unread", "w_scale")):
        note = made.graph.quantization_annotation.add(tensor_name=tensor)
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=scale)
    made.graph.input.append(info("unread"))
    return made


@construct
def training_information() -> ModelProto:
    made = relu()
    training = made.training_info.add()
    training.algorithm.CopyFrom(body("step", [node("Neg", "x", "z")], ["x"], ["z"]))
    training.update_binding.add(key="w", value="w2")
    return made


@construct
def device_configurations() -> ModelProto:
    made = relu()
    configuration = made.configuration.add(name="two", num_devices=2)
    configuration.device.extend(["a", "b"])
    device = made.graph.node[0].device_configurations.add(configuration_id="two", pipeline_stage=1)
    device.sharding_spec.add(tensor_name="x").device.extend([0, 1])
    return made


_TENSOR = helper.make_tensor_type_proto(FLOAT, ["N", 3])


@construct
def sequences() -> ModelProto:
    nested = helper.make_sequence_type_proto(helper.make_sequence_type_proto(_TENSOR))
    ins = [typed("s", helper.make_sequence_type_proto(_TENSOR)), typed("n", nested)]
    return model(
        [node("SequenceLength", "s", "y"), node("Identity", "n", "z")], ins, [info("y", INT64, ()), typed("z", nested)]
    )


@construct
def optionals() -> ModelProto:
    ins = [typed("o", helper.make_optional_type_proto(_TENSOR))]
    return model([node("OptionalGetElement", "o", "y")], ins, [typed("y", _TENSOR)])


@construct
def maps() -> ModelProto:
    kind = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    nodes = [
        node("DictVectorizer", "m", "v", domain="ai.onnx.ml", int64_vocabulary=[0, 1]),
        node("ZipMap", "v", "y", domain="ai.onnx.ml", classlabels_int64s=[0, 1]),
    ]
    out = typed("y", helper.make_sequence_type_proto(kind))
    return model(nodes, [typed("m", kind)], [out], domains={"ai.onnx.ml": 3}, value_info=[info("v", shape=(1, 2))])


@construct
def sparse_and_opaque_types() -> ModelProto:
    opaque = onnx.TypeProto(denotation="what")
    opaque.opaque_type.domain, opaque.opaque_type.name = "d", "n"
    ins = [helper.make_sparse_tensor_value_info("s", FLOAT, [4, "N"]), typed("o", opaque)]
    return model([node("Foo", "s o", "y", domain="my")], ins, domains={"my": 1})
