"""Each hostile model ends as its row promises: exit code, sentence, seconds, memory, nothing else touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from casebook import Case
from commandrun import Warm
from table import CASES
from trials import Tried, attempt

from graphopt.runtime.client import Options
from graphopt.runtime.options import Value
from graphopt.testing.running import shared_worker
from graphopt.validation.compare import same_bits

_PLAIN = Options(optimize=False, prepack=False)
_LONGEST = 1500  # characters of one line


@pytest.fixture(scope="module")
def commands() -> Iterator[Warm]:
    """Command lines in forks of one process."""
    started = Warm()
    yield started
    started.close()


@pytest.mark.parametrize("case", CASES, ids=[f"{one.family}: {one.name}" for one in CASES])
def test_a_hostile_model(case: Case, commands: Warm, tmp_path: Path) -> None:
    tried = attempt(case, tmp_path, commands)
    _check_end(case, tried)
    _check_cost(case, tried)
    assert (tried.opened, tried.changed, tried.left) == ((), (), ())
    if tried.ended.code == 0:
        assert tried.output is not None
        _check_output(case, tmp_path / "case" / case.file, tried.output)


def _check_end(case: Case, tried: Tried) -> None:
    """The documented exit code and the sentence, in lines that any terminal may show."""
    assert tried.ended.code in case.code, tried.said
    assert re.search(case.says, tried.said), tried.said
    assert "Traceback" not in tried.said
    if tried.ended.err:
        assert re.fullmatch(r"graphopt: [^\n]+\n", tried.ended.err), tried.ended.err
    else:
        assert case.code != (3,)
    for line in tried.said.splitlines():
        assert len(line) <= _LONGEST
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", line), repr(line)


def _check_cost(case: Case, tried: Tried) -> None:
    """Not more than its row allows. Processors' seconds, which a busy machine does not make longer; it is stopped
    where it waits."""
    assert tried.ended.worked <= case.seconds
    assert tried.ended.peak <= case.megabytes << 20


def _check_output(case: Case, given: Path, made: Path) -> None:
    """The result has what it must keep, and gives the bits of the original on inputs that no validation chose."""
    kinds = {node.op_type for node in onnx.load(made, load_external_data=False).graph.node}
    assert set(case.keep) <= kinds
    if case.fed is None or given.read_bytes() == made.read_bytes():
        return
    before, after = (_run(path, case.fed) for path in (given, made))
    assert before.keys() == after.keys()
    assert all(same_bits(value, after[name]) for name, value in before.items())


def _run(path: Path, fed: dict[str, np.ndarray] | object) -> dict[str, Value]:
    return shared_worker().run_model(path, fed, _PLAIN)  # type: ignore[arg-type]


def test_every_row_tells_why_it_is_there() -> None:
    assert len(CASES) == len({(one.family, one.name) for one in CASES})
    assert all(one.why.endswith((".", "?", "!")) or one.why for one in CASES)
    assert all(one.says for one in CASES if 0 not in one.code)
