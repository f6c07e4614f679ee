"""onnxruntime's sessions, inside the worker. The only file that imports onnxruntime."""

from __future__ import annotations

import gc
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from graphopt.runtime.elements import BFLOAT16, STRING, Array, bits_of, element_of, unpack
from graphopt.runtime.options import CPU
from graphopt.runtime.shared import Layout, Parcel
from graphopt.runtime.transport import Message
from graphopt.runtime.values import Description, build, describe, describe_raw

VERSION: Final[str] = ort.__version__
PROVIDERS: Final[list[str]] = ort.get_available_providers()

_FATAL: Final = 4  # onnxruntime's log severity
_SHORTEST: Final = 1e-3
_MOST_REPEATS: Final = 1000
_KERNEL: Final = "_kernel_time"  # how the profiler calls the part of a node that computes

ort.set_default_logger_severity(_FATAL)


class Loaded:
    """One onnxruntime session and what it declares."""

    def __init__(self, path: str | bytes, options: Mapping[str, Any], libraries: list[str], folder: str = "") -> None:
        chosen = session_options(options, libraries)
        model: str | bytes = path
        if folder:  # only a model in bytes may have its external data in another folder than its own
            chosen.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
            model = path if isinstance(path, bytes) else Path(path).read_bytes()
        self._session = ort.InferenceSession(model, chosen, providers=_providers(options), enable_fallback=False)
        self._types = {each.name: str(each.type) for each in self._session.get_outputs()}
        self._foreign = {name for name, text in self._types.items() if (element_of(text) or 0) >= BFLOAT16}

    def ports(self) -> Message:
        """Inputs, outputs and overridable initializers as lists of [name, type, shape]."""
        return {
            "inputs": [_port(each) for each in self._session.get_inputs()],
            "outputs": [_port(each) for each in self._session.get_outputs()],
            "overridable": [_port(each) for each in self._session.get_overridable_initializers()],
        }

    def run(self, feeds: Mapping[str, Description], parcel: Parcel, names: list[str], layout: Layout) -> Message:
        """Run once; the outputs are planned into `layout`, which keeps their memory until written."""
        results = self._call(_feeds(feeds, parcel), names or list(self._types))
        pairs = zip(names, results, strict=bool(names))
        return {name: _describe(result, self._types[name], layout) for name, result in pairs}

    def timer(self, feeds: Mapping[str, Description], parcel: Parcel) -> Callable[[int], float]:
        """A function that runs the session a number of times on `feeds` and returns the seconds per run."""
        ready, names = _feeds(feeds, parcel), list(self._types)
        call = self._call

        def measure(repeat: int) -> float:
            start = time.perf_counter()
            for _ in range(repeat):
                call(ready, names)
            return (time.perf_counter() - start) / repeat

        return measure

    def call(self, feeds: Mapping[str, Any], names: list[str]) -> list[Any]:
        """Run once on arrays, as onnxruntime's Python takes and gives them."""
        return list(self._session.run(names, feeds))

    def _call(self, feeds: Mapping[str, Any], names: list[str]) -> list[Any]:
        """The outputs: as onnxruntime's `run` gives them (which copies no numbers), or as OrtValues.

        OrtValues are the only form in which bfloat16, fp8 and sub-byte tensors come out; strings,
        sequences, maps and optionals go in and out through `run` only. Measured, `run` costs 7 us
        a call and `run_with_ort_values` 37 us.
        """
        if not self._foreign.isdisjoint(names) and all(isinstance(each, ort.OrtValue) for each in feeds.values()):
            return list(self._session.run_with_ort_values(names, feeds))
        try:
            return list(self._session.run(names, feeds))
        except RuntimeError as error:
            if "No corresponding Numpy type" not in str(error):
                raise
            kind = str(error).rsplit(maxsplit=1)[-1]
            raise RuntimeError(
                f"its Python binding cannot return an output of type {kind} from a model that also takes or "
                "gives strings, sequences, maps or optionals; ask for the other outputs alone"
            ) from error


def race(a: Callable[[int], float], b: Callable[[int], float], request: Message) -> Message:
    """Time `a` and `b` in turn, the order changing from round to round, so that drift hits both alike.

    request: `rounds`, `warmup` (rounds not counted, at least one), `budget` (seconds after which
    no further round starts once `least` are done).
    """
    first = [(a(1), b(1)) for _ in range(max(1, request["warmup"]))][-1]
    repeat = min(_MOST_REPEATS, int(_SHORTEST / max(min(first), 1e-9)) + 1)
    times: tuple[list[float], list[float]] = ([], [])
    start = time.perf_counter()
    gc.disable()
    try:
        for number in range(request["rounds"]):
            if number >= request["least"] and time.perf_counter() - start > request["budget"]:
                break
            for turn in (0, 1) if number % 2 == 0 else (1, 0):
                times[turn].append((a, b)[turn](repeat))
    finally:
        gc.enable()
    return {"a": times[0], "b": times[1], "repeat": repeat}


