"""What a search takes for granted of a kind of target: `--for mobile`, `edge`, `server-cpu`, `gpu`.

A preset sets what the user did not say: what the result is for, what is made small, and which passes cannot help
there. All that it assumes is in sentences, which go into the report: nothing here has seen the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from graphopt.errors import UsageError
from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.pipeline import Pipeline

_HERE: Final = (
    "Latency is measured on the CPU of this machine, not on the target: carry the front over and measure it there with "
    "graphopt bench."
)
_PROXY: Final = (
    "The energy proxy counts multiply-accumulates by dtype and bytes moved, at the prices of one well-known chip: it "
    "ranks models, it measures nothing."
)


@dataclass(frozen=True)
class Preset:
    """What a search takes for granted.

    name: as `--for` takes it. summary: in a clause, for lists. target: the runtime, as `--target` takes it. minimize:
    size, latency or energy-proxy. compressed: whether the size is that of the packed file. ort: whether the chosen
    model is written in onnxruntime's own format, too. close: by which part of what is minimized models count as equal,
    so that the fastest of them is taken. without: patterns of passes that cannot help there. assumptions:
    sentences for the report.
    """

    name: str
    summary: str
    target: str
    minimize: str
    assumptions: tuple[str, ...]
    compressed: bool = False
    ort: bool = False
    close: float = 0.0
    without: tuple[str, ...] = ()

    def takes(self, pipeline: Pipeline) -> bool:
        """Whether every pass of a pipeline makes sense there."""
        return not any(fnmatchcase(one.name, pattern) for one in pipeline.passes() for pattern in self.without)


_RECENT: Final = ("weight-int2", "weight-fp8", "weight-mx")  # in operators and types that few runtimes have yet

PRESETS: Final = (
    Preset(
        "mobile",
        "small to download, for onnxruntime's mobile and reduced builds on ARM",
        target="portable",
        minimize="size",
        compressed=True,
        ort=True,
        without=("ort-*", "half-precision", *_RECENT),
        assumptions=(
            "The model is delivered in a package that is compressed, so compressed bytes count as its size.",
            "It runs in onnxruntime on the ARM CPU of a phone, from the .ort file that is written beside the model; a "
            "build with no more than the operators of its .required_operators.config file is enough.",
            "The .ort file is what onnxruntime's converter makes for ARM: its optimizations are in it for good, those "
            "for x86 alone are not. For NNAPI or Core ML, which take nodes as ONNX has them, give them the ONNX file.",
            "Integers are standard ONNX (QuantizeLinear, DequantizeLinear), which XNNPACK and NPUs take too; nothing "
            "is computed in float16, for which onnxruntime's CPU has few kernels.",
            _HERE,
        ),
    ),
    Preset(
        "edge",
        "small in memory, for the CPU of a single-board computer",
        target="onnxruntime",
        minimize="size",
        close=0.01,
        without=("half-precision", *_RECENT),
        assumptions=(
            "A full build of onnxruntime runs the model on a CPU with little memory, so operators that only it has may "
            "be used, and the bytes of the file, which are read and held, count as they are.",
            "Of models whose bytes differ by 1 % at most, the one that is surely faster is taken, as measured here.",
            _HERE,
        ),
    ),
    Preset(
        "server-cpu",
        "fast on an x86 server",
        target="onnxruntime",
        minimize="latency",
        without=("half-precision", *_RECENT),
        assumptions=(
            "A full build of onnxruntime runs the model on a CPU of the same kind as this machine's: which integer "
            "kernels pay depends on it (VNNI or not), so run the search on such a machine.",
            "Latency is of one run with the shapes of the first feed, on one thread, as the median of ratios to the "
            "original in alternating pairs. Throughput of many threads or larger batches may rank otherwise.",
        ),
    ),
    Preset(
        "gpu",
        "for TensorRT: 16-bit floats, static 8-bit integers, 4-bit weights",
        target="tensorrt",
        minimize="energy-proxy",
        without=(
            "dynamic-int8", "ort-*", "weight-codebook", "weight-fixed-point", "weight-int16", "packed-tables",
            "integer-hard-swish", "weight-int2", "weight-mx",
        ),
        assumptions=(
            "TensorRT runs the model on a GPU with 16-bit and 8-bit tensor cores. Integers are explicit, as it wants "
            "them: symmetric, with zero points of 0, only where operators with weights read them; the scales of "
            "activations come from calibration, never from the run itself.",
            "No GPU is measured. What is made small is the energy proxy, in which fewer bits of arithmetic and fewer "
            "bytes cost less, as on a GPU; build the front's engines and time them there.",
            _PROXY,
            "Outputs are validated with onnxruntime on the CPU, which computes the same graph: TensorRT rounds "
            "elsewhere, so validate its engine too.",
        ),
    ),
)  # fmt: skip

NAMES: Final = tuple(one.name for one in PRESETS)
"""What `--for` takes."""


def preset(name: str) -> Preset:
    """The preset of that name. Raises UsageError where there is none."""
    for one in PRESETS:
        if one.name == name:
            return one
    known = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"
    raise UsageError(f"--for expects {known}, not {name!r}{did_you_mean(name, NAMES)}")
