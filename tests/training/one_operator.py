"""Models of one operator, computed by a program and by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from graphopt.training.agreement import distance
from graphopt.training.program import Program

Array = np.ndarray[Any, Any]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def model_of(
    op: str,
    given: Sequence[Array | None],
    attrs: Mapping[str, Any],
    opset: int = 21,
    outputs: int = 1,
    domain: str = "",
    constants: Sequence[int] = (),
) -> onnx.ModelProto:
    """One node whose operands are inputs of the model, or initializers where `constants` has their places."""
    names = ["" if one is None else f"x{place}" for place, one in enumerate(given)]
    results = [f"y{place}" for place in range(outputs)]
    node = onnx.helper.make_node(op, names, results, domain=domain, **attrs)
    infos, weights = [], []
    for place, (name, one) in enumerate(zip(names, given, strict=True)):
        if one is None:
            continue
        if place in constants:
            weights.append(onnx.numpy_helper.from_array(one, name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(one.dtype)
            infos.append(onnx.helper.make_tensor_value_info(name, kind, list(one.shape)))
    graph = onnx.helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=name) for name in results], weights)
    imports = [onnx.helper.make_opsetid("", opset)]
    imports += [onnx.helper.make_opsetid(domain, 1)] if domain else []
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10 if opset < 23 else 11)


def agree(op: str, *operands: Any, tolerance: float = 5e-6, **options: Any) -> list[Array]:
    """Assert that a program and onnxruntime give the same outputs, which are returned.

    `opset`, `outputs`, `domain` and `constants` are as in `model_of`; other options are attributes.
    """
    import torch

    from graphopt.training.tensors import to_numpy, to_torch

    given = [None if one is None else np.asarray(one) for one in operands]
    special = {key: options.pop(key) for key in ("opset", "outputs", "domain", "constants") if key in options}
    proto = model_of(op, given, options, **special)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    feeds = {f"x{k}": one for k, one in enumerate(given) if one is not None and k not in special.get("constants", ())}
    expected = ort.InferenceSession(proto.SerializeToString(), settings).run(None, feeds)
    with torch.no_grad():
        made = Program.of(proto)({name: to_torch(one) for name, one in feeds.items()})
    for name, wanted in zip(made, expected, strict=True):
        found = to_numpy(made[name])
        assert found.shape == wanted.shape, f"{op} {options}: shape {found.shape} for {wanted.shape}"
        same = found.dtype == wanted.dtype or wanted.dtype in (np.uint16, np.uint32, np.uint64)  # carried by int64
        assert same, f"{op} {options}: {found.dtype} for {wanted.dtype}"
        error = distance(found, wanted)
        allowed = tolerance if wanted.dtype.kind == "f" else 0.0
        assert error <= allowed, f"{op} {options}: {name} is {error:.2g} away"
    return expected
