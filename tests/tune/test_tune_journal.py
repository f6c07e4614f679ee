"""The journal of a search: verdicts found again, a torn line left out, another model's refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.errors import UsageError
from graphopt.tune.journal import Entry, Journal, Subject
from graphopt.tune.trial import FAILED, KEPT, Candidate, Ratio, Trial

SUBJECT = Subject("m" * 64, "f" * 64)
ONE = Candidate("one", "identities", "clean")


def entry(candidate: Candidate = ONE, rows: int = 16, **more: float) -> Entry:
    made = Trial(
        candidate, 0, rows, KEPT, bytes=7, latency=Ratio(0.5, 0.4, 0.6), reached={"sqnr_db": float("inf"), **more}
    )
    return Entry(made, "abc")


def opened(path: Path, subject: Subject = SUBJECT, depends: str = "v1", **more: bool) -> Journal:
    return Journal(path, subject, depends, **{"resume": True, **more})


def test_verdicts_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "below" / "j.jsonl"
    first = opened(path)
    first.add(entry())
    first.close()
    again = opened(path)
    assert len(again) == 1
    assert again.get(ONE, 0, 16) == entry()
    assert again.get(ONE, 0, 32) is None, "on other rows"
    renamed = Candidate("other", ONE.pipeline, "x", "parent")
    found = again.get(renamed, 2, 16)
    assert found is not None and found.trial.candidate == renamed and found.trial.rung == 2
    assert again.get(Candidate("one", ONE.pipeline, "clean", fit=True), 0, 16) is None
    assert again.reused == 2
    assert opened(path, depends="v2").get(ONE, 0, 16) is None, "of another version or budget"


def test_what_is_not_lasting_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = opened(path)
    journal.add(Entry(Trial(ONE, 0, 16, FAILED, "its process was ended by SIGKILL"), lasting=False))
    journal.close()
    assert opened(path).get(ONE, 0, 16) is None


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    journal = opened(path)
    journal.add(entry())
    journal.add(entry(rows=32))
    journal.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = opened(path)
    assert len(again) == 1 and again.get(ONE, 0, 16) is not None
    again.add(entry(rows=64))
    again.close()
    assert len(opened(path)) == 2, "what follows stands on a line of its own"


def test_a_journal_whose_first_line_was_cut_short_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"format": 1, "mod')
    journal = opened(path)
    journal.add(entry())
    journal.close()
    assert len(opened(path)) == 1


@pytest.mark.parametrize(
    ("subject", "words"),
    [(Subject("x", "f" * 64), "is of another model"), (Subject("m" * 64, "x"), "is of other feeds or labels")],
)
def test_a_journal_of_something_else_is_refused(tmp_path: Path, subject: Subject, words: str) -> None:
    path = tmp_path / "j.jsonl"
    opened(path, subject).close()
    with pytest.raises(UsageError, match=f"{words}; name another with --journal"):
        opened(path)


def test_a_journal_that_is_there_is_only_gone_on_from_or_replaced_on_request(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    first = opened(path)
    first.add(entry())
    first.close()
    with pytest.raises(UsageError, match="is there already; give --resume to go on from it, or name another"):
        opened(path, resume=False)
    assert len(opened(path, resume=False, replaced=True)) == 0
    assert len(opened(path)) == 0, "it was replaced"


@pytest.mark.parametrize("text", ["[]\n{}\n", "no json\n{}\n", '{"format": 1}\n{}\n'])
def test_what_is_no_journal_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"line 1 of the journal .* is damaged; move it away"):
        opened(path)


def test_damage_in_the_middle_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = opened(path)
    journal.add(entry())
    journal.close()
    path.write_text(path.read_text() + '{"key": 1}\n' + "{}\n")
    with pytest.raises(UsageError, match=r"line 3 of the journal .* is damaged"):
        opened(path)


def test_a_newer_format_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"format": 2, "model": "", "feeds": ""}\n')
    with pytest.raises(UsageError, match="has format 2, which this version does not read"):
        opened(path)


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the journal .* cannot be written \("):
        opened(tmp_path, resume=False, replaced=True)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UsageError, match="cannot be read; move it away, or name another"):
        opened(tmp_path / "bytes")