def profile(path: str, options: Mapping[str, Any], libraries: list[str], feeds: Any, parcel: Parcel, runs: int) -> Any:
    """Seconds of each node over `runs` runs after one that is not counted, as [node, op, provider, seconds].

    onnxruntime writes its profile to a file, which is read and removed.
    """
    with tempfile.TemporaryDirectory(prefix="graphopt-profile-") as folder:
        chosen = session_options(options, libraries)
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(path, chosen, providers=_providers(options), enable_fallback=False)
        ready = _feeds(feeds, parcel)
        names = [each.name for each in session.get_outputs()]
        for _ in range(runs + 1):
            session.run(names, ready)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    seconds: dict[tuple[str, str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_KERNEL):
            told = event.get("args", {})
            key = (event["name"].removesuffix(_KERNEL), str(told.get("op_name", "")), str(told.get("provider", "")))
            seconds.setdefault(key, []).append(event["dur"] * 1e-6)
    return [[*key, _per_run(times, runs)] for key, times in seconds.items()]


def convert(path: str, folder: str, libraries: list[str]) -> list[str]:
    """Write a model in onnxruntime's own format to `folder` by its own converter: the names of the model and of the
    list of its operators. Optimizations for the instructions of this CPU are left out."""
    try:
        from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
    except ImportError as error:
        raise RuntimeError(f"its converter needs the package {error.name}: pip install {error.name}") from error
    if len(libraries) > 1:
        raise RuntimeError("its converter takes one library of custom operators, and there are more")
    place = Path(folder)
    library = Path(libraries[0]) if libraries else None
    convert_onnx_models_to_ort(Path(path), place, [OptimizationStyle.Fixed], library, target_platform="arm")
    names = sorted(one.name for one in place.iterdir())
    return [next(one for one in names if one.endswith(end)) for end in (".ort", ".config")]


def _per_run(times: list[float], runs: int) -> float:
    """Of one run: the median where a node ran once in each, else the mean (a body may run it often, or never)."""
    if len(times) == runs + 1:
        return median(times[1:])
    return sum(times) / (runs + 1)


def _providers(options: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys((options["provider"], CPU)))


def try_library(path: str) -> None:
    """Load a library of custom operators; raises what onnxruntime raises, if it does not crash."""
    ort.SessionOptions().register_custom_ops_library(path)


def session_options(options: Mapping[str, Any], libraries: list[str]) -> Any:
    """onnxruntime's SessionOptions for the fields of `Options`, with libraries of custom operators."""
    session = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    session.graph_optimization_level = levels.ORT_ENABLE_ALL if options["optimize"] else levels.ORT_DISABLE_ALL
    session.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    session.intra_op_num_threads = options["threads"]
    session.inter_op_num_threads = 1
    session.enable_cpu_mem_arena = options["arena"]
    session.log_severity_level = _FATAL
    session.use_deterministic_compute = True
    if not options["prepack"]:
        session.add_session_config_entry("session.disable_prepacking", "1")
    if options["threads"] > 1:
        # Threads still spin inside a run; after it they would slow the other session of a race.
        session.add_session_config_entry("session.force_spinning_stop", "1")
    for library in libraries:
        session.register_custom_ops_library(library)
    return session


def _port(port: Any) -> list[Any]:
    shape = [each if isinstance(each, (int, str)) else None for each in port.shape or ()]
    return [port.name, port.type, shape]


def _feeds(descriptions: Mapping[str, Description], parcel: Parcel) -> dict[str, Any]:
    feeds: dict[str, Any] = {}
    for name, description in descriptions.items():
        if description[0] == "tensor":
            feeds[name] = _tensor(description, parcel)
        else:
            feeds[name] = build(description, parcel, unpack_view)
    return feeds


def _tensor(description: Description, parcel: Parcel) -> Any:
    """An OrtValue on the parcel's own memory."""
    _, number, shape, (block, offset, _) = description
    width = max(1, bits_of(number) // 8)
    count = math.prod(shape)
    # The binding takes an array of as many elements, of any dtype as wide, and gives it the type;
    # the sender has reserved a byte an element for the packed ones too.
    raw = parcel.bytes_at([block, offset, count * width])
    codes = raw.view(f"u{width}" if width <= 8 else "c16").reshape(shape)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(codes, number)


def unpack_view(number: int, shape: tuple[int, ...], raw: Array) -> Array:
    """A tensor inside a sequence, as the array that onnxruntime's `run` takes."""
    return unpack(raw, number, shape)


def _describe(result: Any, type_text: str, layout: Layout) -> Description:
    if isinstance(result, np.ndarray):
        # `run` gives one of the fp8 kinds as uint8.
        number = element_of(type_text)
        if number is not None and number != STRING and result.dtype == np.uint8 and bits_of(number) == 8:
            return describe_raw(number, list(result.shape), np.ascontiguousarray(result).reshape(-1), layout)
    if not isinstance(result, ort.OrtValue):
        return describe(result, layout)
    number = result.element_type()
    if number == STRING:
        return describe(result.numpy(), layout)
    size = result.tensor_size_in_bytes()
    # The array keeps `_Held`, which keeps the OrtValue, whose memory this is.
    raw = np.asarray(_Held(result, size)) if size else np.empty(0, np.uint8)
    return describe_raw(number, list(result.shape()), raw, layout)


class _Held:
    """An OrtValue's memory, as numpy's array interface describes it."""

    def __init__(self, value: Any, size: int) -> None:
        self._value = value
        self.__array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (value.data_ptr(), True),
            "version": 3,
        }
