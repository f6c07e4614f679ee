"""The environments of other tools: what is recorded of them, and what is said where there is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peers import Installed, Peer, chosen, install, installed, python_of, pythons
from graphopt.errors import UsageError


def linked(peer: Peer, place: Path) -> str:
    """An environment that is this one, without pip."""
    (place / "bin").mkdir(parents=True, exist_ok=True)
    (place / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (place / "bin" / "python").chmod(0o755)
    return ""


def refused(peer: Peer, place: Path) -> str:
    return "No matching distribution found for it"


def test_every_peer_pins_every_package() -> None:
    for peer in chosen():
        assert peer.packages
        assert all(package.count("==") == 1 for package in peer.packages), peer.name
        assert peer.about


def test_versions_are_those_of_the_environment(tmp_path: Path) -> None:
    # the interpreter of these tests has onnxruntime, whatever the list pins
    import onnxruntime

    (row,) = install(tmp_path, ["onnxruntime"], make=linked)
    assert row.failure == ""
    assert row.version == onnxruntime.__version__
    assert installed(tmp_path) == [row]
    assert python_of("onnxruntime", tmp_path) == tmp_path / "onnxruntime" / "bin" / "python"
    assert pythons(tmp_path) == {"onnxruntime": tmp_path / "onnxruntime" / "bin" / "python"}


def test_what_is_there_is_not_made_again_until_the_list_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, ["onnxruntime"], make=linked)

    def never(peer: Peer, place: Path) -> str:
        raise AssertionError("made again")

    install(tmp_path, ["onnxruntime"], make=never)
    monkeypatch.setattr(peers, "peers", lambda: {"onnxruntime": Peer("onnxruntime", ("onnxruntime==0.1",), "")})
    with pytest.raises(AssertionError, match="made again"):
        install(tmp_path, ["onnxruntime"], make=never)


def test_a_peer_that_does_not_install_is_a_row_and_is_tried_again(tmp_path: Path) -> None:
    rows = install(tmp_path, ["onnxslim", "onnxruntime"], make=lambda peer, place: _one_refused(peer, place))
    assert [row.failure for row in rows] == ["No matching distribution found for it", ""]
    assert list(pythons(tmp_path)) == ["onnxruntime"]
    with pytest.raises(UsageError, match=r"onnxslim is not installed: No matching distribution"):
        python_of("onnxslim", tmp_path)
    (row,) = install(tmp_path, ["onnxslim"], make=linked)
    assert row.failure == ""


def _one_refused(peer: Peer, place: Path) -> str:
    return refused(peer, place) if peer.name == "onnxslim" else linked(peer, place)


def test_an_environment_that_does_not_run_is_a_row(tmp_path: Path) -> None:
    def broken(peer: Peer, place: Path) -> str:
        linked(peer, place)
        (place / "bin" / "python").write_text("#!/bin/sh\nexit 3\n")
        return ""

    (row,) = install(tmp_path, ["onnxslim"], make=broken)
    assert row.failure == "its environment does not run (CalledProcessError)"
    assert row.version == ""


def test_sentences_for_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no peer 'onnxfast'; there are onnxslim, "):
        install(tmp_path, ["onnxfast"])
    with pytest.raises(UsageError, match=r"there is no folder of peers at .*none; .* fetch --peers makes it"):
        installed(tmp_path / "none")
    with pytest.raises(UsageError, match=r"holds no peers"):
        installed(tmp_path)
    with pytest.raises(UsageError, match=r"nncf is not installed in .*fetch --peers brings it"):
        python_of("nncf", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"no folder for the peers can be made"):
        install(tmp_path / "file" / "below", ["nncf"])


@pytest.mark.parametrize("text", ["", "[]", '{"peer": "nncf"}', '{"packages": 3}', "\x00"])
def test_a_record_that_is_none_counts_as_not_installed(tmp_path: Path, text: str) -> None:
    (tmp_path / "nncf").mkdir()
    (tmp_path / "nncf" / "peer.json").write_text(text)
    with pytest.raises(UsageError, match="not installed in"):
        python_of("nncf", tmp_path)


@pytest.mark.parametrize("text", ["[a", "[a]\nabout = 'x'", "a = 1", "[a]\npackages = 7"])
def test_a_list_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "peers.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"peers\.toml is no list of peers"):
        peers.peers(path)


def test_the_record_reads_back(tmp_path: Path) -> None:
    (row,) = install(tmp_path, ["nncf"], make=refused)
    facts = json.loads((tmp_path / "nncf" / "peer.json").read_text())
    assert Installed(**{**facts, "packages": tuple(facts["packages"])}) == row
