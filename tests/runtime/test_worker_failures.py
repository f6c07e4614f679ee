"""What can go wrong in onnxruntime is a `WorkerFailure` with a sentence, and the worker works again."""

from __future__ import annotations

import os
import pickle
import platform
import signal
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from little_models import DOUBLE, ENDLESS, EXPAND, RESHAPE, one_node, parsed, tensor
from onnx import ModelProto, helper, numpy_helper

from graphopt.runtime.client import Options, Session, Worker, WorkerFailure
from graphopt.runtime.failure import clean, shorten

X = np.ones(4, np.float32)
ONE = np.float32(1)


@pytest.fixture
def brief() -> Iterator[Worker]:
    """A worker with a clock of two seconds and a gigabyte for models."""
    with Worker(seconds=2, memory=1 << 30) as worker:
        yield worker


def works(session: Session) -> bool:
    return bool(np.array_equal(session.run({"x": X})["y"], 2 * X))  # type: ignore[arg-type]


@contextmanager
def killed_when_busy(worker: Worker, number: int) -> Iterator[None]:
    """Send a signal to the worker as soon as it uses the processor in earnest."""

    def wait_and_kill() -> None:
        pid = worker.pid
        assert pid is not None
        before = processor_ticks(pid)
        while processor_ticks(pid) < before + 5:
            time.sleep(0.005)
        os.kill(pid, number)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def processor_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (b"hello world", r"onnxruntime cannot load the model: Protobuf parsing failed\."),
        (b"", r"onnxruntime cannot load the model: .* graph.*\."),
        ("/no/such/model.onnx", r"onnxruntime cannot load 'model\.onnx': .*File doesn't exist\."),
        ("/usr", r"onnxruntime cannot load 'usr': Protobuf parsing failed\."),
        (
            one_node(helper.make_node("Nope", ["x"], ["y"]), [tensor("x", 1)], [tensor("y", 1)]),
            r"onnxruntime cannot load the model: .*No Op registered for Nope.*\.",
        ),
    ],
    ids=["not a model", "empty", "missing", "a folder", "unknown operator"],
)
def test_rejected(worker: Worker, model: bytes | str, sentence: str) -> None:
    with pytest.raises(WorkerFailure, match=f"^{sentence}$") as no:
        worker.load(model)
    assert no.value.kind == "rejected"
    assert no.value.exit_code == 6
    assert works(worker.load(DOUBLE))


def test_a_label_names_the_model(worker: Worker) -> None:
    with pytest.raises(WorkerFailure, match=r"^onnxruntime cannot load the result\\x1b: .* graph"):
        worker.load(b"", label="the\nresult\x1b")


def test_failing_run(worker: Worker) -> None:
    session, other = worker.load(RESHAPE, label="the original"), worker.load(DOUBLE)
    pid = worker.pid
    with pytest.raises(WorkerFailure) as no:
        session.run({"x": np.ones(6, np.float32), "s": np.array([4])})
    assert no.value.kind == "failed"
    sentence = str(no.value)
    assert sentence.startswith("onnxruntime failed while running the original: Reshape node 'first/reshape': input_")
    assert sentence.endswith("cannot be reshaped to the requested shape. Input shape:{6}, requested shape:{4}.")
    with pytest.raises(WorkerFailure, match=r"Invalid rank for input: x Got: 2 Expected: 1"):
        session.run({"x": np.ones((6, 1), np.float32), "s": np.array([6])})
    assert worker.pid == pid  # nothing died of it
    assert works(other)


def test_crash(worker: Worker) -> None:
    session, endless = worker.load(DOUBLE), worker.load(ENDLESS)
    for number, sentence in (
        (signal.SIGKILL, r"the worker was killed from outside while running the model\."),
        (signal.SIGSEGV, r"the worker died of a segmentation fault while running the model\."),
    ):
        pid = worker.pid
        with killed_when_busy(worker, number), pytest.raises(WorkerFailure, match=f"^{sentence}$") as no:
            endless.run({"x": ONE})
        assert no.value.kind == "crash"
        assert works(session)  # loaded again without being asked to
        assert worker.pid not in (None, pid)
        endless.ensure()


