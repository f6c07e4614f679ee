"""One quantizer of another project on one model, in whatever environment this file is run by.

usage: python benchmarks/quantizers.py TOOL MODEL CALIBRATION OUT

TOOL is `PEER:METHOD`, one of `TOOLS`. CALIBRATION is a folder of `.npz` files, one feed each. What the tool writes goes
to OUT; nothing is printed but what the tool prints. Nothing of graphopt is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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

        prepared = preprocessed(model, out)

        def attempt(extra: dict[str, bool]) -> None:
            quantize_static(
                str(prepared),
                str(out),
                Reader(folder),
                quant_format=QuantFormat.QDQ,
                per_channel=per_channel,
                activation_type=QuantType[activations],
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod[method],
                extra_options=extra,
            )

        try:
            attempt({})
        except ValueError:  # its adjustment of weights to their biases fails with some biases, and is an option
            attempt({"QDQDisableWeightAdjustForInt32Bias": True})

    return run


def nbits(bits: int, block: int, algorithm: str = "") -> Callable[[Path, Path, Path], None]:
    """Weights of MatMuls in blocks; `algorithm` names a class of onnxruntime's configurations, its default if empty."""

    def run(model: Path, folder: Path, out: Path) -> None:
        import onnx
        from onnxruntime.quantization import matmul_nbits_quantizer as module

        chosen = getattr(module, algorithm)() if algorithm else None
        quantizer = module.MatMulNBitsQuantizer(
            onnx.load(str(model)), bits=bits, block_size=block, is_symmetric=True, accuracy_level=4, algo_config=chosen
        )
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


def smooth(model: Path, folder: Path, out: Path) -> None:
    """Static quantization with the ranges of activations moved into the weights."""
    import onnx
    from onnx_neural_compressor.quantization import QuantFormat, QuantType, config, quantize

    quantize(
        str(model),
        str(out),
        config.StaticQuantConfig(
            Reader(folder),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"SmoothQuant": True},
        ),
    )
    onnx.save(onnx.load(str(out)), str(out))  # it keeps weights in a file beside it, the others do not


def blocks(algorithm: str) -> Callable[[Path, Path, Path], None]:
    """Weights of MatMuls in 4 bits and blocks of 32 by an algorithm of neural-compressor's ONNX edition."""

    def run(model: Path, folder: Path, out: Path) -> None:
        import onnx
        from onnx_neural_compressor.quantization import matmul_nbits_quantizer as module

        configuration = getattr(module, f"{algorithm}WeightOnlyQuantConfig")
        chosen = configuration() if algorithm == "RTN" else configuration(Reader(folder))
        quantizer = module.MatMulNBitsQuantizer(
            str(model), block_size=32, is_symmetric=True, accuracy_level=4, algo_config=chosen, n_bits=4
        )
        quantizer.process()
        onnx.save(quantizer.model, str(out))

    return run


def shrunk(per_channel: bool) -> Callable[[Path, Path, Path], None]:
    """Weights in 8 bits that are floats again before they are used."""

    def run(model: Path, folder: Path, out: Path) -> None:
        import onnx
        from onnx_shrink_ray.shrink import quantize_weights

        onnx.save(quantize_weights(onnx.load(str(model)), per_channel=per_channel), str(out))

    return run


def halves(model: Path, folder: Path, out: Path) -> None:
    import onnx
    from onnxconverter_common import float16

    onnx.save(float16.convert_float_to_float16(onnx.load(str(model)), keep_io_types=True), str(out))


TOOLS: dict[str, Callable[[Path, Path, Path], None]] = {
    "onnxruntime:dynamic": dynamic,
    **{
        f"onnxruntime:static-{method.lower()}-{activations}s8{'' if per_channel else '-tensor'}": static(
            method, {"u8": "QUInt8", "s8": "QInt8"}[activations], per_channel
        )
        for method in ("MinMax", "Entropy", "Percentile")
        for activations in ("u8", "s8")
        for per_channel in (True, False)
    },
    "onnxruntime:nbits-8": nbits(8, 32),
    "onnxruntime:nbits-4": nbits(4, 32),
    "onnxruntime:nbits-4-kquant": nbits(4, 32, "KQuantWeightOnlyQuantConfig"),
    "nncf:static": nncf_static,
    "nncf:weights": nncf_weights,
    "onnx-neural-compressor:smooth-static": smooth,
    "onnx-neural-compressor:rtn-4": blocks("RTN"),
    "onnx-neural-compressor:gptq-4": blocks("GPTQ"),
    "onnx-neural-compressor:awq-4": blocks("AWQ"),
    "onnx-shrink-ray:weights": shrunk(per_channel=False),
    "onnx-shrink-ray:weights-channel": shrunk(per_channel=True),
    "onnxconverter-common:fp16": halves,
}
"""By contender: the peer whose environment it needs, and how it is asked."""


def main() -> None:
    tool, model, folder, out = sys.argv[1], *map(Path, sys.argv[2:5])
    TOOLS[tool](raised(model, out), folder, out)


if __name__ == "__main__":
    main()
