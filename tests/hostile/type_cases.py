"""Types that few tools expect: lists, dictionaries, text, sizes that nobody can have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from building import FLOAT, INT64, STRING, node, port, save, whole
from casebook import Family
from onnx import TensorProto, TypeProto, ValueInfoProto, helper

TYPES = Family("type")
case = TYPES.case


def _typed(name: str, kind: TypeProto) -> ValueInfoProto:
    return helper.make_value_info(name, kind)


@case(0, fed=None)
def sequences(folder: Path) -> None:
    """An output that is a list."""
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    save(
        folder,
        whole([node("Neg", ["x"], ["t"]), node("SequenceConstruct", ["x", "t"], ["y"])], outputs=[_typed("y", kind)]),
    )


@case(0, "nothing to change", fed=None)
def optionals(folder: Path) -> None:
    """An input that may be absent."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    nodes = [node("OptionalHasElement", ["x"], ["t"]), node("Not", ["t"], ["y"])]
    save(folder, whole(nodes, inputs=[_typed("x", kind)], outputs=[port("y", (), TensorProto.BOOL)]))


@case(0, "nothing to change", fed=None)
def maps(folder: Path) -> None:
    """An input that is a dictionary."""
    kind = TypeProto()
    kind.map_type.key_type = INT64
    kind.map_type.value_type.CopyFrom(helper.make_tensor_type_proto(FLOAT, None))
    made = node("CastMap", ["x"], ["y"], domain="ai.onnx.ml", cast_to="TO_FLOAT", map_form="DENSE")
    save(folder, whole([made], inputs=[_typed("x", kind)], outputs=[port("y", None)], domains=["ai.onnx.ml"]))


@case(3, "Unrecognized type value case")
def opaque(folder: Path) -> None:
    """An input of which nothing is known but a name."""
    kind = TypeProto()
    kind.denotation = "what"
    save(folder, whole([node("Neg", ["x"], ["y"])], inputs=[_typed("x", kind)]))


@case(0, fed={"x": np.array(["a", "\u00fc"])})
def strings(folder: Path) -> None:
    """Text."""
    nodes = [node("Identity", ["x"], ["t"]), node("Concat", ["t", "k"], ["y"], axis=0)]
    text = helper.make_tensor("k", STRING, (1,), ["\u00e9".encode()])
    save(folder, whole(nodes, [text], inputs=[port("x", (2,), STRING)], outputs=[port("y", (3,), STRING)]))


@case(6, "is not UTF-8")
def text_in_no_encoding(folder: Path) -> None:
    """Text whose bytes are none."""
    text = helper.make_tensor("k", STRING, (1,), [b"\xff\xfe\x80"])
    nodes = [node("Identity", ["x"], ["t"]), node("Concat", ["t", "k"], ["y"], axis=0)]
    save(folder, whole(nodes, [text], inputs=[port("x", (2,), STRING)], outputs=[port("y", (3,), STRING)]))


@case(0, fed={"x": np.float32(2)})
def scalars(folder: Path) -> None:
    """No axis at all."""
    save(folder, whole([node("Neg", ["x"], ["y"])], inputs=[port("x", ())], outputs=[port("y", ())]))


@case(0, fed=None)
def negative_size(folder: Path) -> None:
    """An input that declares minus three rows."""
    save(
        folder,
        whole(
            [node("Identity", ["x"], ["t"]), node("Neg", ["t"], ["y"])],
            inputs=[port("x", (-3, 2))],
            outputs=[port("y", None)],
        ),
    )


@case(6, "is too large to be generated")
def huge_size(folder: Path) -> None:
    """An input that nobody could ever give."""
    ports = [port("x", ((1 << 63) - 1, 1 << 40))]
    save(
        folder,
        whole([node("Identity", ["x"], ["t"]), node("Neg", ["t"], ["y"])], inputs=ports, outputs=[port("y", None)]),
    )


@case(0, fed=None)
def size_that_is_a_program(folder: Path) -> None:
    """Sizes whose names would be formulas to a reader who evaluates them."""
    sizes = ("__import__('os').system('touch pwned')", "9**9**9", "(" * 90 + "n" + ")" * 90, "n//0", "n*" * 60 + "n")
    save(
        folder,
        whole(
            [node("Identity", ["x"], ["t"]), node("Neg", ["t"], ["y"])],
            inputs=[port("x", sizes)],
            outputs=[port("y", None)],
        ),
    )


@case(6, "has 100 axes, more than the (64|32) that can be fed")
def hundred_axes(folder: Path) -> None:
    """An input of a hundred axes, each of a size of its own."""
    sizes = [f"d{i}" for i in range(100)]
    save(
        folder,
        whole(
            [node("Identity", ["x"], ["t"]), node("Neg", ["t"], ["y"])],
            inputs=[port("x", sizes)],
            outputs=[port("y", None)],
        ),
    )
