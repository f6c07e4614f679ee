"""Runs at the same time: of one output there is one, whole; a cache may be shared, deleted and full of anything."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from invariant import externals
from processes import finished, start
from scenes import PLAIN, SAMPLES, SECOND, WEIGHT, net, net_external, own_external, samples

from graphopt.errors import UsageError
from graphopt.storage.read import read
from graphopt.storage.write import stage
from graphopt.testing import model

PIPELINES = ("identities", "identities,dead-nodes", "dead-nodes", "weight-int8", "identities,weight-int16")


def whole(path: Path) -> None:
    """The model loads with its external data and computes."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    session.run(None, {"x": SAMPLES})


def tidy(work: Path, output: str, others: set[str]) -> None:
    """Nothing lies about but the output, its external data, and what was there."""
    used = externals((work / output).read_bytes())
    assert {one.name for one in work.iterdir()} == others | {output} | used
    assert list((work.parent / "tmp").iterdir()) == []


@pytest.fixture
def work(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    return made


@pytest.mark.parametrize(("make", "count"), [(net, 2), (net_external, 10)])
def test_one_output_of_several_runs(work: Path, make: object, count: int) -> None:
    make(work)  # type: ignore[operator]
    before = {one.name for one in work.iterdir()}
    runs = [
        start(work, "optimize", "net.onnx", "-o", "out.onnx", "-p", PIPELINES[at % 5], "--budget", "sqnr_db>=5")
        for at in range(count)
    ]
    ends = [finished(one) for one in runs]
    assert any(code == 0 for code, _, _ in ends), ends
    for code, _, err in ends:
        assert code in (0, 1, 2), err
        assert code != 2 or "in the meantime; run again, nothing was changed" in err, err
    whole(work / "out.onnx")
    tidy(work, "out.onnx", before)


def test_one_model_in_place_by_several_runs(work: Path) -> None:
    own_external(work)
    runs = [start(work, "optimize", "net.onnx", "--in-place", "-p", PIPELINES[at % 2]) for at in range(3)]
    ends = [finished(one) for one in runs]
    assert any(code == 0 for code, _, _ in ends), ends
    for code, _, err in ends:
        assert code == 0 or ((code in (2, 3, 6) and "meantime" in err) or "was changed" in err), (code, err)
    whole(work / "net.onnx")
    tidy(work, "net.onnx", set())


def test_some_of_them_are_killed(work: Path) -> None:
    net_external(work)
    before = {one.name for one in work.iterdir()}
    runs = [start(work, "optimize", "net.onnx", "-o", "out.onnx", "-p", PIPELINES[at % 3]) for at in range(4)]
    deadline = time.monotonic() + 120
    while not any(".graphopt-" in one.name for one in work.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    for one in runs[:3]:
        one.send_signal(signal.SIGKILL)
    ends = [finished(one) for one in runs]
    last = finished(start(work, "optimize", "net.onnx", "-o", "out.onnx", "-p", "identities"))
    assert last[0] == 0, (ends, last)
    whole(work / "out.onnx")
    tidy(work, "out.onnx", before)


def staged(work: Path, scale: float) -> object:
    """A model on its way to out.onnx with external data, complete but not in place."""
    source = read(work / "net.onnx")
    made = type(source.proto)()
    made.CopyFrom(source.proto)
    made.producer_name = f"scaled by {scale}"
    made.graph.initializer[0].ClearField("external_data")
    made.graph.initializer[0].ClearField("data_location")
    made.graph.initializer[0].raw_data = (WEIGHT * np.float32(scale)).tobytes()
    block = stage(work / "out.onnx", source=source)
    one = block.__enter__()
    one.put(made, source.store, "always")
    return block, one


def test_the_data_of_the_one_that_came_second_stay(work: Path) -> None:
    """The first replaces a model whose data the second has found to be its own: the second brings them again."""
    net_external(work)
    block, one = staged(work, 2.0)  # type: ignore[misc]
    one.commit()
    block.__exit__(None, None, None)
    again, later = staged(work, 2.0), staged(work, 3.0)  # the data of 2.0 are there, and `again` relies on them
    later[1].commit()  # type: ignore[index] # which removes them
    later[0].__exit__(None, None, None)  # type: ignore[index]
    again[1].commit()  # type: ignore[index]
    again[0].__exit__(None, None, None)  # type: ignore[index]
    whole(work / "out.onnx")
    assert onnx.load(str(work / "out.onnx")).producer_name == "scaled by 2.0"
    tidy_names = {"net.onnx", "weights.bin", "out.onnx"}
    assert {one.name for one in work.iterdir()} == tidy_names | externals((work / "out.onnx").read_bytes())


def test_an_input_that_has_changed_is_not_what_was_judged(work: Path) -> None:
    net(work)
    source = read(work / "net.onnx")
    with stage(work / "out.onnx", source=source) as one:
        one.put(source.proto, source.store)
        onnx.save(model(PLAIN, w=WEIGHT, v=SECOND), work / "other.onnx")
        (work / "other.onnx").replace(work / "net.onnx")
        with pytest.raises(UsageError, match="was changed while it was being optimized"):
            one.commit()
    assert not (work / "out.onnx").exists()


LEARN = ("-p", "static-int8", "--budget", "sqnr_db>=1", "--calibration", "learn.npz", "--feeds", "judge.npz")


def test_a_cache_that_many_share_and_somebody_deletes(work: Path) -> None:
    net(work)
    samples(work)
    runs = [
        start(work, "optimize", "net.onnx", "-o", f"out{at}.onnx", *LEARN, "--cache-dir", "cache") for at in range(4)
    ]
    while any(one.poll() is None for one in runs):
        shutil.rmtree(work / "cache", ignore_errors=True)
        time.sleep(0.02)
    ends = [finished(one) for one in runs]
    assert [code for code, _, _ in ends] == [0] * 4, ends
    assert len({(work / f"out{at}.onnx").read_bytes() for at in range(4)}) == 1


def test_a_cache_of_garbage(work: Path) -> None:
    """Half-written, foreign, of another kind: what is not ours is not used, and never the end of a run."""
    net(work)
    samples(work)
    cache = work / "cache"
    run = ("optimize", "net.onnx", *LEARN, "--cache-dir", "cache")
    assert finished(start(work, *run, "-o", "first.onnx"))[0] == 0
    kept = sorted(cache.iterdir())
    assert len(kept) >= 2
    for at, one in enumerate(kept):
        data = one.read_bytes()
        one.write_bytes((data[: len(data) // 2], b"", b"garbage", data[:-30] + bytes(30))[at % 4])
    (cache / "foreign.txt").write_text("somebody else's")
    kept[0].unlink()
    kept[0].mkdir()  # not even a file
    code, out, err = finished(start(work, *run, "-o", "second.onnx"))
    assert (code, err) == (0, "")
    assert "could not be kept" in out
    assert (work / "first.onnx").read_bytes() == (work / "second.onnx").read_bytes()
    assert (cache / "foreign.txt").read_text() == "somebody else's"
