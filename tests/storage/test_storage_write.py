"""Writing: what lands where, what is never touched, and that readers find the old or the new, whole."""

from __future__ import annotations

import os
import re
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from storage_models import build, chain, outside_tensor, save_external, unprivileged, whole

from graphopt.errors import GraphoptError, InternalError, OverLimit, Unsafe, UsageError
from graphopt.ir.tensors import to_tensor_proto
from graphopt.storage.read import from_proto, read
from graphopt.storage.source import Source
from graphopt.storage.write import Staged, Written, stage


def saved(path: Path, model: ModelProto | None = None) -> Source:
    path.write_bytes((model or chain()).SerializeToString())
    return read(path)


def edited(source: Source, producer: str = "edited") -> ModelProto:
    model = ModelProto()
    model.CopyFrom(source.proto)
    model.producer_name = producer
    return model


def put(target: Path, source: Source, model: ModelProto | None = None, **options: Any) -> Written:
    external = options.pop("external", "auto")
    with stage(target, source=source, **options) as staged:
        staged.put(model or edited(source), source.store, external)
        return staged.commit()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))  # noqa: PTH208


def locations(path: Path) -> dict[str, str]:
    """Initializer name -> its external file, "" when embedded."""
    model = onnx.load(str(path), load_external_data=False)
    return {
        tensor.name: next((e.value for e in tensor.external_data if e.key == "location"), "")
        for tensor in model.graph.initializer
    }


def same_values(path: Path, other: ModelProto) -> None:
    """`path`, read by onnx, says what `other` says, wherever its values are."""
    onnx.checker.check_model(str(path))
    assert plain(whole(path)) == plain(other)


def plain(model: ModelProto) -> ModelProto:
    """A copy without the producer, and without the traces that onnx leaves when it loads values."""
    copy: ModelProto = ModelProto.FromString(model.SerializeToString())
    copy.ClearField("producer_name")
    attributes = [attribute for node in copy.graph.node for attribute in node.attribute]
    for tensor in (*copy.graph.initializer, *(one.t for one in attributes if one.HasField("t"))):
        tensor.ClearField("data_location")
    return copy


# ---------------------------------------------------------------- where values go


