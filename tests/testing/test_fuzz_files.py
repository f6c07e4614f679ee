"""Damage of files, and the command that reads them: what a fault looks like is found, and there is none."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from onnx import ModelProto

from graphopt.testing.fuzz import damage, files
from graphopt.testing.fuzz.files import Ended
from graphopt.testing.fuzz.victims import VICTIMS, Victim, prepare
from graphopt.testing.samples import samples

MODEL = next(one.proto for one in samples() if one.name == "branches").SerializeToString()


@pytest.mark.parametrize("way", damage.WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("data", [MODEL, b"", b"a = 1\n"], ids=["model", "empty", "text"])
def test_each_kind_of_damage(way: damage.Damage, data: bytes) -> None:
    made = [way(data, Random(seed)) for seed in range(20)]
    assert made == [way(data, Random(seed)) for seed in range(20)]
    assert not data or any(one != data for one in made)


def test_fields_are_left_out_and_repeated_with_right_lengths() -> None:
    """Protobuf's own reader finds such a message whole: it is what it says that is odd."""
    for way in (damage.drop_field, damage.repeat_field, damage.nest):
        read = 0
        for seed in range(40):
            try:
                ModelProto.FromString(way(MODEL, Random(seed)))
                read += 1
            except Exception:  # noqa: BLE001  (a name that is no UTF-8 any more)
                continue
        assert read >= 30


def test_another_length_is_mostly_no_message() -> None:
    refused = 0
    for seed in range(40):
        try:
            ModelProto.FromString(damage.another_length(MODEL, Random(seed)))
        except Exception:  # noqa: BLE001
            refused += 1
    assert refused >= 20


@pytest.mark.parametrize(
    ("ended", "fault"),
    [
        (Ended(0, "", "", 1, 1), ""),
        (Ended(3, "", "graphopt: it is no model", 1, 1), ""),
        (Ended(3, "", "", 1, 1), "not one sentence"),
        (Ended(2, "", "graphopt: a\nb", 1, 1), "not one sentence"),
        (Ended(70, "", "graphopt: internal error", 1, 1), "exit code 70"),
        (Ended(-11, "", "", 1, 1), "exit code -11"),
        (Ended(1, "", "Traceback (most recent call last):", 1, 1), "a traceback"),
        (Ended(3, "", "graphopt: it is no model", 21, 1), "it took 21 s"),
        (Ended(3, "", "graphopt: it is no model", 1, 2_000_000_000), "it took 2.0 GB"),
    ],
)
def test_what_is_a_fault(ended: Ended, fault: str) -> None:
    victim = VICTIMS[5]  # which writes nothing
    found = files._fault(ended, victim, {"a": b"1"}, {"a": b"1"})
    assert found.startswith(fault) and bool(found) == bool(fault)


def test_what_is_written_or_changed_is_a_fault() -> None:
    refused, done = Ended(3, "", "graphopt: it is no model", 1, 1), Ended(0, "", "", 1, 1)
    assert "a was changed" in files._fault(refused, VICTIMS[0], {"a": b"1"}, {"a": b"2"})
    assert "b was written" in files._fault(refused, VICTIMS[0], {"a": b"1"}, {"a": b"1", "b": b""})
    assert "nothing was written" in files._fault(done, VICTIMS[0], {"a": b"1"}, {"a": b"1"})
    assert not files._fault(done, VICTIMS[0], {"a": b"1"}, {"a": b"1", "out.onnx": b""})


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    files.warm()
    prepare(folder, files.run)
    return folder


@pytest.mark.parametrize("start", range(0, 30, 5))
def test_a_fixed_budget_of_damaged_files_holds(unharmed: Path, start: int) -> None:
    """What a test run can afford: each of the ten files three times."""
    ended = {seed: files.one_file(seed, unharmed) for seed in range(start, start + 5)}
    assert [name for name, _, _ in ended.values()] == [VICTIMS[seed % 10].name for seed in ended]
    assert {seed: one for seed, one in ended.items() if one[2]} == {}


@pytest.mark.parametrize("victim", [one for one in VICTIMS if one.name != "a report"], ids=lambda one: one.file)
def test_files_that_are_not_damaged_are_read(unharmed: Path, victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is refused is refused for its damage."""
    monkeypatch.setattr(files, "damaged", lambda data, rng: ("not at all", data))
    name, code, fault = files.one_file(VICTIMS.index(victim), unharmed)
    assert (name, code, fault) == (victim.name, 0, "")
