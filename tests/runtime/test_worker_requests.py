"""What a session is asked, and the sentences that a request which does not fit gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from little_models import DOUBLE, RESHAPE, identity, parsed
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphopt.errors import UsageError
from graphopt.runtime.client import Options, Port, Worker, WorkerFailure

X = np.ones(4, np.float32)


def test_ports_are_named_in_onnxruntimes_words(worker: Worker) -> None:
    session = worker.load(DOUBLE)
    assert session.inputs == (Port("x", "tensor(float)", ("N",)),)
    assert session.outputs == (Port("y", "tensor(float)", ("N",)),)


def test_a_subset_of_the_outputs(worker: Worker) -> None:
    model = parsed("g (float[N] x) => (float[N] y, float[N] z) { y = Add (x, x) z = Neg (x) }")
    session = worker.load(model)
    assert list(session.run({"x": X})) == ["y", "z"]
    assert list(session.run({"x": X}, ["z"])) == ["z"]
    assert session.run({"x": X}, []) == {}
    with pytest.raises(UsageError, match=r"the model has no output 'zz'; the nearest is 'z' \(it has 'y', 'z'\)\."):
        session.run({"x": X}, ["zz"])


def test_overridable_initializers_may_be_fed(worker: Worker) -> None:
    model = ModelProto.FromString(parsed("g (float[2] x, float[2] w) => (float[2] y) { y = Add (x, w) }"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    session = worker.load(model.SerializeToString())
    assert [port.name for port in session.overridable] == ["w"]
    assert session.run({"x": X[:2]})["y"].tolist() == [2, 2]  # type: ignore[union-attr]
    assert session.run({"x": X[:2], "w": 2 * X[:2]})["y"].tolist() == [3, 3]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("feeds", "sentence"),
    [
        ({}, r"the model needs a value for its inputs 'x' \(tensor\(float\)\), 's' \(tensor\(int64\)\)\."),
        ({"x": X}, r"the model needs a value for its input 's' \(tensor\(int64\)\)\."),
        ({"x": X, "s": X, "q": X}, r"the model has no input 'q' \(it has 'x', 's'\)\."),
        ({"x": X, "s": X}, r"input 's' \(tensor\(int64\)\) takes an array of int64, but it was given .* float32\."),
        ({"x": [1.0], "s": X}, r"input 'x' .* takes an array, but it was given a value of type list\."),
        ({"x": None, "s": X}, r"input 'x' .* takes an array, but it was given nothing \(None\)\."),
    ],
)
def test_feeds_that_do_not_fit(worker: Worker, feeds: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=f"^{sentence}$"):
        worker.run_model(RESHAPE, feeds)


@pytest.mark.parametrize(
    ("elements", "sentence"),
    [
        (["a", b"b"], r"takes an array of str, but one of its elements is of type bytes\."),
        (["\udcff"], r"holds a string that is not Unicode: '\\udcff'\."),
    ],
)
def test_strings_that_are_not_text(worker: Worker, elements: list[object], sentence: str) -> None:
    with pytest.raises(UsageError, match=rf"^input 'x' \(tensor\(string\)\) {sentence}$"):
        worker.run_model(identity(TensorProto.STRING), {"x": np.array(elements, object)})


def test_a_sequence_takes_a_list_of_arrays(worker: Worker) -> None:
    floats = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    with pytest.raises(UsageError, match="takes a list, but it was given an array of float32"):
        worker.run_model(identity(floats), {"x": X})
    with pytest.raises(UsageError, match="takes an array of float32, but it was given an array of int32"):
        worker.run_model(identity(floats), {"x": [X, X.astype(np.int32)]})


def test_two_sessions_at_once(worker: Worker) -> None:
    plain, other = worker.load(DOUBLE), worker.load(parsed("g (float[N] x) => (float[N] y) { y = Neg (x) }"))
    for _ in range(2):
        assert plain.run({"x": X})["y"].tolist() == [2] * 4  # type: ignore[union-attr]
        assert other.run({"x": X})["y"].tolist() == [-1] * 4  # type: ignore[union-attr]
    plain.close()
    plain.close()
    assert other.run({"x": X})["y"].tolist() == [-1] * 4  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"the session of the model is closed\."):
        plain.run({"x": X})


def test_optimizing_is_an_option(worker: Worker) -> None:
    # onnxruntime's optimizer multiplies the scale into the weights, which rounds differently.
    text = """g (float[1,3,16,16] x) => (float[1,4,16,16] y) {
      c = Conv <pads = [1, 1, 1, 1]> (x, w)
      y = BatchNormalization (c, s, z, z, s)
    }"""
    model = ModelProto.FromString(parsed(text))
    random = np.random.default_rng(0)
    for name, shape in (("w", (4, 3, 3, 3)), ("s", (4,)), ("z", (4,))):
        values = random.uniform(0.5, 1.5, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    x = random.normal(size=(1, 3, 16, 16)).astype(np.float32)
    results = [
        worker.run_model(model.SerializeToString(), {"x": x}, options)["y"]
        for options in (Options(optimize=False), Options(optimize=False), Options(), Options(arena=True, threads=2))
    ]
    plain, again, fused, wide = (np.asarray(each) for each in results)
    assert plain.tobytes() == again.tobytes()
    assert plain.tobytes() != fused.tobytes()
    np.testing.assert_allclose(plain, fused, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(wide, fused, rtol=1e-4, atol=1e-4)


def test_what_options_mean_to_onnxruntime() -> None:
    from graphopt.runtime.engine import session_options

    bare = session_options(Options(optimize=False, prepack=False).as_dict(), [])
    assert bare.get_session_config_entry("session.disable_prepacking") == "1"
    assert str(bare.graph_optimization_level).endswith("ORT_DISABLE_ALL")
    assert (bare.intra_op_num_threads, bare.inter_op_num_threads) == (1, 1)
    assert bare.use_deterministic_compute
    assert not bare.enable_cpu_mem_arena
    timed = session_options(Options(threads=2, arena=True).as_dict(), [])
    assert str(timed.graph_optimization_level).endswith("ORT_ENABLE_ALL")
    assert timed.intra_op_num_threads == 2
    assert timed.enable_cpu_mem_arena
    with pytest.raises(RuntimeError):  # no such entry: weights are prepacked
        timed.get_session_config_entry("session.disable_prepacking")
    with pytest.raises(UsageError, match="one thread or more, not 0"):
        Options(threads=0)


def test_a_race_times_both_in_turn(worker: Worker) -> None:
    a, b = worker.load(DOUBLE), worker.load(parsed("g (float[N] x) => (float[N] y) { a = Erf (x) y = Erf (a) }"))
    race = worker.race(a, b, {"x": np.ones(100_000, np.float32)}, rounds=9, warmup=1)
    assert len(race.a) == len(race.b) == 9
    assert race.repeat >= 1
    assert min(race.b) > max(0.0, min(race.a))
    short = worker.race(a, b, {"x": X}, rounds=1000, budget=0.0, least=2)
    assert len(short.a) == 2
    with Worker() as another, pytest.raises(UsageError, match="two sessions of one worker"):
        another.race(a, b, {"x": X}, rounds=1)


def test_limits_must_be_positive() -> None:
    for seconds, memory in ((0, None), (1, 0), (1, -5)):
        with pytest.raises(UsageError, match="must be greater than zero"):
            Worker(seconds=seconds, memory=memory)


def with_external_data(location: str) -> bytes:
    model = ModelProto.FromString(parsed("g (float[4] x) => (float[4] y) { y = Add (x, w) }"))
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=key, value=value)
    model.graph.initializer.append(weight)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("layout", ["plain", "subfolder", "hub", "link to model", "linked folder", "data by the link"])
def test_external_data_next_to_the_model_or_to_what_it_links_to(worker: Worker, tmp_path: Path, layout: str) -> None:
    real, shown = tmp_path / "real", tmp_path / "shown"
    real.mkdir()
    shown.mkdir()
    location = "weights/data" if layout == "subfolder" else "model.data"
    (real / location).parent.mkdir(exist_ok=True)
    model, data = real / "model.onnx", real / location
    given = model
    if layout == "hub":
        model, data, given = real / "0a1b", real / "2c3d", shown / "model.onnx"
        given.symlink_to(Path("../real/0a1b"))
        (shown / location).symlink_to(Path("../real/2c3d"))
    elif layout == "link to model":
        given = shown / "renamed.onnx"
        given.symlink_to(model)
    elif layout == "linked folder":
        (tmp_path / "folder").symlink_to(real)
        given = tmp_path / "folder" / "model.onnx"
    elif layout == "data by the link":
        given, data = shown / "model.onnx", shown / location
        given.symlink_to(model)
    model.write_bytes(with_external_data(location))
    data.write_bytes(X.tobytes())
    assert worker.run_model(given, {"x": X})["y"].tolist() == [2] * 4  # type: ignore[union-attr]


def test_external_data_elsewhere_is_not_read(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret").write_bytes(X.tobytes())
    model = tmp_path / "folder" / "model.onnx"
    for location, reason in (
        ("../secret", "escapes"),
        (str(tmp_path / "secret"), "Absolute"),
        ("none", "not exist|No such"),
    ):
        model.write_bytes(with_external_data(location))
        with pytest.raises(WorkerFailure, match=f"cannot load 'model.onnx': .*({reason})"):
            worker.load(model)
    monkeypatch.chdir(tmp_path)  # where the worker, had it been started here, would find it
    with Worker() as local, pytest.raises(WorkerFailure, match="external data, which a model without a file") as no:
        local.load(with_external_data("secret"))
    assert no.value.kind == "rejected"
