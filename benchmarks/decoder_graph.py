"""The graph of a decoder-only language model, node by node as exporters write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.decoder_shape import Shape

Dims = Sequence[int | str]

_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


@dataclass
class _Builder:
    """Nodes and declarations of values, in order."""

    shape: Shape
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    infos: list[onnx.ValueInfoProto] = field(default_factory=list)
    small: list[TensorProto] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    @property
    def float(self) -> int:
        return int(_TYPES[self.shape.dtype])

    def add(
        self, op: str, inputs: Sequence[str], name: str, dims: Dims | None = None, kind: int = 0, **attrs: Any
    ) -> str:
        """One node; its output is called after it, and declared where `dims` are given."""
        output = f"{name}_output_0"
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attrs))
        if dims is not None:
            self.infos.append(helper.make_tensor_value_info(output, kind or self.float, list(dims)))
        return output

    def constant(self, name: str, values: Any, dtype: Any = np.int64) -> str:
        """A small initializer, made once."""
        if name not in self.names:
            self.names.add(name)
            array = np.asarray(values, dtype)
            self.small.append(
                helper.make_tensor(
                    name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, array.tobytes(), raw=True
                )
            )
        return name

    def scalar(self, name: str, value: float) -> str:
        """A scalar of the model's own type."""
        if name not in self.names:
            self.names.add(name)
            self.small.append(helper.make_tensor(name, self.float, (), [value]))
        return name

    def single(self, value: str, name: str) -> str:
        return value if self.shape.dtype == "float32" else self.add("Cast", [value], name, to=TensorProto.FLOAT)

    def own(self, value: str, name: str) -> str:
        return value if self.shape.dtype == "float32" else self.add("Cast", [value], name, to=self.float)


def graph_of(shape: Shape) -> onnx.GraphProto:
    """The graph with its small tensors, without the large ones."""
    b = _Builder(shape)
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["batch_size", d])
        for n, d in (
            ("input_ids", "sequence_length"),
            ("attention_mask", "total_length"),
            ("position_ids", "sequence_length"),
        )
    ]
    cache: Dims = ["batch_size", shape.kv_heads, "past_length", shape.head]
    if shape.past:
        inputs += [
            helper.make_tensor_value_info(f"past_key_values.{i}.{part}", b.float, cache)
            for i in range(shape.layers)
            for part in ("key", "value")
        ]
    x = b.add("Gather", ["model.embed_tokens.weight", "input_ids"], "/model/embed_tokens/Gather", _hidden(shape))
    mask = _mask(b)
    turn = _angles(b)
    outputs = [helper.make_tensor_value_info("logits", b.float, ["batch_size", "sequence_length", shape.vocab])]
    full: Dims = ["batch_size", shape.kv_heads, "total_length", shape.head]
    for layer in range(shape.layers):
        x = _layer(b, layer, x, mask, turn)
        if shape.past:
            outputs += [
                helper.make_tensor_value_info(f"present.{layer}.{part}", b.float, full) for part in ("key", "value")
            ]
    x = _norm(b, "/model/norm", x, "model.norm.weight")
    head = "lm_head.weight"
    if shape.tied:
        head = b.add("Transpose", ["model.embed_tokens.weight"], "/lm_head/Transpose", perm=[1, 0])
    b.nodes.append(helper.make_node("MatMul", [x, head], ["logits"], name="/lm_head/MatMul"))
    return helper.make_graph(b.nodes, "main_graph", inputs, outputs, b.small, value_info=b.infos)


def _hidden(shape: Shape) -> Dims:
    return ["batch_size", "sequence_length", shape.hidden]


def _mask(b: _Builder) -> str:
    """What is added to scores: 0 where a key may be seen, a large negative number where not."""
    stem = "/model/mask"
    axes = [b.constant(f"axes_{one}", [one]) for one in (0, 1, 2)]
    zero, one = b.constant("zero", 0), b.constant("one", 1)
    total = b.add("Gather", [b.add("Shape", ["attention_mask"], f"{stem}/Shape"), one], f"{stem}/Gather", axis=0)
    keys = b.add("Range", [zero, total, one], f"{stem}/Range")
    queries = b.add("Unsqueeze", ["position_ids", b.constant("axis_last", [2])], f"{stem}/Unsqueeze")
    ahead = b.add("LessOrEqual", [keys, queries], f"{stem}/LessOrEqual")
    given = b.add(
        "Unsqueeze",
        [b.add("Cast", ["attention_mask"], f"{stem}/Cast", to=TensorProto.BOOL), axes[1]],
        f"{stem}/Unsqueeze_1",
    )
    seen = b.add("Unsqueeze", [b.add("And", [ahead, given], f"{stem}/And"), axes[1]], f"{stem}/Unsqueeze_2")
    never = -65504.0 if b.shape.dtype == "float16" else -1e30
    return b.add(
        "Where",
        [seen, b.scalar("nothing", 0.0), b.scalar("never", never)],
        f"{stem}/Where",
        ["batch_size", 1, "sequence_length", "total_length"],
    )


