"""Whatever a file is, reading it gives a model or one sentence that says what is wrong."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper
from storage_models import (
    build,
    chain,
    info,
    unprivileged,
)

from graphopt.errors import BadModel, OverLimit
from graphopt.limits import Limits
from graphopt.storage.read import read
from graphopt.storage.walk import encoded


def refusal(path: Path, limits: Limits | None = None) -> str:
    """The sentence with which `path` is refused."""
    with pytest.raises(BadModel) as caught:
        read(path) if limits is None else read(path, limits)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "\x1b" not in sentence
    return sentence


def model_in(folder: Path, model: ModelProto | bytes) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def test_a_good_model_is_read_with_its_weights_in_the_file(tmp_path: Path) -> None:
    path = model_in(tmp_path, chain())
    source = read(path)
    assert source.path == path
    assert source.size == path.stat().st_size
    assert source.external == ()
    assert source.store.folder == tmp_path
    payload = source.store.payload(source.proto.graph.initializer[0])
    assert payload is not None
    assert payload.readonly
    assert bytes(payload) == chain().graph.initializer[0].raw_data
    assert source.sha256() == __import__("hashlib").sha256(path.read_bytes()).hexdigest()


def test_no_such_file(tmp_path: Path) -> None:
    assert "there is no file" in refusal(tmp_path / "gone.onnx")
    assert "there is no file" in refusal(model_in(tmp_path, b"x") / "below.onnx")


def test_a_directory_is_named_with_a_model_in_it(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith("is a directory; name the model file in it")
    model_in(tmp_path, chain())
    assert refusal(tmp_path).endswith("name the model file in it, for example 'm.onnx'")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    assert "not a regular file but a named pipe" in refusal(tmp_path / "m.onnx")


def test_a_socket_and_a_device(tmp_path: Path) -> None:
    here = Path.cwd()
    os.chdir(tmp_path)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("m.onnx")
            assert "but a socket" in refusal(Path("m.onnx"))
    finally:
        os.chdir(here)
    assert "but a device" in refusal(Path("/dev/null"))


def test_a_link_to_nothing_and_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").symlink_to("gone")
    (tmp_path / "b.onnx").symlink_to("b.onnx")
    assert "is a link to a file that does not exist" in refusal(tmp_path / "a.onnx")
    assert "leads back to itself" in refusal(tmp_path / "b.onnx")


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = model_in(tmp_path, chain())
    path.chmod(0)
    with unprivileged(tmp_path):
        assert "permission denied" in refusal(path)


def test_a_name_that_no_file_can_have() -> None:
    assert "is not a file name" in refusal(Path("a\0b.onnx"))
    assert "cannot be read (File name too long)" in refusal(Path("a" * 300))


KNOWN = {
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "run `git lfs pull`"),
    "a web page": (b"\n  <!DOCTYPE html><html><body>404</body></html>", "a web page, not a model"),
    "xml": (b"<?xml version='1.0'?><net name='x'/>", "an XML file"),
    "zip": (b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(90), "a PyTorch checkpoint?"),
    "pickle": (b"\x80\x02}q\x00(X\x05\x00\x00\x00model", "a Python pickle"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(40), "a TensorFlow Lite model"),
    "ort format": (b"\x24\x00\x00\x00ORTM" + bytes(40), "onnxruntime's own ORT format"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(40), "gzip-compressed"),
    "gguf": (b"GGUF\x03\x00\x00\x00" + bytes(40), "a GGUF model"),
    "numpy": (b"\x93NUMPY\x01\x00" + bytes(40), "a numpy array"),
    "tar": (bytes(257) + b"ustar\x0000" + bytes(300), "a tar archive"),
    "safetensors": ((70).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}}' + bytes(60), "a safetensors file"),
    "json": (b'{"irVersion": "8", "graph": {}}', "a JSON file"),
    "text": (("Un modèle, vraiment ?\n" * 30).encode(), "a text file"),
}


@pytest.mark.parametrize(("content", "words"), KNOWN.values(), ids=KNOWN.keys())
def test_a_well_known_other_format_is_called_by_its_name(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refusal(model_in(tmp_path, content))


def test_an_empty_file(tmp_path: Path) -> None:
    assert "is empty" in refusal(model_in(tmp_path, b""))


def test_noise(tmp_path: Path) -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).bytes(3000)
        assert "is not an ONNX model" in (said := refusal(model_in(tmp_path, noise))) or "damaged" in said


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95, 0.999])
def test_a_download_that_broke_off(tmp_path: Path, share: float) -> None:
    data = chain().SerializeToString()
    assert "is truncated or damaged" in refusal(model_in(tmp_path, data[: int(len(data) * share)]))


def test_a_file_damaged_within(tmp_path: Path) -> None:
    data = build([], [numpy_helper.from_array(np.zeros(4, np.float32), "abcdef")]).SerializeToString()
    at = data.index(b"\x42\x06abcdef")  # the length of the name of the initializer
    damaged = data[: at + 1] + b"\x7f" + data[at + 2 :]
    assert "is damaged" in refusal(model_in(tmp_path, damaged))


def test_a_tensor_or_a_bare_graph_is_not_a_model(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32))
    assert "is a tensor, not a model" in refusal(model_in(tmp_path, tensor.SerializeToString()))
    assert "is a bare graph, not a model" in refusal(model_in(tmp_path, chain().graph.SerializeToString()))


def test_a_model_without_a_graph(tmp_path: Path) -> None:
    model = ModelProto(ir_version=8)
    model.opset_import.add(version=17)
    assert "has no graph" in refusal(model_in(tmp_path, model))


def test_no_ir_version_and_one_that_is_too_new(tmp_path: Path) -> None:
    model = chain()
    model.ir_version = onnx.IR_VERSION + 1
    assert f"has IR version {onnx.IR_VERSION + 1}, newer than onnx" in refusal(model_in(tmp_path, model))
    model.ClearField("ir_version")
    assert "does not say its IR version" in refusal(model_in(tmp_path, model))


def test_no_opset_import(tmp_path: Path) -> None:
    model = chain()
    del model.opset_import[:]
    assert "has no opset_import" in refusal(model_in(tmp_path, model))


def test_the_default_domain_may_be_missing_only_where_nothing_uses_it(tmp_path: Path) -> None:
    own = helper.make_node("F", ["x"], ["y"], domain="my")
    model = build([own])
    model.opset_import[0].domain = "my"
    read(model_in(tmp_path, model))
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "body", [], [info("b")])
    own.attribute.append(helper.make_attribute("body", body))
    del model.graph.node[:]
    model.graph.node.append(own)
    assert "uses ONNX operators but its opset_import names no version" in refusal(model_in(tmp_path, model))


@pytest.mark.parametrize(
    ("domain", "newest"),
    [
        ("", onnx.defs.onnx_opset_version()),
        ("ai.onnx", onnx.defs.onnx_opset_version()),
        ("ai.onnx.ml", onnx.defs.onnx_ml_opset_version()),
    ],
)
def test_operator_sets_newer_than_onnx(tmp_path: Path, domain: str, newest: int) -> None:
    model = build([])
    model.opset_import[0].domain = domain
    model.opset_import[0].version = newest
    read(model_in(tmp_path, model))
    model.opset_import[0].version = newest + 1
    assert f"uses opset {newest + 1} of '{domain or 'ai.onnx'}'" in refusal(model_in(tmp_path, model))
    model.opset_import[0].version = 0
    assert "versions start at 1" in refusal(model_in(tmp_path, model))


def test_one_domain_in_two_versions(tmp_path: Path) -> None:
    model = chain()
    model.opset_import.add(domain="ai.onnx", version=13)
    assert "imports 'ai.onnx' in versions 17 and 13" in refusal(model_in(tmp_path, model))


def test_a_function_of_a_newer_opset(tmp_path: Path) -> None:
    model = chain()
    model.functions.append(helper.make_function("d", "F", [], [], [], [helper.make_opsetid("", 999)]))
    assert "function 'F' of" in refusal(model_in(tmp_path, model))


def nested(levels: int) -> bytes:
    def field(number: int, payload: bytes) -> bytes:
        return encoded(number << 3 | 2) + encoded(len(payload)) + payload

    graph = b""
    for _ in range(levels):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")


@pytest.mark.parametrize("levels", [40, 1000, 20000])
def test_nested_too_deeply(tmp_path: Path, levels: int) -> None:
    with pytest.raises(OverLimit, match="nested too deeply"):
        read(model_in(tmp_path, nested(levels)))


def test_nested_as_deeply_as_protobuf_reads(tmp_path: Path) -> None:
    assert read(model_in(tmp_path, nested(32))).proto.graph.node


def test_limits(tmp_path: Path) -> None:
    path = model_in(tmp_path, chain())
    with pytest.raises(OverLimit, match="more than the limit of 100"):
        read(path, Limits(model_bytes=100))
    with pytest.raises(OverLimit, match="beside its raw weights, more than the limit of 50"):
        read(path, Limits(parsed_bytes=50))
    with pytest.raises(OverLimit, match="more than 5 parts"):
        read(path, Limits(parts=5))
    assert read(path, Limits(parsed_bytes=1000)).proto.graph.node
