"""How a run ends when something goes wrong: exit codes, sentences, tracebacks, pipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from command_lines import Cli
from google.protobuf.message import EncodeError

from graphopt.errors import OUT_OF_MEMORY, InternalError, NotEquivalent


def deep(levels: int) -> bytes:
    """A model of `If` in `If` in `If`, more deeply than protobuf itself would make."""

    def field(number: int, content: bytes) -> bytes:
        length, size = b"", len(content)
        while size >= 128:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    graph = b""
    for _ in range(levels):  # GraphProto.node, NodeProto.attribute, AttributeProto.g
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(2, b"y") + field(4, b"If") + field(5, attribute))
    return b"\x08\x0a" + field(8, b"\x10\x15") + field(7, graph)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "beginning"),
    [
        (b"", "'m.onnx' is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "'m.onnx' is a "),
        (b"<!DOCTYPE html><html></html>", "'m.onnx' is "),
        (b"\xff" * 50, "'m.onnx' "),
    ],
)
@pytest.mark.parametrize(
    "command", [("optimize", "m.onnx", "-o", "o.onnx"), ("inspect", "m.onnx"), ("validate", "m.onnx", "m.onnx")]
)
def test_a_bad_model_ends_with_3(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, beginning: str, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "m.onnx", content)
    ran = cli(*command)
    assert ran.code == 3
    assert ran.sentence.startswith(beginning)


def test_what_is_unsafe_ends_with_4(cli: Cli, net: Path, tmp_path: Path) -> None:
    made = onnx.load(net)
    weight = made.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    onnx.save(made, tmp_path / "odd.onnx")
    ran = cli("inspect", tmp_path / "odd.onnx")
    assert ran.code == 4
    assert "../../etc/passwd" in ran.sentence


def test_what_is_over_a_limit_ends_with_5(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "deep.onnx", deep(40))
    ran = cli("inspect", tmp_path / "deep.onnx")
    assert ran.code == 5
    assert "nested" in ran.sentence


def test_a_fault_of_ours_is_one_sentence_that_says_what_to_do(
    cli: Cli, net: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("two\nlines and \x1b[31mred")

    monkeypatch.setattr("graphopt.session.run.run", broken)
    command = ("optimize", net, "-o", tmp_path / "out.onnx")
    ran = cli(*command)
    assert ran.code == 70
    said = r"internal error (RuntimeError: two lines and \x1b[31mred)"
    assert ran.sentence == f"{said}; run it again with --debug to see where"
    debugged = cli(*command, "--debug")
    assert debugged.code == 70
    assert "Traceback (most recent call last)" in debugged.err
    assert debugged.err.endswith(f"graphopt: {said}\n")
    assert cli(*command, "--json").json == {"error": ran.sentence, "exit_code": 70}


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (NotEquivalent("it differs."), 1, "it differs"),
        (InternalError("the pass x failed"), 70, "the pass x failed; run it again with --debug to see where"),
        (MemoryError(), 5, OUT_OF_MEMORY),
        (EncodeError("Failed to serialize proto"), 5, OUT_OF_MEMORY),
        (SystemError("<method 'add' of 'google._upb._message.X' objects> returned NULL"), 5, OUT_OF_MEMORY),
        (EOFError("the end"), 70, "internal error (EOFError: the end); run it again with --debug to see where"),
        (
            SystemExit(0),
            70,
            "code that graphopt called ended the program (sys.exit(0)); run it again with --debug to see where",
        ),
        (KeyboardInterrupt(), 130, "interrupted; 'OUT' was not written"),
    ],
)
def test_every_end_has_its_exit_code(
    cli: Cli, net: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, sentence: str
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("graphopt.session.run.run", broken)
    ran = cli("optimize", net, "-o", "OUT")
    assert (ran.code, ran.sentence) == (code, sentence)


def test_a_known_failure_shows_its_traceback_only_with_debug(cli: Cli) -> None:
    assert "Traceback" not in cli("inspect", "no.onnx").err
    assert "Traceback" in cli("inspect", "no.onnx", "--debug").err


def test_what_the_user_s_own_code_prints_stays_out_of_the_json(
    cli: Cli, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatty.py").write_text(
        "def metric(outputs, labels):\n    print('chatter', flush=True)\n    return 1.0\n"
    )
    monkeypatch.chdir(tmp_path)
    ran = cli("optimize", net, "-o", "out.onnx", "--metric", "chatty:metric", "--json")
    assert ran.json["verdict"]["metric"]["after"] == 1.0
    assert "chatter" in ran.err


def test_code_of_the_user_that_exits_is_no_success(
    cli: Cli, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quitter.py").write_text("import sys\ndef metric(outputs, labels):\n    sys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    ran = cli("optimize", net, "-o", "out.onnx", "--metric", "quitter:metric")
    assert ran.code == 2 and "raised SystemExit" in ran.err
    assert not (tmp_path / "out.onnx").exists()


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of shell in which `graphopt` is the command line under test."""
    script = f'graphopt() {{ "{sys.executable}" -m graphopt "$@"; }}\n{line}'
    return subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)


def test_a_reader_that_leaves_early_disturbs_nothing(net: Path, tmp_path: Path) -> None:
    line = "graphopt optimize net.onnx -o out.onnx --validate none -vv | true; echo ${PIPESTATUS[0]}"
    done = shell(line, tmp_path)
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert (tmp_path / "out.onnx").exists()


def test_a_closed_standard_output_is_no_error(net: Path, tmp_path: Path) -> None:
    done = shell("graphopt optimize net.onnx -o out.onnx --validate none >&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_behind_standard_output_is_said(net: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full on this system")
    done = shell("graphopt inspect net.onnx > /dev/full", tmp_path)
    assert done.returncode == 5
    assert done.stderr.startswith("graphopt: cannot write to standard output: no space left on device")


def test_a_file_name_that_is_no_text_is_shown_escaped(tmp_path: Path) -> None:
    done = shell(r"graphopt inspect $'no\xff\e[31m.onnx'", tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("graphopt: there is no file ")
    assert "\x1b" not in done.stderr


def test_an_encoding_without_our_marks_is_no_error(net: Path, tmp_path: Path) -> None:
    done = shell("PYTHONIOENCODING=ascii graphopt optimize net.onnx -o out.onnx", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "equivalent" in done.stdout
