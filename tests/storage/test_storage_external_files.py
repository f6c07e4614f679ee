"""External files that will not do, and the maps of those that will."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto, TensorProto
from storage_models import (
    build,
    outside_tensor,
    save_external,
    unprivileged,
)

from graphopt.errors import BadModel, GraphoptError, OverLimit, Unsafe
from graphopt.limits import Limits
from graphopt.storage.external import Maps
from graphopt.storage.read import from_proto, read
from graphopt.storage.source import Source

SECRET = bytes(2000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a model, beside a file that is none of its business."""
    (tmp_path / "secret.bin").write_bytes(SECRET)
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def model_in(folder: Path, *tensors: TensorProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(build([], list(tensors)).SerializeToString())
    return path


def refusal(path: Path, kind: type[GraphoptError] = BadModel) -> str:
    with pytest.raises(kind) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def value(path: Path) -> bytes:
    return first(read(path))


def first(source: Source) -> bytes:
    """The bytes of the first initializer."""
    return bytes(source.store.payload(source.proto.graph.initializer[0]) or b"")


def test_a_missing_file_is_named_with_its_tensor_and_folder(folder: Path) -> None:
    said = refusal(model_in(folder, outside_tensor("w", "gone.bin")))
    assert "tensor 'w' has its values in external file 'gone.bin', which does not exist in" in said
    assert str(folder) in said


def test_a_location_that_is_no_name(folder: Path) -> None:
    assert "is not a file name" in refusal(model_in(folder, outside_tensor("w", "a\0b")))
    assert "does not say in which file" in refusal(model_in(folder, outside_tensor("w", "")))


def test_a_pipe_is_not_opened(folder: Path, opened: list[str]) -> None:
    os.mkfifo(folder / "w.bin")
    assert "which is not a regular file" in refusal(model_in(folder, outside_tensor("w", "w.bin")))
    assert not [path for path in opened if "w.bin" in path]


def test_a_folder_and_a_loop(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "loop").symlink_to("loop")
    assert "not a regular file" in refusal(model_in(folder, outside_tensor("w", "sub")))
    assert "not a regular file" in refusal(model_in(folder, outside_tensor("w", ".")))
    assert "leads back to itself" in refusal(model_in(folder, outside_tensor("w", "loop")))


def test_a_file_without_permission(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    path = model_in(folder, outside_tensor("w", "w.bin"))
    (folder / "w.bin").chmod(0)
    with unprivileged(folder):
        assert "cannot be read (Permission denied)" in refusal(path)


NUMBERS = {
    "beyond the end": ({"offset": 4}, "bytes 4 to 2004 of external file 'w.bin', which has 2000"),
    "far beyond the end": ({"offset": 2**63 - 1, "length": 2000}, "which has 2000"),
    "a short length": ({"length": 1996}, "needs 2000 bytes for its 500 elements but its data has 1996"),
    "a huge length": ({"length": 2**40}, f"its data has {2**40}"),
    "a negative offset": ({"offset": -4}, "offset '-4', which is not a byte count"),
    "a negative length": ({"length": -1}, "length '-1', which is not a byte count"),
    "no number": ({"offset": "0x10"}, "offset '0x10'"),
    "a number with a sign": ({"offset": "+0"}, "offset '+0'"),
    "spaces": ({"offset": " 0"}, "offset ' 0'"),
    "other digits": ({"offset": "\u0660"}, "which is not a byte count"),
    "too many digits": ({"offset": "0" * 5000}, "which is not a byte count"),
    "nothing": ({"length": ""}, "length ''"),
}


@pytest.mark.parametrize(("keys", "words"), NUMBERS.values(), ids=NUMBERS.keys())
def test_numbers_that_do_not_fit(folder: Path, keys: dict[str, Any], words: str) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    assert words in refusal(model_in(folder, outside_tensor("w", "w.bin", **keys)))


def test_a_key_given_twice_is_ambiguous(folder: Path) -> None:
    tensor = outside_tensor("w", "w.bin")
    tensor.external_data.add(key="location", value="../secret.bin")
    assert "gives 'location' of its external data twice" in refusal(model_in(folder, tensor))


def test_unknown_keys_mean_nothing(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    assert value(model_in(folder, outside_tensor("w", "w.bin", basepath="/", __class__="x"))) == SECRET


def test_values_in_two_places(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    tensor = outside_tensor("w", "w.bin")
    tensor.raw_data = SECRET
    assert "holds its values more than once" in refusal(model_in(folder, tensor))


def test_strings_cannot_be_outside(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    tensor = outside_tensor("w", "w.bin")
    tensor.data_type = TensorProto.STRING
    assert "its strings in an external file" in refusal(model_in(folder, tensor))


def test_packed_elements_are_counted_in_bits(folder: Path) -> None:
    (folder / "w.bin").write_bytes(SECRET)
    tensor = outside_tensor("w", "w.bin", count=3999, length=2000)
    tensor.data_type = TensorProto.INT4
    assert len(value(model_in(folder, tensor))) == 2000
    tensor.dims[0] = 4001
    assert "needs 2001 bytes" in refusal(model_in(folder, tensor))


def test_a_limit_on_all_files_together(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / name).write_bytes(SECRET)
    path = model_in(folder, outside_tensor("v", "a"), outside_tensor("w", "b"), outside_tensor("u", "a"))
    read(path, Limits(external_bytes=4000))
    with pytest.raises(OverLimit, match="external file 'b' brings the external data over the limit"):
        read(path, Limits(external_bytes=3999))


def test_hundreds_of_files_do_not_exhaust_descriptors(folder: Path) -> None:
    tensors = []
    for index in range(300):
        (folder / f"w{index}").write_bytes(index.to_bytes(4, "little") * 500)
        tensors.append(outside_tensor(f"w{index}", f"w{index}"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    source = read(model_in(folder, *tensors))
    for index, tensor in enumerate(source.proto.graph.initializer):
        assert bytes(source.store.payload(tensor) or b"") == index.to_bytes(4, "little") * 500
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 80


def test_a_file_that_was_changed_is_not_taken_for_the_one_that_was_checked(folder: Path) -> None:
    source = read(save_external(folder))
    (file,) = source.external
    (folder / "new").write_bytes(bytes(6000))
    (folder / "new").rename(folder / "in.data")
    assert first(source) != bytes(2000)  # the one that was mapped
    with pytest.raises(BadModel, match=r"'in\.data' was changed while the model was in use"):
        Maps().view(file)
    (folder / "in.data").unlink()
    with pytest.raises(BadModel, match=r"'in\.data', which does not exist"):
        Maps().view(file)


def test_a_model_from_memory_reads_its_folder_by_the_same_rules(folder: Path) -> None:
    model = ModelProto.FromString(save_external(folder).read_bytes())
    source = from_proto(model, folder)
    assert first(source) == (folder / "in.data").read_bytes()[:2000]
    with pytest.raises(BadModel, match="the model came without a folder"):
        from_proto(model)
    model.graph.initializer[0].CopyFrom(outside_tensor("w0", "../secret.bin"))
    with pytest.raises(Unsafe):
        from_proto(model, folder)
