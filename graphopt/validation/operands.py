"""What each operand of an operator wants to be fed, where plain random numbers will not do.

One table, from (operator, operand slot) to a `Want`, written from the operator specifications
of ONNX and of com.microsoft. A row says only what keeps a model running and its outputs
meaningful; it is a guess about inputs, never a claim about the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Want:
    """The kind of values an operand wants.

    index     integers below the size of `axis` of operand `data`
    length    integers from 1 to the size of `axis` of operand `data`
    fill      `value` everywhere
    pattern   one of the fixed layouts that `generate` knows by the name `pattern`
    positive  floats above zero
    unit      floats between 0 and 1
    nonzero   integers other than zero
    mask      ones, then zeros along the last axis
    `axis` is a number, the attribute that holds it (with its default), or None for all axes.
    """

    kind: str
    data: int = -1
    axis: int | tuple[str, int] | None = None
    value: float = 0.0
    pattern: str = ""


def _index(data: int, axis: int | tuple[str, int] | None = 0) -> Want:
    return Want("index", data, axis)


def _length(data: int, axis: int | tuple[str, int]) -> Want:
    return Want("length", data, axis)


def _fill(value: float) -> Want:
    return Want("fill", value=value)


def _pattern(name: str, data: int = -1) -> Want:
    return Want("pattern", data, pattern=name)


_POSITIVE: Final = Want("positive")
_UNIT: Final = Want("unit")
_NONZERO: Final = Want("nonzero")
_MASK: Final = Want("mask")
_REDUCTIONS: Final = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")

WANTS: Final[dict[tuple[str, int], Want]] = {
    # tables and what indexes them
    ("Gather", 1): _index(0, ("axis", 0)),
    ("GatherElements", 1): _index(0, ("axis", 0)),
    ("GatherND", 1): _index(0, None),
    ("GatherBlockQuantized", 1): _index(0, ("gather_axis", 0)),
    ("ArrayFeatureExtractor", 1): _index(0, -1),
    ("Scatter", 1): _index(0, ("axis", 0)),
    ("ScatterElements", 1): _index(0, ("axis", 0)),
    ("ScatterND", 1): _index(0, None),
    ("OneHot", 0): Want("index", 1, ("depth", 0)),
    ("EmbedLayerNormalization", 0): _index(2),
    ("EmbedLayerNormalization", 1): _index(4),
    ("EmbedLayerNormalization", 7): _MASK,
    ("EmbedLayerNormalization", 8): _index(3),
    ("QEmbedLayerNormalization", 0): _index(2),
    ("QEmbedLayerNormalization", 1): _index(4),
    ("QEmbedLayerNormalization", 7): _MASK,
    ("NegativeLogLikelihoodLoss", 1): _index(0, 1),
    ("SoftmaxCrossEntropyLoss", 1): _index(0, 1),
    ("RoiAlign", 2): _index(0, 0),
    ("RotaryEmbedding", 1): _index(2),
    ("RotaryEmbedding", 3): _index(1),
    ("SequenceAt", 1): _fill(0),
    ("SequenceErase", 1): _fill(0),
    ("SequenceInsert", 2): _fill(0),
    ("Compress", 1): Want("pattern", pattern="alternate"),
    # lengths
    ("LSTM", 4): _length(0, 0),
    ("GRU", 4): _length(0, 0),
    ("RNN", 4): _length(0, 0),
    ("DynamicQuantizeLSTM", 4): _length(0, 0),
    ("ReverseSequence", 1): _length(0, ("time_axis", 0)),
    ("TopK", 1): _fill(1),
    ("Trilu", 1): _fill(0),
    ("CumSum", 1): _fill(0),
    ("GroupQueryAttention", 5): _pattern("last position"),
    ("GroupQueryAttention", 6): _pattern("total length"),
    # masks
    ("Attention", 3): _MASK,
    ("QAttention", 5): _MASK,
    ("MultiHeadAttention", 4): _MASK,
    ("Where", 0): Want("pattern", pattern="alternate"),
    # shapes, axes, counts
    ("Reshape", 1): _pattern("flatten"),
    ("Expand", 1): _fill(1),
    ("Tile", 1): _pattern("small counts"),
    ("ConstantOfShape", 0): _fill(2),
    ("Range", 0): _fill(0),
    ("Range", 1): _fill(5),
    ("Range", 2): _fill(1),
    ("Slice", 1): _fill(0),
    ("Slice", 2): _pattern("dims", 0),
    ("Slice", 3): _pattern("count up"),
    ("Slice", 4): _fill(1),
    ("Pad", 1): _pattern("pads", 0),
    ("Pad", 3): _pattern("count up"),
    ("Squeeze", 1): _pattern("unit axes", 0),
    ("Unsqueeze", 1): _pattern("count up"),
    ("Split", 1): _pattern("parts", 0),
    ("SplitToSequence", 1): _pattern("parts", 0),
    ("CenterCropPad", 1): _pattern("dims", 0),
    ("Upsample", 1): _fill(1),
    ("Resize", 1): _pattern("corners"),
    ("Resize", 2): _pattern("scales"),
    ("Resize", 3): _pattern("dims", 0),
    ("OneHot", 1): _fill(5),
    ("OneHot", 2): _pattern("count up"),
    ("DFT", 1): _fill(8),
    ("DFT", 2): _fill(1),
    ("STFT", 1): _fill(4),
    ("STFT", 3): _fill(8),
    ("HannWindow", 0): _fill(10),
    ("HammingWindow", 0): _fill(10),
    ("BlackmanWindow", 0): _fill(10),
    ("MelWeightMatrix", 0): _fill(8),
    ("MelWeightMatrix", 1): _fill(16),
    ("MelWeightMatrix", 2): _fill(8192),
    ("MelWeightMatrix", 3): _fill(0),
    ("MelWeightMatrix", 4): _fill(4096),
    ("Loop", 0): _fill(3),
    ("Loop", 1): _fill(1),
    # switches and thresholds
    ("Dropout", 1): _fill(0.5),
    ("Dropout", 2): _fill(0),
    ("Clip", 1): _fill(-1),
    ("Clip", 2): _fill(1),
    ("NonMaxSuppression", 0): _UNIT,
    ("NonMaxSuppression", 1): _UNIT,
    ("NonMaxSuppression", 2): _fill(10),
    ("NonMaxSuppression", 3): _fill(0.5),
    ("NonMaxSuppression", 4): _fill(0),
    # domains
    ("QuantizeLinear", 1): _POSITIVE,
    ("DequantizeLinear", 1): _POSITIVE,
    ("QLinearConv", 1): _POSITIVE,
    ("QLinearConv", 4): _POSITIVE,
    ("QLinearConv", 6): _POSITIVE,
    ("QLinearMatMul", 1): _POSITIVE,
    ("QLinearMatMul", 4): _POSITIVE,
    ("QLinearMatMul", 6): _POSITIVE,
    ("BatchNormalization", 4): _POSITIVE,
    ("Pow", 0): _POSITIVE,
    ("Sqrt", 0): _POSITIVE,
    ("Log", 0): _POSITIVE,
    ("Reciprocal", 0): _POSITIVE,
    ("Div", 1): _NONZERO,
    ("Mod", 1): _NONZERO,
    ("BitShift", 1): _pattern("small counts"),
    ("Acos", 0): _UNIT,
    ("Asin", 0): _UNIT,
    ("Atanh", 0): _UNIT,
    ("Acosh", 0): _fill(2),
    ("Bernoulli", 0): _UNIT,
    **{(f"Reduce{name}", 1): _pattern("count up") for name in _REDUCTIONS},
}

# operators whose output holds the elements of operand 0 (Concat, Where, Max, Min: of any), moved at most
CARRIERS: Final = frozenset(
    {"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice", "Split", "Expand", "Tile"}
    | {"Concat", "Gather", "GatherElements", "Pad", "Where", "Max", "Min", "CastLike", "Clip", "Relu", "Abs"}
    | {"SequenceConstruct", "SequenceInsert", "SequenceAt", "ConcatFromSequence", "ReverseSequence"}
    | {"Optional", "OptionalGetElement"}
)
# the operand slots of carriers that are not data but say how to move it
CONTROLS: Final = frozenset(
    [
        (name, slot)
        for name in ("Reshape", "Unsqueeze", "Squeeze", "Expand", "Tile", "Split", "CastLike")
        for slot in (1,)
    ]
    + [(name, slot) for name in ("Slice", "Pad", "Clip") for slot in (1, 2, 3, 4)]
    + [
        ("Where", 0),
        ("Gather", 1),
        ("GatherElements", 1),
        ("SequenceAt", 1),
        ("SequenceInsert", 2),
        ("ReverseSequence", 1),
    ]
)
COMPARISONS: Final = frozenset(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"))