def test_death_between_two_runs_is_not_even_noticed(worker: Worker) -> None:
    session = worker.load(DOUBLE)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    assert works(session)
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    session.close()


def test_without_a_clock() -> None:
    with Worker(seconds=float("inf")) as worker:
        assert works(worker.load(DOUBLE))


def test_hang(brief: Worker) -> None:
    session, endless = brief.load(DOUBLE), brief.load(ENDLESS)
    pid = brief.pid
    assert pid is not None
    brief.seconds = 0.5
    start = time.monotonic()
    with pytest.raises(
        WorkerFailure, match=r"^onnxruntime gave no answer within 0\.5 s while running the model; "
    ) as no:
        endless.run({"x": ONE})
    assert no.value.kind == "hang"
    assert time.monotonic() - start < 2
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    brief.seconds = 2
    assert works(session)


def test_out_of_memory_in_a_run(brief: Worker) -> None:
    session, expand = brief.load(DOUBLE), brief.load(EXPAND)
    for count in (10**9, 10**12, 10**18):
        with pytest.raises(WorkerFailure, match=r"^out of memory while running .* \(limit: 1\.07 GB\): Expand") as no:
            expand.run({"n": np.array([count])})
        assert no.value.kind == "memory"
    assert expand.run({"n": np.array([10])})["y"] == 1
    assert works(session)
    # An arena that was asked for too much takes all there is at the next run, and starves the others.
    kept = brief.load(EXPAND, Options(arena=True))
    with pytest.raises(WorkerFailure, match=r"^out of memory"):
        kept.run({"n": np.array([10**18])})
    assert kept.run({"n": np.array([1000])})["y"] == 1
    assert expand.run({"n": np.array([50_000_000])})["y"] == 1


def test_out_of_memory_for_outputs_and_inputs(brief: Worker) -> None:
    text = "g (int64[1] n) => (float[N] y) { one = Constant <value_float = 1.0> () y = Expand (one, n) }"
    session, double = brief.load(parsed(text)), brief.load(DOUBLE)
    with pytest.raises(WorkerFailure, match="outputs of 600000000 bytes do not fit under the limit") as no:
        session.run({"n": np.array([150_000_000])})
    assert no.value.kind == "memory"
    huge = np.broadcast_to(ONE, (300_000_000,))
    with pytest.raises(WorkerFailure, match=r"^out of memory while running the model .*1\.2 GB are to be passed") as no:
        double.run({"x": huge})
    assert no.value.kind == "memory"
    assert works(double)


def test_memory_goes_back_after_a_run(brief: Worker) -> None:
    expand = brief.load(EXPAND)
    expand.run({"n": np.array([1])})
    assert brief.pid is not None
    before = resident(brief.pid)
    expand.run({"n": np.array([100_000_000])})
    assert resident(brief.pid) - before < 40 << 20
    peak = brief.peak_memory()
    assert peak is not None
    assert peak > 400_000_000


