"""What each runtime computes in integers, and how it wants to be told.

Every scheme says which operators there are integer kernels for, whether they make integers or only read
them, and what codes look like. Sources, as of 2025: onnxruntime's transformer of Q/DQ groups
(QDQSelectorActionTransformer); NVIDIA's "Working with Quantized Types" and explicit quantization of
TensorRT; Intel's "OpenVINO Low Precision Transformations"; onnxruntime's configuration for QNN
(get_qnn_qdq_config) and Qualcomm's list of HTP operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_VIEWS = ("Flatten", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_ONNXRUNTIME_MOVERS = (*_VIEWS, "Concat", "Expand", "Gather", "MaxPool", "Resize", "Split", "Tile")

_QNN_FOLLOWERS = (
    *("Abs", "Clip", "Elu", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Neg", "Relu", "Sigmoid"),
    *(
        "Add",
        "Div",
        "Max",
        "Min",
        "Mul",
        "Pow",
        "PRelu",
        "Softmax",
        "Sqrt",
        "Sub",
        "Tanh",
        "DepthToSpace",
        "SpaceToDepth",
    ),
    *("AveragePool", "GlobalAveragePool", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"),
)

CODES: dict[str, np.dtype[Any]] = {name: np.dtype(name) for name in ("uint8", "int8", "uint16", "int16")}
"""The integers that activations may be."""


@dataclass(frozen=True)
class Scheme:
    """How a runtime takes a quantized model.

    `weighted` multiply by weights, `followers` compute with activations only, `movers` only move elements
    so that one grid serves all of their values. With `outputs`, a quantized operator makes integers;
    otherwise only what it reads is quantized, and the runtime fuses what comes after. With `whole`,
    everything is quantized that can be, worthwhile or not. `ends` are the weighted operators whose result
    may stay floating point. `products` are MatMuls of two activations, `residual_only`
    leaves of an Add all but the operand that does not come from a convolution.
    `channels` are the operators whose weights have one scale for each output channel.
    """

    code: np.dtype[Any]
    symmetric: bool
    weighted: frozenset[str]
    followers: frozenset[str]
    movers: frozenset[str]
    channels: frozenset[str]
    outputs: bool = True
    whole: bool = False
    bias: bool = True
    products: bool = False
    residual_only: bool = False
    ends: frozenset[str] = frozenset({"MatMul", "Gemm"})


_LINEAR = frozenset({"Conv", "MatMul", "Gemm"})
_ALL_LINEAR = _LINEAR | {"ConvTranspose"}

SCHEMES: dict[str, Scheme] = {
    "portable": Scheme(
        code=CODES["uint8"],
        symmetric=False,
        weighted=_LINEAR,
        followers=frozenset({"Add", "Mul", "AveragePool", "GlobalAveragePool"}),
        movers=frozenset(_ONNXRUNTIME_MOVERS),
        channels=_LINEAR,
    ),
    "onnxruntime": Scheme(
        code=CODES["uint8"],
        symmetric=False,
        weighted=_LINEAR,
        followers=frozenset({"Add", "Mul", "AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax"}),
        movers=frozenset(_ONNXRUNTIME_MOVERS),
        channels=_LINEAR,
    ),
    "tensorrt": Scheme(
        code=CODES["int8"],
        symmetric=True,
        weighted=_ALL_LINEAR,
        followers=frozenset({"Add"}),
        movers=frozenset(),
        channels=_ALL_LINEAR,
        outputs=False,
        bias=False,
        products=True,
        residual_only=True,
    ),
    "openvino": Scheme(
        code=CODES["uint8"],
        symmetric=False,
        weighted=_ALL_LINEAR,
        followers=frozenset({"Add", "Mul", "AveragePool", "GlobalAveragePool"}),
        movers=frozenset(),
        channels=_ALL_LINEAR,
        outputs=False,
        bias=False,
        products=True,
    ),
    "qnn": Scheme(
        code=CODES["uint8"],
        symmetric=False,
        weighted=_ALL_LINEAR | {"LayerNormalization", "InstanceNormalization"},
        followers=frozenset(_QNN_FOLLOWERS),
        movers=frozenset(_ONNXRUNTIME_MOVERS) | {"Pad"},
        channels=frozenset({"Conv", "ConvTranspose"}),
        whole=True,
        products=True,
        ends=frozenset(),
    ),
}
"""By the name of the target."""
