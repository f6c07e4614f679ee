"""Which nodes may draw random numbers: Dropout only where it may be training."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper, numpy_helper

from graphopt.validation.reference import random_operators

GRAPH = """<ir_version: 8, opset_import: ["": 17]> agraph (float[4] x) => (float[4] y) {
    y = Dropout(x, ratio, training) }"""


def dropout(training: np.ndarray | None, constant: bool = False) -> onnx.ModelProto:
    made = onnx.parser.parse_model(GRAPH)
    made.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "ratio"))
    if training is not None and constant:
        value = numpy_helper.from_array(training, "")
        made.graph.node.insert(0, helper.make_node("Constant", [], ["training"], value=value))
    elif training is not None:
        made.graph.initializer.append(numpy_helper.from_array(training, "training"))
    return made


@pytest.mark.parametrize("constant", [False, True], ids=["initializer", "constant"])
@pytest.mark.parametrize("training", [False, True])
def test_what_is_stored_of_training_counts(training: bool, constant: bool) -> None:
    found = random_operators(dropout(np.array(training), constant))
    assert found == (("Dropout 'y'",) if training else ())


def test_a_value_that_callers_may_give_may_be_true() -> None:
    made = dropout(np.array(False))
    made.graph.input.append(helper.make_tensor_value_info("training", onnx.TensorProto.BOOL, []))
    assert random_operators(made) == ("Dropout 'y'",)
    assert random_operators(dropout(None)) == ("Dropout 'y'",)


def test_a_name_means_something_else_in_a_function() -> None:
    made = dropout(np.array(False))
    inner = helper.make_function(
        "local", "F", ["a", "ratio", "training"], ["b"],
        [helper.make_node("Dropout", ["a", "ratio", "training"], ["b"])], [helper.make_opsetid("", 17)],
    )  # fmt: skip
    made.functions.append(inner)
    assert random_operators(made) == ("Dropout 'b'",)
