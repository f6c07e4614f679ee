"""Decoder-only language models of any size, with weights that are spread as trained ones are.

usage: python -m benchmarks.decoder --bytes 10GB --out FOLDER [--layers 8 --hidden 4096 ...] [--seed 0]

Writes FOLDER/model.onnx and its external data in one file or several. The graph is what exporters write for a model
of the Llama family; the weights are normal with a spread that the fan-in gives, with a few channels that are
many times as large, as trained models have them. Same options, same bytes. At most a few megabytes of weights are in
memory at a time.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.decoder_graph import graph_of
from benchmarks.decoder_shape import Shape, Weight

_BLOCK = 1 << 20  # elements made together
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
_WIDTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
_LAYERS = 6  # at least, where there is a choice
_VOCAB = 128256
_OUTLIERS = 4  # channels in a thousand, at least one
_DTYPES = {"float32": np.dtype(np.float32), "float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def byte_count(text: str) -> int:
    """How many bytes "10GB", "300 MB" or "1.5GiB" are. Raises ValueError."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMG]I?B)?", text.strip().upper())
    if found is None:
        raise ValueError(f"{text!r} is no size such as 10GB")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def shape_of(size: int, **given: Any) -> Shape:
    """A model of about `size` bytes, of the usual proportions where `given` says nothing else."""
    parameters = size // (4 if given.get("dtype", "float32") == "float32" else 2)
    made = [_proportioned(parameters, width, given) for width in ([given["hidden"]] if "hidden" in given else _WIDTHS)]
    return next((one for one in reversed(made) if one.layers >= _LAYERS), made[0])


def _proportioned(parameters: int, hidden: int, given: dict[str, Any]) -> Shape:
    vocab = given.get("vocab", min(32 * hidden, _VOCAB))
    heads = given.get("heads", max(4, hidden // 128))
    kv_heads = given.get("kv_heads", max(1, heads // 4))
    rest = parameters - vocab * hidden * (1 if given.get("tied") else 2)
    attention = 2 * hidden * hidden + 2 * hidden * (hidden // heads * kv_heads)
    layers = given.get("layers", max(1, round(rest / (attention + 3 * hidden * 7 * hidden // 2))))
    ffn = given.get("ffn", max(8, round((rest / layers - attention) / (3 * hidden) / 8) * 8))
    others = {key: value for key, value in given.items() if key in ("dtype", "opset", "past", "tied", "fused")}
    return Shape(layers, hidden, heads, kv_heads, ffn, vocab, **others)


def blocks(weight: Weight, shape: Shape, seed: int, place: int) -> Iterator[np.ndarray[Any, Any]]:
    """The values of the tensor at `place` of the file, some rows at a time, in the model's type."""
    random = np.random.default_rng([seed, place])
    columns = weight.dims[-1]
    loud = _loud(weight, shape, seed)
    if weight.kind == "norm":
        values = 1 + 0.1 * random.standard_normal(columns, np.float32)
        yield np.where(loud, np.float32(4), values).astype(_DTYPES[shape.dtype])
        return
    spread = np.float32(0.02 if weight.kind == "table" else weight.dims[0] ** -0.5)
    rows = max(1, _BLOCK // columns)
    for start in range(0, weight.dims[0], rows):
        count = min(rows, weight.dims[0] - start)
        values = random.standard_normal((count, columns), np.float32) * spread
        if weight.kind == "table":
            values[:, loud] *= 8
        else:
            values[loud[start : start + count]] *= 8
        yield values.astype(_DTYPES[shape.dtype])


def _loud(weight: Weight, shape: Shape, seed: int) -> np.ndarray[Any, Any]:
    """The channels of large magnitude: the same ones in all layers, of the hidden value and of the inner one."""
    size = weight.dims[-1] if weight.kind in ("table", "norm") else weight.dims[0]
    random = np.random.default_rng([seed, 1 << 20, size])
    chosen = np.zeros(size, np.bool_)
    chosen[random.choice(size, max(1, size * _OUTLIERS // 1000), replace=False)] = True
    return chosen


def write(folder: Path, shape: Shape, seed: int = 0, files: int = 1) -> Path:
    """Write the model with its data in so many files: the path of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = graph_of(shape)
    weights = list(shape.weights())
    share = -(-sum(one.elements for one in weights) * shape.itemsize // files)
    place = 0
    for number in range(files):
        name = "model.onnx.data" if files == 1 else f"model.onnx.data-{number + 1:05d}-of-{files:05d}"
        with (folder / name).open("wb") as file:
            while place < len(weights) and (file.tell() < share or number == files - 1):
                one = weights[place]
                size = one.elements * shape.itemsize
                file.write(bytes(-file.tell() % (65536 if size >= 1 << 20 else 4096)))
                graph.initializer.append(_stored(one, shape, name, file.tell(), size))
                for values in blocks(one, shape, seed, place):
                    file.write(values.view(np.uint8).data)
                place += 1
    opsets = [helper.make_opsetid("", shape.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=max(8, helper.find_min_ir_version_for(opsets)))
    model.producer_name = "benchmarks.decoder"
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return path


def _stored(weight: Weight, shape: Shape, file: str, offset: int, size: int) -> TensorProto:
    kind = helper.np_dtype_to_tensor_dtype(_DTYPES[shape.dtype])
    made = TensorProto(name=weight.name, data_type=kind, dims=weight.dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", file), ("offset", offset), ("length", size)):
        made.external_data.add(key=key, value=str(value))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", default="10MB", help="about how large, such as 10GB")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    for name in ("layers", "hidden", "heads", "kv-heads", "ffn", "vocab"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--dtype", choices=tuple(_DTYPES), default="float32")
    parser.add_argument("--opset", type=int, default=17)
    parser.add_argument("--no-past", dest="past", action="store_false", help="without a cache of keys and values")
    parser.add_argument("--tied", action="store_true", help="the head reads the embedding")
    parser.add_argument("--fused", action="store_true", help="RMSNormalization as one operator (opset 23)")
    parser.add_argument("--files", type=int, default=1, help="how many files of external data")
    parser.add_argument("--seed", type=int, default=0)
    arguments = vars(parser.parse_args())
    size, folder, files, seed = (arguments.pop(key) for key in ("bytes", "out", "files", "seed"))
    shape = shape_of(byte_count(size), **{key: value for key, value in arguments.items() if value is not None})
    path = write(folder, shape, seed, files)
    total = sum(one.stat().st_size for one in path.parent.glob("model.onnx*"))
    print(f"{path}: {total / 1e9:.2f} GB, {shape}")


if __name__ == "__main__":
    main()
