"""The report file: written whole or not at all, and read with a sentence for everything wrong with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from page_text import page

from graphopt.errors import OverLimit, UsageError
from graphopt.report.explanation import explain, print_story
from graphopt.report.saved import check_place, read_report, save


def remark(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "applied", "pass_name": "fuse", "rule": "pair", "node": "conv", "op": "Conv", "why": "", "number": 1,
        "step": 0, "scope": "", "before": ["a", "b"], "after": ["c"], **changes,
    }  # fmt: skip


def data(*remarks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    origins = {"c": ["a", "b"]}
    return {"format": 1, "before": {"path": "m.onnx"}, "remarks": list(remarks), "origins": origins, **changes}


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is not JSON (it is empty)"),
        ("{", "is not JSON (Expecting property name"),
        ("[" * 100_000, "is nested too deeply to be a report"),
        ("[]", "is no report of `graphopt optimize`"),
        ("{}", "is no report of `graphopt optimize`"),
        (data(format=2), "has the format 2 and this graphopt reads 1"),
        (data(format=None), "has the format None"),
        (data(remarks={}), "is damaged: 'remarks' is not a list"),
        (data(origins=[]), "is damaged: its origins are not an object"),
        (data(origins={"c": "a"}), "is damaged: 'origins' is not a list"),
        (data(origins={"c": [1]}), "is damaged: 'origins' holds something that is no name"),
        (data("x"), "is damaged: a remark is not an object"),  # type: ignore[arg-type]
        (data({"kind": "applied"}), "is damaged: a remark has no text 'pass_name'"),
        (data(remark(node=3)), "is damaged: a remark has no text 'node'"),
        (data(remark(kind="dreamt")), "is damaged: a remark has the kind 'dreamt'"),
        (data(remark(number="1")), "is damaged: a remark has a number that is none"),
        (data(remark(number=True)), "is damaged: a remark has a number that is none"),
        (data(remark(step=None)), "is damaged: a remark has a number that is none"),
        (data(remark(before="a")), "is damaged: 'before' is not a list"),
        (data(remark(after=[None])), "is damaged: 'after' holds something that is no name"),
    ],
)
def test_a_file_that_is_no_report_gets_a_sentence(tmp_path: Path, content: Any, why: str) -> None:
    path = written(tmp_path / "r.json", content)
    with pytest.raises(UsageError) as raised:
        read_report(path)
    assert str(raised.value).startswith(f"report {str(path)!r} {why}")
    assert "\n" not in str(raised.value)


def test_what_is_no_file_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (
        ("no.json", "does not exist; `graphopt optimize --report FILE` writes one"),
        (".", "is a folder; name the file"),
        ("binary", "is not text; name the file"),
        ("pipe", "is not a regular file"),
        ("nul\0byte", ""),
    ):
        with pytest.raises(UsageError, match="report .* " + why):
            read_report(tmp_path / name)


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    save(tmp_path / "r.json", data(remark(), remark(kind="missed", number=None, why="it is read")))
    found = read_report(tmp_path / "r.json")
    assert found.model == "m.onnx"
    assert [one.kind for one in found.remarks] == ["applied", "missed"]
    assert found.remarks[0].before == ("a", "b")
    assert found.origins == {"c": ("a", "b")}


def test_a_report_follows_a_link_and_gets_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    mask = os.umask(0o027)
    try:
        save(tmp_path / "link.json", data())
    finally:
        os.umask(mask)
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").stat().st_mode & 0o777 == 0o640


def test_a_report_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    path = written(tmp_path / "r.json", "older")
    with pytest.raises(TypeError):
        save(path, {"set": {1, 2}})
    assert path.read_text() == "older"
    assert [one.name for one in tmp_path.iterdir()] == ["r.json"]


def test_a_full_disk_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OverLimit, match=r"cannot write the report .*: no space left on device; the run itself is done"):
        save(tmp_path / "r.json", data())
    assert list(tmp_path.iterdir()) == []


def test_the_place_of_a_report_is_checked_before_the_run(tmp_path: Path) -> None:
    model = written(tmp_path / "m.onnx", "model")
    os.link(model, tmp_path / "same.onnx")
    check_place(tmp_path / "new.json", [("the input", model)])
    for path in (model, tmp_path / "same.onnx", tmp_path / "." / "m.onnx"):
        with pytest.raises(UsageError, match="this is the input; choose another file for the report"):
            check_place(path, [("the input", model)])
    with pytest.raises(UsageError, match="cannot be written"):
        check_place(tmp_path / "a\0b")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["m.onnx", "same.onnx"]


def test_a_folder_that_takes_no_files_is_refused_before_the_run() -> None:
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc on this system")
    with pytest.raises(UsageError, match="nothing can be written in '/proc'"):
        check_place(Path("/proc/report.json"))


REMARKS = (
    remark(),
    remark(kind="disabled", node="relu", number=2, before=[], after=[]),
    remark(kind="missed", node="conv", number=None, why="it is read twice", before=[], after=[], scope="if.then"),
    remark(kind="missed", node="gemm", number=None, why="its shape is unknown", before=[], after=[]),
)


def story(tmp_path: Path, name: str) -> str:
    saved = read_report(written(tmp_path / "r.json", data(*REMARKS)))
    return page(lambda console: print_story(explain(saved, name), console))


def test_the_story_of_a_value_that_went(tmp_path: Path) -> None:
    text = story(tmp_path, "a")
    assert text.startswith(
        "a\n  c now stands for it\n\ntouched by\n  fuse:1 pair on conv\n    before a, b\n    after  c"
    )


def test_the_story_of_a_value_that_came(tmp_path: Path) -> None:
    assert "  stands for a, b\n" in story(tmp_path, "c")


def test_a_value_that_kept_its_name_does_not_stand_for_itself(tmp_path: Path) -> None:
    saved = read_report(written(tmp_path / "r.json", data(remark(), origins={"c": ["c", "a"]})))
    told = explain(saved, "c")
    assert (told.stands_for, told.now) == (("a",), ())


def test_the_story_of_a_node_in_the_main_graph_and_in_a_body(tmp_path: Path) -> None:
    text = story(tmp_path, "conv")
    assert "fuse:1 pair on conv" in text
    assert "nearly touched by\n  fuse pair on if.then/conv because it is read twice" in text
    assert "fuse:1" not in story(tmp_path, "if.then/conv")
    assert "switched off\n  fuse:2 pair on relu" in story(tmp_path, "relu")


def test_the_story_of_one_rewrite(tmp_path: Path) -> None:
    assert "switched off\n  fuse:2 pair on relu" in story(tmp_path, "fuse:2")


def test_a_name_that_nobody_mentioned(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the report of 'm\.onnx' says nothing about 'gem'.*; did you mean 'gemm'\?"):
        story(tmp_path, "gem")
    with pytest.raises(UsageError, match=r"no pass touched it or nearly did, or the model has no node"):
        story(tmp_path, "fuse:9")


def test_many_names_are_cut(tmp_path: Path) -> None:
    many = remark(before=[f"v{i}" for i in range(32)], after=[])
    saved = read_report(written(tmp_path / "r.json", data(many, origins={})))
    text = page(lambda console: print_story(explain(saved, "conv"), console))
    assert "v8 and 23 more" in text
    assert "v31" in page(lambda console: print_story(explain(saved, "conv"), console, 1))


def test_what_was_missed_under_another_name_is_part_of_the_story(tmp_path: Path) -> None:
    """`a` went into `c`, and what makes `c` nearly went on to be fused."""
    later = remark(kind="missed", node="fused", number=None, before=[], after=[], values=["c"], why="c is read twice")
    other = remark(
        kind="missed", node="other", number=None, before=[], after=[], values=["z"], why="z is a graph output"
    )
    saved = read_report(written(tmp_path / "r.json", data(remark(), later, other)))
    for name in ("a", "conv"):
        story = explain(saved, name)
        assert [one.why for one in story.under_other_names] == ["c is read twice"]
        assert story.missed == ()
        shown = page(lambda console, story=story: print_story(story, console))  # type: ignore[misc]
        assert "nearly touched or switched off under another name" in shown
        assert "fuse pair on fused because c is read twice" in shown
    assert [one.why for one in explain(saved, "c").missed] == ["c is read twice"]
    assert explain(saved, "c").under_other_names == ()


def test_values_of_a_report_are_names(tmp_path: Path) -> None:
    path = written(tmp_path / "r.json", data(remark(values="a")))
    with pytest.raises(UsageError, match="is damaged: 'values' is not a list"):
        read_report(path)
