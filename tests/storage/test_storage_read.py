"""Whatever a file is, reading it gives a model or one sentence that says what is wrong."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper
from storage_models import build, chain, info, unprivileged

from graphopt.errors import BadModel, GraphoptError, OverLimit
from graphopt.storage.limits import Limits
from graphopt.storage.read import read


def refusal(path: Path, limits: Limits | None = None) -> str:
    """The sentence with which `path` is refused."""
    with pytest.raises(BadModel) as caught:
        read(path) if limits is None else read(path, limits)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "\x1b" not in sentence
    return sentence


def saved(folder: Path, model: ModelProto | bytes) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


# ---------------------------------------------------------------- what is not a file


def test_a_good_model_is_read_with_its_weights_in_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path, chain())
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
    assert "there is no file" in refusal(saved(tmp_path, b"x") / "below.onnx")


def test_a_directory_is_named_with_a_model_in_it(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith("is a directory; name the model file in it")
    saved(tmp_path, chain())
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
    path = saved(tmp_path, chain())
    path.chmod(0)
    with unprivileged(tmp_path):
        assert "permission denied" in refusal(path)


def test_a_name_that_no_file_can_have() -> None:
    assert "is not a file name" in refusal(Path("a\0b.onnx"))
    assert "cannot be read (File name too long)" in refusal(Path("a" * 300))


# ---------------------------------------------------------------- what is not a model

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
    assert words in refusal(saved(tmp_path, content))


def test_an_empty_file(tmp_path: Path) -> None:
    assert "is empty" in refusal(saved(tmp_path, b""))


def test_noise(tmp_path: Path) -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).bytes(3000)
        assert "is not an ONNX model" in (said := refusal(saved(tmp_path, noise))) or "damaged" in said


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95, 0.999])
def test_a_download_that_broke_off(tmp_path: Path, share: float) -> None:
    data = chain().SerializeToString()
    assert "is truncated or damaged" in refusal(saved(tmp_path, data[: int(len(data) * share)]))


def test_a_file_damaged_within(tmp_path: Path) -> None:
    data = build([], [numpy_helper.from_array(np.zeros(4, np.float32), "abcdef")]).SerializeToString()
    at = data.index(b"\x42\x06abcdef")  # the length of the name of the initializer
    damaged = data[: at + 1] + b"\x7f" + data[at + 2 :]
    assert "is damaged" in refusal(saved(tmp_path, damaged))


def test_a_tensor_or_a_bare_graph_is_not_a_model(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32))
    assert "is a tensor, not a model" in refusal(saved(tmp_path, tensor.SerializeToString()))
    assert "is a bare graph, not a model" in refusal(saved(tmp_path, chain().graph.SerializeToString()))


def test_a_model_without_a_graph(tmp_path: Path) -> None:
    model = ModelProto(ir_version=8)
    model.opset_import.add(version=17)
    assert "has no graph" in refusal(saved(tmp_path, model))


# ---------------------------------------------------------------- versions


def test_no_ir_version_and_one_that_is_too_new(tmp_path: Path) -> None:
    model = chain()
    model.ir_version = onnx.IR_VERSION + 1
    assert f"has IR version {onnx.IR_VERSION + 1}, newer than onnx" in refusal(saved(tmp_path, model))
    model.ClearField("ir_version")
    assert "does not say its IR version" in refusal(saved(tmp_path, model))


def test_no_opset_import(tmp_path: Path) -> None:
    model = chain()
    del model.opset_import[:]
    assert "has no opset_import" in refusal(saved(tmp_path, model))


def test_the_default_domain_may_be_missing_only_where_nothing_uses_it(tmp_path: Path) -> None:
    own = helper.make_node("F", ["x"], ["y"], domain="my")
    model = build([own])
    model.opset_import[0].domain = "my"
    read(saved(tmp_path, model))
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "body", [], [info("b")])
    own.attribute.append(helper.make_attribute("body", body))
    del model.graph.node[:]
    model.graph.node.append(own)
    assert "uses ONNX operators but its opset_import names no version" in refusal(saved(tmp_path, model))


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
    read(saved(tmp_path, model))
    model.opset_import[0].version = newest + 1
    assert f"uses opset {newest + 1} of '{domain or 'ai.onnx'}'" in refusal(saved(tmp_path, model))
    model.opset_import[0].version = 0
    assert "versions start at 1" in refusal(saved(tmp_path, model))


def test_one_domain_in_two_versions(tmp_path: Path) -> None:
    model = chain()
    model.opset_import.add(domain="ai.onnx", version=13)
    assert "imports 'ai.onnx' in versions 17 and 13" in refusal(saved(tmp_path, model))


def test_a_function_of_a_newer_opset(tmp_path: Path) -> None:
    model = chain()
    model.functions.append(helper.make_function("d", "F", [], [], [], [helper.make_opsetid("", 999)]))
    assert "function 'F' of" in refusal(saved(tmp_path, model))


# ---------------------------------------------------------------- depth and size


def nested(levels: int) -> bytes:
    from graphopt.storage.walk import encoded

    def field(number: int, payload: bytes) -> bytes:
        return encoded(number << 3 | 2) + encoded(len(payload)) + payload

    graph = b""
    for _ in range(levels):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x08" + field(7, graph) + field(8, b"\x10\x11")


@pytest.mark.parametrize("levels", [40, 1000, 20000])
def test_nested_too_deeply(tmp_path: Path, levels: int) -> None:
    with pytest.raises(OverLimit, match="nested too deeply"):
        read(saved(tmp_path, nested(levels)))


def test_nested_as_deeply_as_protobuf_reads(tmp_path: Path) -> None:
    assert read(saved(tmp_path, nested(32))).proto.graph.node


def test_limits(tmp_path: Path) -> None:
    path = saved(tmp_path, chain())
    with pytest.raises(OverLimit, match="more than the limit of 100"):
        read(path, Limits(model_bytes=100))
    with pytest.raises(OverLimit, match="beside its raw weights, more than the limit of 50"):
        read(path, Limits(parsed_bytes=50))
    with pytest.raises(OverLimit, match="more than 5 parts"):
        read(path, Limits(fields=5))
    assert read(path, Limits(parsed_bytes=1000)).proto.graph.node


# ---------------------------------------------------------------- tensors


def with_tensor(**fields: object) -> ModelProto:
    model = build([])
    model.graph.initializer.append(TensorProto(name="w", **fields))  # type: ignore[arg-type]
    return model


FLOAT, INT4, STRING = TensorProto.FLOAT, TensorProto.INT4, TensorProto.STRING
BROKEN = {
    "a negative dim": ({"data_type": FLOAT, "dims": [2, -1], "raw_data": bytes(8)}, "dimension -1"),
    "a product beyond all bounds": (
        {"data_type": FLOAT, "dims": [2**40] * 3, "raw_data": bytes(8)},
        "can be addressed",
    ),
    "a product that wraps to 0": ({"data_type": FLOAT, "dims": [2**32, 2**32]}, "can be addressed"),
    "too few bytes": (
        {"data_type": FLOAT, "dims": [1000], "raw_data": bytes(4)},
        "needs 4000 bytes for its 1000 elements",
    ),
    "too many bytes": ({"data_type": FLOAT, "dims": [1000], "raw_data": bytes(4004)}, "its data has 4004"),
    "no values": ({"data_type": FLOAT, "dims": [3]}, "needs 3 values for its 3 elements but its data has 0"),
    "too few values": ({"data_type": FLOAT, "dims": [3], "float_data": [1.0]}, "its data has 1"),
    "too many strings": ({"data_type": STRING, "dims": [1], "string_data": [b"a", b"b"]}, "its data has 2"),
    "complex pairs": ({"data_type": TensorProto.COMPLEX64, "dims": [2], "float_data": [1.0, 2.0]}, "needs 4 values"),
    "packed int4": ({"data_type": INT4, "dims": [3], "raw_data": bytes(3)}, "needs 2 bytes for its 3"),
    "packed int4 in words": ({"data_type": INT4, "dims": [3], "int32_data": [1, 2, 3]}, "needs 2 values"),
    "the wrong field": ({"data_type": FLOAT, "dims": [2], "int64_data": [1, 2]}, "in int64_data"),
    "two fields": ({"data_type": FLOAT, "dims": [1], "float_data": [1.0], "raw_data": bytes(4)}, "more than once"),
    "two fields, large": (
        {"data_type": FLOAT, "dims": [500], "float_data": [1.0], "raw_data": bytes(2000)},
        "more than once",
    ),
    "raw strings": ({"data_type": STRING, "dims": [4], "raw_data": b"abcd"}, "raw bytes instead of strings"),
    "many raw strings": ({"data_type": STRING, "dims": [4], "raw_data": bytes(4000)}, "raw bytes instead of strings"),
    "an unknown type": ({"data_type": 9999, "dims": [1], "raw_data": bytes(4)}, "element type 9999"),
    "no type": ({"dims": [1], "raw_data": bytes(4)}, "element type 0"),
}


@pytest.mark.parametrize(("fields", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_a_tensor_that_is_not_whole(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    said = refusal(saved(tmp_path, with_tensor(**fields)))
    assert words in said
    assert "tensor 'w'" in said


GOOD = {
    "a scalar": {"data_type": FLOAT, "raw_data": bytes(4)},
    "nothing, in no field": {"data_type": FLOAT, "dims": [0, 3]},
    "nothing, said with raw data": {"data_type": FLOAT, "dims": [3, 0], "raw_data": b""},
    "values beside empty raw data": {"data_type": FLOAT, "dims": [1], "float_data": [1.0], "raw_data": b""},
    "halves in words": {"data_type": TensorProto.FLOAT16, "dims": [2], "int32_data": [1, 2]},
    "unsigned in long words": {"data_type": TensorProto.UINT32, "dims": [2], "uint64_data": [1, 2]},
    "packed int4": {"data_type": INT4, "dims": [3], "raw_data": bytes(2)},
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD.keys())
def test_a_tensor_that_is_whole(tmp_path: Path, fields: dict[str, object]) -> None:
    assert read(saved(tmp_path, with_tensor(**fields))).proto.graph.initializer[0].name == "w"


def test_tensors_are_checked_wherever_they_are(tmp_path: Path) -> None:
    bad = TensorProto(name="bad", data_type=FLOAT, dims=[1000], raw_data=bytes(4))
    constant = helper.make_node("Constant", [], ["c"], value=bad)
    body = helper.make_graph([constant], "b", [], [info("c")])
    holder = helper.make_graph([], "b", [], [info("c")], [bad])
    models = [
        build([constant]),
        build([helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)]),
        build([helper.make_node("If", ["x"], ["y"], then_branch=holder, else_branch=holder)]),
        build([]),
    ]
    models[-1].functions.append(helper.make_function("d", "F", [], ["c"], [constant], [helper.make_opsetid("", 17)]))
    for model in models:
        assert "tensor 'bad' needs 4000 bytes" in refusal(saved(tmp_path, model))


def test_names_of_strangers_are_cut_and_harmless(tmp_path: Path) -> None:
    model = with_tensor(data_type=FLOAT, dims=[3])
    model.graph.initializer[0].name = "\x1b[31m\n" + "n" * 500 + "\u202e"
    said = refusal(saved(tmp_path, model))
    assert "'\\x1b[31m\\n" in said
    assert "n" * 60 in said
    assert "n" * 90 not in said


def sparse(**change: object) -> ModelProto:
    values = numpy_helper.from_array(np.ones(3, np.float32), "s")
    tensor = SparseTensorProto(values=values, indices=numpy_helper.from_array(np.arange(3)), dims=[2, 5])
    for name, value in change.items():
        tensor.ClearField(name)
        if isinstance(value, TensorProto):
            getattr(tensor, name).CopyFrom(value)
        else:
            getattr(tensor, name).extend(value)
    return build([], sparse_initializer=[tensor])


def test_sparse_tensors_are_checked_without_being_made_dense(tmp_path: Path) -> None:
    array = numpy_helper.from_array
    read(saved(tmp_path, sparse()))
    read(saved(tmp_path, sparse(indices=array(np.zeros((3, 2), np.int64)))))
    read(saved(tmp_path, sparse(indices=array(np.arange(3, dtype=np.int32)))))
    read(saved(tmp_path, sparse(dims=[2**20, 2**20])))
    faults = {
        "indices of shape [2] for 3 values": sparse(indices=array(np.arange(2))),
        "indices of shape [3, 1] for 3 values": sparse(indices=array(np.zeros((3, 1), np.int64))),
        "indices that are not integers": sparse(indices=array(np.zeros(3, np.float32))),
        "values of 2 axes": sparse(values=array(np.ones((3, 1), np.float32), "s")),
        "dimension -5": sparse(dims=[-5]),
        "more than can be addressed": sparse(dims=[2**40, 2**40]),
        "needs 12 bytes": sparse(values=TensorProto(data_type=FLOAT, dims=[3], raw_data=b"1234")),
    }
    for words, model in faults.items():
        assert words in refusal(saved(tmp_path, model))


# ---------------------------------------------------------------- text


def test_a_name_that_is_not_text_is_refused_and_a_doc_string_passes(tmp_path: Path) -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"], "NAME", doc_string="DOCS")])
    data = model.SerializeToString()
    read(saved(tmp_path, data.replace(b"DOCS", b"\xb2\xe2\xca\xd4")))  # a path in GBK, as old exporters wrote
    for old in (b"NAME", b"\x01x\x12", b"Relu"):
        broken = data.replace(old, old[:-2] + b"\xff" + old[-1:] if len(old) == 4 else b"\x01\xff\x12", 1)
        assert "has a name that is not UTF-8 text" in refusal(saved(tmp_path, broken))
    assert "'Re\\xffu' of node 0" in refusal(saved(tmp_path, data.replace(b"Relu", b"Re\xffu")))


def test_damage_of_any_kind_ends_in_a_sentence(tmp_path: Path) -> None:
    draw = np.random.default_rng(11)
    whole = np.frombuffer(chain(2, 300).SerializeToString(), np.uint8)
    good = 0
    for _ in range(300):
        data = whole.copy()
        data[draw.integers(0, len(data) if draw.random() < 0.3 else 90, 2)] = draw.integers(0, 256, 2)
        try:
            read(saved(tmp_path, data[: draw.integers(1, 2 * len(data))].tobytes()))
            good += 1
        except GraphoptError as error:
            assert "\n" not in str(error)
    assert 10 < good < 290