def test_memory_goes_back_when_a_session_is_closed(worker: Worker) -> None:
    # Blocks too small to be mapped each on its own stay in the heap when they are freed.
    model = ModelProto.FromString(DOUBLE)
    weight = np.ones(25_000, np.float32)
    for number in range(400):
        model.graph.initializer.append(numpy_helper.from_array(weight, f"w{number}"))
        model.graph.node.append(helper.make_node("Add", [f"w{number}", "x"], [f"v{number}"]))
        model.graph.output.append(helper.make_tensor_value_info(f"v{number}", 1, None))
    worker.close()
    worker.ready()
    assert worker.pid is not None
    before = resident(worker.pid)
    session = worker.load(model.SerializeToString(), Options(optimize=False))
    assert resident(worker.pid) - before > 40_000_000
    session.close()
    assert resident(worker.pid) - before < 15_000_000


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_file_that_changed_since_it_was_loaded(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(DOUBLE)
    session = worker.load(path)
    path.write_bytes(RESHAPE)
    worker.close()
    with pytest.raises(WorkerFailure, match=r"^'m\.onnx' has changed since it was first loaded; load it anew\.$"):
        session.run({"x": X})


def test_failures_survive_pickling(worker: Worker) -> None:
    with pytest.raises(WorkerFailure) as no:
        worker.load(b"")
    copy: Any = pickle.loads(pickle.dumps(no.value))
    assert (copy.kind, str(copy)) == ("rejected", str(no.value))


def test_custom_operator_library_that_is_none(tmp_path: Path) -> None:
    library = tmp_path / "ops.so"
    library.write_text("not a library")
    with Worker(custom_ops=[library]) as worker, pytest.raises(WorkerFailure, match="file too short") as no:
        worker.load(DOUBLE)
    assert no.value.kind == "rejected"
    assert str(no.value).startswith(f"onnxruntime cannot load the custom operator library '{library}': ")


def test_custom_operator_library_that_crashes(tmp_path: Path) -> None:
    machine = platform.machine()
    if machine not in TRAPS:
        pytest.skip(f"no illegal instruction is known here for {machine}")
    library = tmp_path / "ops.so"
    library.write_bytes(library_that_traps(*TRAPS[machine]))
    with Worker(custom_ops=[library]) as worker:
        for _ in range(2):
            with pytest.raises(
                WorkerFailure, match=r"^the worker died of an illegal instruction while loading the"
            ) as no:
                worker.load(DOUBLE)
            assert no.value.kind == "crash"
            assert str(library) in str(no.value)


TRAPS = {"x86_64": (62, b"\x0f\x0b"), "aarch64": (183, b"\0\0\0\0")}  # e_machine, an undefined instruction


def library_that_traps(machine: int, code: bytes) -> bytes:
    """A 64-bit ELF shared object whose initializer (DT_INIT) is `code`."""
    header, entry, tags, tables = 64, 56, 7, 64 + 2 * 56
    text = tables + 16 * tags
    strings, symbols = text + 16, text + 32
    hashes = symbols + 24
    end = hashes + 16
    found = {12: text, 5: strings, 6: symbols, 4: hashes, 10: 1, 11: 24, 0: 0}  # INIT STRTAB SYMTAB HASH STRSZ SYMENT
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, end, end, 4096)
    dynamic = struct.pack("<IIQQQQQQ", 2, 6, tables, tables, tables, 16 * tags, 16 * tags, 8)
    elf = b"\x7fELF\2\1\1" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, header, 0, 0, header, entry, 2, 0, 0, 0)
    body = elf + load + dynamic + b"".join(struct.pack("<QQ", *pair) for pair in found.items())
    body += code.ljust(16, b"\0") + bytes(16) + bytes(24)
    return body + struct.pack("<IIII", 1, 1, 0, 0)


@pytest.mark.parametrize(
    ("raw", "short"),
    [
        ("[ONNXRuntimeError] : 1 : FAIL : Load model from /a b/m.onnx failed:Fatal error: x", "Fatal error: x"),
        (
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Gather node. "
            "Name:'g/1' Status Message: /onnxruntime_src/core/gather.cc:9 void "
            "onnxruntime::F<T>::G(int, A (*)(B)) const indices element out of data bounds, idx=7",
            "Gather node 'g/1': indices element out of data bounds, idx=7",
        ),
        ("tensorprotoutils.cc:619 ValidateExternalData External data is gone", "External data is gone"),
        ("two\nlines\tand \x1b[31mcolour\x00", "two lines and \\x1b[31mcolour\\x00"),
        ("", "no reason given"),
    ],
)
def test_messages_are_shortened(raw: str, short: str) -> None:
    assert shorten(raw) == short


def test_long_messages_are_cut() -> None:
    cut = clean("word " * 200)
    assert len(cut) <= 300
    assert cut.endswith("…")