def _angles(b: _Builder) -> tuple[str, str]:
    """Cosine and sine of the rotary embedding: [batch, 1, sequence, head]."""
    stem, head = "/model/rotary_emb", b.shape.head
    frequencies = 1.0 / 10000.0 ** (np.arange(0, head, 2) / head)
    inverse = b.constant("model.rotary_emb.inv_freq", frequencies.reshape(1, 1, -1), np.float32)
    at = b.add("Cast", ["position_ids"], f"{stem}/Cast", to=TensorProto.FLOAT)
    angle = b.add(
        "Mul", [b.add("Unsqueeze", [at, b.constant("axis_last", [2])], f"{stem}/Unsqueeze"), inverse], f"{stem}/Mul"
    )
    angle = b.add("Concat", [angle, angle], f"{stem}/Concat", axis=-1)
    found = []
    for op in ("Cos", "Sin"):
        value = b.own(b.add(op, [angle], f"{stem}/{op}"), f"{stem}/{op}_Cast")
        found.append(
            b.add("Unsqueeze", [value, "axes_1"], f"{stem}/{op}_Unsqueeze", ["batch_size", 1, "sequence_length", head])
        )
    return found[0], found[1]


def _norm(b: _Builder, stem: str, x: str, weight: str) -> str:
    """x / sqrt(mean(x^2) + eps) * weight, in float32 as exporters write it for halves."""
    dims = _hidden(b.shape)
    if b.shape.fused:
        return b.add("RMSNormalization", [x, weight], f"{stem}/RMSNormalization", dims, axis=-1, epsilon=1e-5)
    wide = b.single(x, f"{stem}/Cast")
    square = b.add("Pow", [wide, b.constant("two", 2.0, np.float32)], f"{stem}/Pow")
    if b.shape.opset >= 18:
        mean = b.add("ReduceMean", [square, b.constant("axes_last", [-1])], f"{stem}/ReduceMean", keepdims=1)
    else:
        mean = b.add("ReduceMean", [square], f"{stem}/ReduceMean", axes=[-1], keepdims=1)
    root = b.add("Sqrt", [b.add("Add", [mean, b.constant("eps", 1e-5, np.float32)], f"{stem}/Add")], f"{stem}/Sqrt")
    inverse = b.add("Div", [b.constant("unit", 1.0, np.float32), root], f"{stem}/Div")
    scaled = b.own(b.add("Mul", [wide, inverse], f"{stem}/Mul"), f"{stem}/Cast_1")
    return b.add("Mul", [weight, scaled], f"{stem}/Mul_1", dims)


def _layer(b: _Builder, layer: int, x: str, mask: str, turn: tuple[str, str]) -> str:
    stem, names, dims = f"/model/layers.{layer}", f"model.layers.{layer}", _hidden(b.shape)
    seen = _norm(b, f"{stem}/input_layernorm", x, f"{names}.input_layernorm.weight")
    x = b.add("Add", [x, _attention(b, layer, seen, mask, turn)], f"{stem}/Add", dims)
    seen = _norm(b, f"{stem}/post_attention_layernorm", x, f"{names}.post_attention_layernorm.weight")
    wide: Dims = ["batch_size", "sequence_length", b.shape.ffn]
    gate = b.add("MatMul", [seen, f"{names}.mlp.gate_proj.weight"], f"{stem}/mlp/gate_proj/MatMul", wide)
    gate = b.add(
        "Mul", [gate, b.add("Sigmoid", [gate], f"{stem}/mlp/act_fn/Sigmoid", wide)], f"{stem}/mlp/act_fn/Mul", wide
    )
    up = b.add("MatMul", [seen, f"{names}.mlp.up_proj.weight"], f"{stem}/mlp/up_proj/MatMul", wide)
    inner = b.add("Mul", [gate, up], f"{stem}/mlp/Mul", wide)
    down = b.add("MatMul", [inner, f"{names}.mlp.down_proj.weight"], f"{stem}/mlp/down_proj/MatMul", dims)
    return b.add("Add", [x, down], f"{stem}/Add_1", dims)


