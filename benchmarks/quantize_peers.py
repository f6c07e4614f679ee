"""One quantizer of another project on one model, in whatever environment this file is run by.

usage: python benchmarks/quantize_peers.py TOOL MODEL CALIBRATION OUT

CALIBRATION is a folder of `.npz` files, one feed each. Prints the versions that were used and the CPU
seconds that it took as a line of JSON. Nothing of graphopt is imported.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Feed = dict[str, Any]


def feeds(folder: Path) -> Iterator[Feed]:
    """The calibration feeds, in order."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as archive:
            yield {name: archive[name] for name in archive.files}


class Reader:
    """The feeds as onnxruntime's calibrators want them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rewind()

    def rewind(self) -> None:
        self._left = feeds(self.folder)

    def get_next(self) -> Feed | None:
        return next(self._left, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Not used without strides."""


def raised(model: Path, out: Path) -> Path:
    """The model at opset 17 where it is below 13, which scales for each channel need; as it is where that fails."""
    import onnx
    from onnx import version_converter

    loaded = onnx.load(str(model))
    if next((one.version for one in loaded.opset_import if one.domain in ("", "ai.onnx")), 13) >= 13:
        return model
    target = out.with_suffix(".raised.onnx")
    try:
        onnx.save(version_converter.convert_version(loaded, 17), str(target))
    except Exception:  # noqa: BLE001  ONNX's version converter does not take every model
        return model
    return target


def preprocessed(model: Path, out: Path) -> Path:
    """The model as onnxruntime's guide prepares it: shapes inferred, optimized; as it is where that fails."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = out.with_suffix(".prepared.onnx")
    try:
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=False)
    except Exception:  # noqa: BLE001  its symbolic shape inference does not take every model
        try:
            quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
        except Exception:  # noqa: BLE001
            return model
    return prepared


def dynamic(model: Path, folder: Path, out: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(preprocessed(model, out)), str(out), per_channel=True, weight_type=QuantType.QInt8)


def static(method: str, activations: str, per_channel: bool = True) -> Callable[[Path, Path, Path], None]:
    def run(model: Path, folder: Path, out: Path) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        quantize_static(
            str(preprocessed(model, out)),
            str(out),
            Reader(folder),  # type: ignore[arg-type]
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            activation_type=QuantType[activations],
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod[method],
        )

    return run


def nbits(bits: int, block: int) -> Callable[[Path, Path, Path], None]:
    def run(model: Path, folder: Path, out: Path) -> None:
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        loaded = onnx.load(str(model))
        quantizer = MatMulNBitsQuantizer(loaded, bits=bits, block_size=block, is_symmetric=True, accuracy_level=4)
        quantizer.process()
        quantizer.model.save_model_to_file(str(out), False)

    return run


def nncf_static(model: Path, folder: Path, out: Path) -> None:
    import nncf
    import onnx

    loaded = onnx.load(str(model))
    kind = nncf.ModelType.TRANSFORMER if any(node.op_type == "Softmax" for node in loaded.graph.node) else None
    every = list(feeds(folder))
    made = nncf.quantize(loaded, nncf.Dataset(every), subset_size=len(every), model_type=kind)
    onnx.save(made, str(out))


def nncf_weights(model: Path, folder: Path, out: Path) -> None:
    import nncf
    import onnx

    onnx.save(nncf.compress_weights(onnx.load(str(model)), mode=nncf.CompressWeightsMode.INT8_SYM), str(out))


TOOLS: dict[str, Callable[[Path, Path, Path], None]] = {
    "ort-dynamic": dynamic,
    "ort-static-minmax-u8s8": static("MinMax", "QUInt8"),
    "ort-static-minmax-u8s8-tensor": static("MinMax", "QUInt8", per_channel=False),
    "ort-static-entropy-u8s8": static("Entropy", "QUInt8"),
    "ort-static-percentile-u8s8": static("Percentile", "QUInt8"),
    "ort-static-minmax-s8s8": static("MinMax", "QInt8"),
    "ort-nbits-8": nbits(8, 32),
    "ort-nbits-4": nbits(4, 32),
    "nncf-static": nncf_static,
    "nncf-weights": nncf_weights,
}


def main() -> None:
    tool, model, folder, out = sys.argv[1], *map(Path, sys.argv[2:5])
    start = time.process_time()
    TOOLS[tool](raised(model, out), folder, out)
    spent = time.process_time() - start
    used = {}
    for name in ("onnxruntime", "onnx", "nncf"):
        try:
            used[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    print(json.dumps({"cpu": spent, "versions": used}))


if __name__ == "__main__":
    main()