def test_what_is_embedded_stays_embedded_and_comes_out_canonical(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    written = put(tmp_path / "out.onnx", source)
    expected = chain()
    expected.producer_name = "edited"
    assert (tmp_path / "out.onnx").read_bytes() == expected.SerializeToString()
    assert written == Written(tmp_path / "out.onnx", (), (tmp_path / "out.onnx").stat().st_size)
    assert names(tmp_path) == ["in.onnx", "out.onnx"]


def test_what_is_external_stays_external_in_one_file_of_its_own(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    written = put(tmp_path / "out.onnx", source)
    assert set(locations(tmp_path / "out.onnx").values()) == {"out.onnx.data"}
    assert written.sidecars == (tmp_path / "out.onnx.data",)
    assert written.bytes == sum((tmp_path / name).stat().st_size for name in ("out.onnx", "out.onnx.data"))
    same_values(tmp_path / "out.onnx", whole(tmp_path / "in.onnx"))


def test_never_and_always(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "a.onnx", source, external="always")
    assert set(locations(tmp_path / "a.onnx").values()) == {"a.onnx.data"}
    constant = onnx.load(str(tmp_path / "a.onnx"), load_external_data=False).graph.node[0].attribute[0].t
    assert constant.data_location == TensorProto.EXTERNAL
    same_values(tmp_path / "a.onnx", chain())
    back = read(tmp_path / "a.onnx")
    put(tmp_path / "b.onnx", back, back.proto, external="never")
    expected = chain()
    expected.producer_name = "edited"
    assert (tmp_path / "b.onnx").read_bytes() == expected.SerializeToString()


@pytest.mark.parametrize("external", [False, True])
def test_new_values_go_where_most_are(tmp_path: Path, external: bool) -> None:
    source = read(save_external(tmp_path)) if external else saved(tmp_path / "in.onnx")
    model, store = edited(source), source.store.overlay()
    array = np.full(500, 7, np.float32)
    model.graph.initializer.append(to_tensor_proto("new", array, store))
    model.graph.initializer.append(to_tensor_proto("tiny", array[:3], store))
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.put(model, store)
        staged.commit()
    found = locations(tmp_path / "out.onnx")
    assert found["new"] == ("out.onnx.data" if external else "")
    assert found["tiny"] == ""
    values = {t.name: numpy_helper.to_array(t) for t in whole(tmp_path / "out.onnx").graph.initializer}
    assert np.array_equal(values["new"], array)


def test_a_model_beyond_the_limit_lets_its_initializers_out_by_itself(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, embedded_limit=source.size - 1)
    assert set(locations(tmp_path / "out.onnx").values()) == {"out.onnx.data"}
    node = onnx.load(str(tmp_path / "out.onnx"), load_external_data=False).graph.node[0]
    assert node.attribute[0].t.raw_data
    same_values(tmp_path / "out.onnx", chain())


def test_when_that_is_not_enough_attributes_follow(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, embedded_limit=1500)
    node = onnx.load(str(tmp_path / "out.onnx"), load_external_data=False).graph.node[0]
    assert node.attribute[0].t.data_location == TensorProto.EXTERNAL
    same_values(tmp_path / "out.onnx", chain())


def test_a_model_that_cannot_be_made_small_enough_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    with pytest.raises(OverLimit, match="nothing more of it can be external data"):
        put(tmp_path / "out.onnx", source, embedded_limit=100)
    with pytest.raises(OverLimit, match="allow external data"):
        put(tmp_path / "out.onnx", source, embedded_limit=5000, external="never")
    assert names(tmp_path) == ["in.onnx"]


def test_just_within_the_limit_nothing_goes_out(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    references = 4 * 150  # they count too while they are in place of the values
    put(tmp_path / "out.onnx", source, source.proto, embedded_limit=source.size + references)
    assert set(locations(tmp_path / "out.onnx").values()) == {""}


def test_tensors_that_share_bytes_go_on_sharing_them(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(range(200)) * 10)
    tied = [outside_tensor(name, "w.bin", size, length=4 * size) for name, size in (("a", 500), ("b", 500), ("c", 250))]
    source = saved(tmp_path / "in.onnx", build([], tied))
    put(tmp_path / "out.onnx", source)
    assert (tmp_path / "out.onnx.data").stat().st_size < 2000 + 64 + 1000 + 1
    assert plain(whole(tmp_path / "out.onnx")) == plain(whole(tmp_path / "in.onnx"))


def test_large_tensors_begin_where_a_file_can_be_mapped(tmp_path: Path) -> None:
    sizes = {"tiny": 300, "page": 20_000, "large": 300_000}
    tensors = [numpy_helper.from_array(np.ones(size, np.float32), name) for name, size in sizes.items()]
    source = saved(tmp_path / "in.onnx", build([], [*tensors, *tensors[::-1]]))
    put(tmp_path / "out.onnx", source, external="always")
    model = onnx.load(str(tmp_path / "out.onnx"), load_external_data=False)
    steps = {"tiny": 64, "page": 4096, "large": 65536}
    for tensor in model.graph.initializer:
        offset = int({e.key: e.value for e in tensor.external_data}["offset"])
        assert offset % steps[tensor.name] == 0
    assert plain(whole(tmp_path / "out.onnx")) == plain(whole(tmp_path / "in.onnx"))


def test_an_external_tensor_without_elements_is_embedded(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"")
    source = saved(tmp_path / "in.onnx", build([], [outside_tensor("w", "w.bin", count=0)]))
    put(tmp_path / "out.onnx", source)
    assert names(tmp_path) == ["in.onnx", "out.onnx", "w.bin"]
    assert numpy_helper.to_array(whole(tmp_path / "out.onnx").graph.initializer[0]).shape == (0,)


def test_explicit_locations_come_out_as_they_were(tmp_path: Path) -> None:
    model = chain()
    model.graph.initializer[0].data_location = TensorProto.DEFAULT
    source = saved(tmp_path / "in.onnx", model)
    put(tmp_path / "out.onnx", source, source.proto)
    assert (tmp_path / "out.onnx").read_bytes() == model.SerializeToString()


# ---------------------------------------------------------------- copies


def test_an_unchanged_model_is_copied_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    path.write_bytes(chain().SerializeToString() + b"\x08\x08")  # not canonical: a field twice
    source = read(path)
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes() != source.proto.SerializeToString()


def test_in_the_same_folder_a_copy_shares_the_external_file(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, data="sub/in.data"))
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.copy(source)
        same_values(staged.path, whole(tmp_path / "in.onnx"))
        written = staged.commit()
    assert names(tmp_path) == ["in.onnx", "out.onnx", "sub"]
    assert written.sidecars == (tmp_path / "sub/in.data",)
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()
    assert (tmp_path / "sub/in.data").stat().st_nlink == 1


def test_in_another_folder_a_copy_brings_the_external_file(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, data="sub/in.data"))
    other = tmp_path / "other"
    other.mkdir()
    with stage(other / "out.onnx", source=source) as staged:
        staged.copy(source)
        same_values(staged.path, whole(tmp_path / "in.onnx"))
        staged.commit()
    assert names(other) == ["out.onnx", "sub"]
    assert (other / "sub/in.data").read_bytes() == (tmp_path / "sub/in.data").read_bytes()
    assert (other / "out.onnx").read_bytes() == (tmp_path / "in.onnx").read_bytes()
    same_values(other / "out.onnx", whole(tmp_path / "in.onnx"))


def test_a_copy_does_not_take_a_name_that_is_somebody_elses(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    (other / "in.data").write_bytes(b"somebody else's")
    with stage(other / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert (other / "in.data").read_bytes() == b"somebody else's"
    assert set(locations(other / "out.onnx").values()) == {"out.onnx.data"}
    same_values(other / "out.onnx", whole(tmp_path / "in.onnx"))


def test_a_copy_goes_through_no_link_of_the_target_folder(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, data="sub/in.data"))
    other, outside = tmp_path / "other", tmp_path / "outside"
    other.mkdir()
    outside.mkdir()
    (other / "sub").symlink_to(outside)
    with stage(other / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert names(outside) == []
    same_values(other / "out.onnx", whole(tmp_path / "in.onnx"))


def test_a_copy_named_as_its_own_data(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, data="m.onnx"))
    other = tmp_path / "other"
    other.mkdir()
    with stage(other / "m.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert names(other) == ["m.onnx", "m.onnx.data"]
    same_values(other / "m.onnx", whole(tmp_path / "in.onnx"))


def test_two_spellings_of_one_external_file_are_copied_once(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(2000))
    tensors = [outside_tensor("a", "w.bin"), outside_tensor("b", "./w.bin")]
    source = saved(tmp_path / "in.onnx", build([], tensors))
    other = tmp_path / "other"
    other.mkdir()
    with stage(other / "m.onnx", source=source) as staged:
        staged.copy(source)
        assert staged.commit().sidecars == (other / "w.bin",)


def test_a_copy_of_a_model_from_memory_is_its_canonical_form(tmp_path: Path) -> None:
    source = from_proto(chain())
    with stage(tmp_path / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert (tmp_path / "out.onnx").read_bytes() == chain().SerializeToString()


# ---------------------------------------------------------------- names of external files


def test_a_stranger_with_our_name_is_left_alone(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "out.onnx.data").write_bytes(b"somebody else's")
    put(tmp_path / "out.onnx", source, external="always")
    (name,) = set(locations(tmp_path / "out.onnx").values())
    assert re.fullmatch(r"out\.onnx\.[0-9a-f]{8}\.data", name)
    assert (tmp_path / "out.onnx.data").read_bytes() == b"somebody else's"
    same_values(tmp_path / "out.onnx", chain())


def test_writing_again_gives_the_same_bytes_and_leaves_no_second_file(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, external="always")
    before = (tmp_path / "out.onnx").read_bytes()
    put(tmp_path / "out.onnx", source, external="always")
    assert (tmp_path / "out.onnx").read_bytes() == before
    assert names(tmp_path) == ["in.onnx", "out.onnx", "out.onnx.data"]


def different(source: Source) -> ModelProto:
    model = edited(source)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros(500, np.float32), "w0"))
    return model


def test_the_external_file_of_a_replaced_output_goes_when_nobody_needs_it(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, external="always")
    put(tmp_path / "out.onnx", source, different(source), external="always")
    (name,) = set(locations(tmp_path / "out.onnx").values())
    assert names(tmp_path) == sorted(["in.onnx", "out.onnx", name])
    put(tmp_path / "out.onnx", source)
    assert names(tmp_path) == ["in.onnx", "out.onnx"]


def test_it_stays_when_another_model_mentions_it(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, external="always")
    (tmp_path / "copy.onnx").write_bytes((tmp_path / "out.onnx").read_bytes())
    put(tmp_path / "out.onnx", source)
    same_values(tmp_path / "copy.onnx", chain())


def test_external_files_of_other_names_stay(tmp_path: Path) -> None:
    source = saved(tmp_path / "other.onnx")
    save_external(tmp_path, "out.onnx", "weights.bin")
    put(tmp_path / "out.onnx", source)
    assert names(tmp_path) == ["other.onnx", "out.onnx", "weights.bin"]


def test_the_inputs_external_file_stays_whatever_it_is_called(tmp_path: Path) -> None:
    source = read(save_external(tmp_path, "in.txt", "out.onnx.data"))  # no suffix by which to find it
    save_external(tmp_path, "out.onnx", "out.onnx.data")
    put(tmp_path / "out.onnx", source, external="never")
    assert names(tmp_path) == ["in.txt", "out.onnx", "out.onnx.data"]
    same_values(tmp_path / "out.onnx", whole(tmp_path / "in.txt"))


# ---------------------------------------------------------------- in place


def test_in_place_only_when_asked(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    before = (tmp_path / "in.onnx").read_bytes()
    os.link(tmp_path / "in.onnx", tmp_path / "hard.onnx")
    (tmp_path / "soft.onnx").symlink_to("in.onnx")
    for name in ("in.onnx", "hard.onnx", "soft.onnx", "../" + tmp_path.name + "/in.onnx"):
        with pytest.raises(UsageError, match=r"is the input itself; .* --in-place"):
            put(tmp_path / name, source)
    assert (tmp_path / "in.onnx").read_bytes() == before
    put(tmp_path / "in.onnx", source, in_place=True)
    assert (tmp_path / "in.onnx").read_bytes() != before
    assert (tmp_path / "hard.onnx").read_bytes() == before


def test_in_place_again_and_again_with_the_same_source(tmp_path: Path) -> None:
    save_external(tmp_path, "m.onnx", "m.onnx.data")
    reference = whole(tmp_path / "m.onnx")
    source = read(tmp_path / "m.onnx")
    for model in (different(source), edited(source), different(source)):
        put(tmp_path / "m.onnx", source, model, in_place=True)
        assert len(names(tmp_path)) == 2
    put(tmp_path / "m.onnx", source, edited(source), in_place=True)
    same_values(tmp_path / "m.onnx", reference)


def test_the_external_data_of_the_input_is_never_a_target(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    os.link(tmp_path / "in.data", tmp_path / "hard.onnx")
    (tmp_path / "soft.onnx").symlink_to("in.data")
    for name in ("in.data", "hard.onnx", "soft.onnx"):
        for in_place in (False, True):
            with pytest.raises(Unsafe, match="holds external data of the input"):
                put(tmp_path / name, source, in_place=in_place)


def test_the_input_is_never_opened_for_writing(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    for name in ("in.onnx", "in.data"):
        (tmp_path / name).chmod(0o444)
    stamps = [(tmp_path / name).stat() for name in ("in.onnx", "in.data")]
    put(tmp_path / "out.onnx", source)
    with stage(tmp_path / "copy.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    after = [(tmp_path / name).stat() for name in ("in.onnx", "in.data")]
    assert [(s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in stamps] == [
        (s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in after
    ]


# ---------------------------------------------------------------- targets


def target_refusal(target: Path, source: Source, kind: type[GraphoptError] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        put(target, source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    assert "it is a directory" in target_refusal(tmp_path / "folder", source)
    assert "there is no folder" in target_refusal(tmp_path / "none/out.onnx", source)
    assert "there is no folder" in target_refusal(tmp_path / "in.onnx/out.onnx", source)
    assert "it is not a regular file" in target_refusal(tmp_path / "pipe", source)
    assert "it is not a regular file" in target_refusal(Path("/dev/null"), source)
    assert "cannot write" in target_refusal(tmp_path / "loop", source)
    assert "not a file name" in target_refusal(tmp_path / "a\0b", source)
    assert "file name too long" in target_refusal(tmp_path / ("n" * 300), source).lower()


def test_targets_without_permission(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o555)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open/out.onnx").write_bytes(b"old")
    (tmp_path / "open/out.onnx").chmod(0o444)
    with unprivileged(tmp_path):
        assert "no permission to write in" in target_refusal(tmp_path / "closed/out.onnx", source)
        assert "the file is write-protected" in target_refusal(tmp_path / "open/out.onnx", source)
    assert (tmp_path / "open/out.onnx").read_bytes() == b"old"


def test_a_link_as_target_is_followed(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "real").mkdir()
    (tmp_path / "real/out.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to("real/out.onnx")
    put(tmp_path / "link.onnx", source)
    assert (tmp_path / "link.onnx").is_symlink()
    assert names(tmp_path / "real") == ["out.onnx"]
    same_values(tmp_path / "real/out.onnx", chain())


def test_through_a_link_into_another_folder_no_external_data_is_written(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    (tmp_path / "real").mkdir()
    (tmp_path / "link.onnx").symlink_to("real/out.onnx")
    (tmp_path / "near.onnx").symlink_to("out.onnx")
    with pytest.raises(UsageError, match=r"would not find the model's external data; write to '.*/real/out\.onnx'"):
        put(tmp_path / "link.onnx", source, external="always")
    assert names(tmp_path / "real") == []
    put(tmp_path / "near.onnx", source, external="always")
    same_values(tmp_path / "near.onnx", chain())


def test_permissions_are_those_of_any_new_file_or_of_the_file_replaced(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    old = os.umask(0o027)
    try:
        put(tmp_path / "out.onnx", source, external="always")
        assert stat.S_IMODE((tmp_path / "out.onnx").stat().st_mode) == 0o640
        assert stat.S_IMODE((tmp_path / "out.onnx.data").stat().st_mode) == 0o640
        (tmp_path / "out.onnx").chmod(0o604)
        put(tmp_path / "out.onnx", source)
        assert stat.S_IMODE((tmp_path / "out.onnx").stat().st_mode) == 0o604
    finally:
        os.umask(old)


# ---------------------------------------------------------------- staging


def test_the_staged_model_is_complete_before_anybody_sees_it(tmp_path: Path) -> None:
    source = read(save_external(tmp_path))
    with stage(tmp_path / "out.onnx", source=source) as staged:
        assert isinstance(staged, Staged)
        checked = staged.put(edited(source), source.store)
        assert checked.path == staged.path
        same_values(staged.path, whole(tmp_path / "in.onnx"))
        assert not (tmp_path / "out.onnx").exists()
        assert not (tmp_path / "out.onnx.data").exists()
    assert names(tmp_path) == ["in.data", "in.onnx"]


def test_an_error_in_the_block_leaves_nothing(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    with pytest.raises(KeyboardInterrupt), stage(tmp_path / "out.onnx", source=source) as staged:
        staged.put(source.proto, source.store, "always")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["in.onnx"]


def test_misuse_is_noticed(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    with stage(tmp_path / "out.onnx", source=source) as staged:
        with pytest.raises(InternalError, match="no staged model"):
            staged.commit()
        staged.put(source.proto, source.store)
        with pytest.raises(InternalError, match="written already"):
            staged.copy(source)
        staged.commit()
        with pytest.raises(InternalError, match="no staged model"):
            staged.commit()


def test_a_file_that_reads_back_differently_is_not_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path / "in.onnx")
    fsync = os.fsync

    def spoil(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if path.is_file():
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(InternalError, match="does not read back as it was written"):
        put(tmp_path / "out.onnx", source)
    assert names(tmp_path) == ["in.onnx"]


# ---------------------------------------------------------------- failures on the way


def failing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: OSError, after: int = 0) -> None:
    """Let the call number `after` (from 0) of `owner.name` fail."""
    real: Callable[..., Any] = getattr(owner, name)
    calls = iter(range(1000))

    def maybe(*arguments: Any, **options: Any) -> Any:
        if next(calls) == after:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, maybe)


FULL = OSError(28, "No space left on device")
INPUT_OUTPUT = OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("owner", "name", "after", "error", "kind", "words"),
    [
        (os, "fsync", 0, FULL, OverLimit, "no space left on device; make room"),
        (os, "fsync", 1, INPUT_OUTPUT, UsageError, "input/output error; nothing was changed"),
        (os, "link", 0, FileExistsError(17, "File exists"), UsageError, "file exists; nothing was changed"),
        (os, "fsync", 2, INPUT_OUTPUT, UsageError, "input/output error; nothing was changed"),
        (Path, "replace", 0, INPUT_OUTPUT, UsageError, "input/output error; nothing was changed"),
        (Path, "mkdir", 0, OSError(30, "Read-only file system"), UsageError, "read-only file system"),
    ],
)
def test_an_error_at_any_step_keeps_the_old_model_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    after: int,
    error: OSError,
    kind: type[GraphoptError],
    words: str,
) -> None:
    source = saved(tmp_path / "in.onnx")
    put(tmp_path / "out.onnx", source, external="always")
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with monkeypatch.context() as patch:
        failing(patch, owner, name, error, after)
        with pytest.raises(kind, match=words):
            put(tmp_path / "out.onnx", source, different(source), external="always")
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_without_hard_links_a_rename_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path / "in.onnx")
    failing(monkeypatch, os, "link", OSError(95, "Operation not supported"))
    put(tmp_path / "out.onnx", source, external="always")
    same_values(tmp_path / "out.onnx", chain())


def test_folders_made_for_external_files_go_again_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(save_external(tmp_path, data="sub/deep/in.data"))
    other = tmp_path / "other"
    other.mkdir()
    failing(monkeypatch, Path, "replace", INPUT_OUTPUT)
    with pytest.raises(UsageError), stage(other / "out.onnx", source=source) as staged:
        staged.copy(source)
        staged.commit()
    assert names(other) == []


def test_a_file_too_large_for_the_system(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OverLimit, match="file too large; make room or choose another output"):
            put(tmp_path / "out.onnx", source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["in.onnx"]


def test_an_external_file_that_appears_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.onnx")
    with (
        pytest.raises(UsageError, match="has appeared in the meantime; run again"),
        stage(tmp_path / "out.onnx", source=source) as staged,
    ):
        staged.put(source.proto, source.store, "always")
        (tmp_path / "out.onnx.data").write_bytes(b"somebody else's")
        staged.commit()
    assert names(tmp_path) == ["in.onnx", "out.onnx.data"]
    assert (tmp_path / "out.onnx.data").read_bytes() == b"somebody else's"


def test_bodies_keep_their_values(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.arange(500, dtype=np.float32), "bw")
    output = helper.make_tensor_value_info("b", TensorProto.FLOAT, [500])
    body = helper.make_graph([helper.make_node("Identity", ["bw"], ["b"])], "b", [], [output], [weight])
    model = build([helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)])
    source = saved(tmp_path / "in.onnx", model)
    for external in ("auto", "always"):
        put(tmp_path / f"{external}.onnx", source, source.proto, external=external)
        back = read(tmp_path / f"{external}.onnx")
        put(tmp_path / f"{external}-back.onnx", back, back.proto, external="never")
        assert (tmp_path / f"{external}-back.onnx").read_bytes() == model.SerializeToString()