def _attention(b: _Builder, layer: int, x: str, mask: str, turn: tuple[str, str]) -> str:
    shape, stem, names = b.shape, f"/model/layers.{layer}/self_attn", f"model.layers.{layer}.self_attn"
    parts = {}
    for name, heads in (("q", shape.heads), ("k", shape.kv_heads), ("v", shape.kv_heads)):
        made = b.add(
            "MatMul",
            [x, f"{names}.{name}_proj.weight"],
            f"{stem}/{name}_proj/MatMul",
            ["batch_size", "sequence_length", heads * shape.head],
        )
        split = b.add(
            "Reshape", [made, b.constant(f"split_{heads}", [0, 0, heads, shape.head])], f"{stem}/{name}_Reshape"
        )
        parts[name] = b.add(
            "Transpose",
            [split],
            f"{stem}/{name}_Transpose",
            ["batch_size", heads, "sequence_length", shape.head],
            perm=[0, 2, 1, 3],
        )
    query, key = (_turned(b, f"{stem}/{name}", parts[name], turn) for name in ("q", "k"))
    value = parts["v"]
    if shape.past:
        key, value = (_cached(b, layer, part, one) for part, one in (("key", key), ("value", value)))
    key, value = (_repeated(b, f"{stem}/{part}", one) for part, one in (("key", key), ("value", value)))
    flipped = b.add("Transpose", [key], f"{stem}/Transpose", perm=[0, 1, 3, 2])
    scores = b.add("MatMul", [query, flipped], f"{stem}/MatMul")
    scores = b.add("Mul", [scores, b.scalar("scale", float(shape.head**-0.5))], f"{stem}/Mul")
    shares = b.add(
        "Softmax",
        [b.add("Add", [scores, mask], f"{stem}/Add")],
        f"{stem}/Softmax",
        ["batch_size", shape.heads, "sequence_length", "total_length"],
        axis=-1,
    )
    mixed = b.add(
        "Transpose", [b.add("MatMul", [shares, value], f"{stem}/MatMul_1")], f"{stem}/Transpose_1", perm=[0, 2, 1, 3]
    )
    flat = b.add("Reshape", [mixed, b.constant("merge", [0, 0, shape.hidden])], f"{stem}/Reshape", _hidden(shape))
    return b.add("MatMul", [flat, f"{names}.o_proj.weight"], f"{stem}/o_proj/MatMul", _hidden(shape))


def _turned(b: _Builder, stem: str, x: str, turn: tuple[str, str]) -> str:
    """x * cos + (second half negated, first half) * sin."""
    half, last = b.shape.head // 2, b.constant("axis_3", [3])
    first = b.add("Slice", [x, b.constant("start", [0]), b.constant("half", [half]), last], f"{stem}/Slice")
    second = b.add("Slice", [x, "half", b.constant("end", [2**63 - 1]), last], f"{stem}/Slice_1")
    swapped = b.add("Concat", [b.add("Neg", [second], f"{stem}/Neg"), first], f"{stem}/Concat", axis=-1)
    return b.add(
        "Add",
        [b.add("Mul", [x, turn[0]], f"{stem}/Mul"), b.add("Mul", [swapped, turn[1]], f"{stem}/Mul_1")],
        f"{stem}/Add",
    )


def _cached(b: _Builder, layer: int, part: str, new: str) -> str:
    output = f"present.{layer}.{part}"
    name = f"/model/layers.{layer}/self_attn/Concat_{part}"
    b.nodes.append(helper.make_node("Concat", [f"past_key_values.{layer}.{part}", new], [output], name=name, axis=2))
    return output


def _repeated(b: _Builder, stem: str, x: str) -> str:
    """Each head of keys or values for as many heads of queries as read it."""
    shape = b.shape
    times = shape.heads // shape.kv_heads
    if times == 1:
        return x
    size = b.add("Shape", [x], f"{stem}/Shape")
    batch, length = (
        b.add("Slice", [size, b.constant(f"from_{i}", [i]), b.constant(f"from_{i + 1}", [i + 1])], f"{stem}/Size_{i}")
        for i in (0, 2)
    )
    wide = b.add(
        "Concat",
        [
            batch,
            b.constant("kv", [shape.kv_heads]),
            b.constant("times", [times]),
            length,
            b.constant("head", [shape.head]),
        ],
        f"{stem}/Concat",
        axis=0,
    )
    grown = b.add("Expand", [b.add("Unsqueeze", [x, "axes_2"], f"{stem}/Unsqueeze"), wide], f"{stem}/Expand")
    back = b.add("Concat", [batch, b.constant("heads", [shape.heads]), length, "head"], f"{stem}/Concat_1", axis=0)
    return b.add("Reshape", [grown, back], f"{stem}/Reshape", ["batch_size", shape.heads, "total_length", shape.head])
