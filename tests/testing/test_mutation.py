"""The mutation tool: what it changes, that a change is seen, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphopt.testing.mutation.forks import allow, in_fork
from graphopt.testing.mutation.judged import Judged
from graphopt.testing.mutation.report import Fate, load, save, survivors, table
from graphopt.testing.mutation.sites import Source, read
from graphopt.testing.mutation.warm import Loaded, mutated

ROOT = Path(__file__).resolve().parents[2]


def source(tmp_path: Path, text: str, name: str = "passes/fold/made_up.py") -> Source:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return read(tmp_path, path)


def changes(tmp_path: Path, *lines: str) -> set[str]:
    """What the statements of a function become, where they are one line each."""
    text = "def f(a, b, node, ctx):\n" + "".join(f"    {line}\n" for line in lines)
    return {site.after for site in source(tmp_path, text).sites}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("return a < 3", {"return a <= 3", "return a < 4"}),
        (
            "return a is None or b",
            {"return b", "return a is None", "return a is None and b", "return a is not None or b"},
        ),
        ("return not a", {"return a"}),
        ("return a[0]", {"return a[1]"}),
        ("return a[1]", {"return a[0]"}),
        ("return a[-1]", {"return a[0]"}),
        ("return min(a)", {"return max(a)"}),
        ("return any(a)", {"return all(a)"}),
        ("return a - b", {"return a + b"}),
        ("return a if b else 2", {"return a if False else 2", "return a if True else 2", "return a if b else 3"}),
        ("return [x for x in a if x.y]", {"return [x for x in a if True]"}),
        ("return node.is_op('A', 'B')", {"return node.is_op('B')", "return node.is_op('A')"}),
        ("return f(a, b)", {"return f(b, a)"}),
        ("return node.attrs.get('mode', 'x')", {"return node.attrs.get('mode', '?')"}),
        ("return {'A': a, 'B': b}", {"return {'B': b}", "return {'A': a}"}),
        ("return 'A B'.split()", {"return 'B'.split()", "return 'A'.split()"}),
        ("node.remove(a)", {"pass"}),
        ("node.attrs['x'] = a", {"pass"}),
        ("ctx.missed('rule', node, a or 'nothing')", set()),
        ("raise ValueError(f'{a < b}')", set()),
    ],
)
def test_what_becomes_of_a_statement(tmp_path: Path, line: str, expected: set[str]) -> None:
    assert changes(tmp_path, line) == expected


def test_a_branch_is_always_taken_and_never(tmp_path: Path) -> None:
    found = changes(tmp_path, "if a == b:", "    return None", "return a")
    assert found == {"if True", "if False"}


def test_what_is_declared_and_said_is_left_alone(tmp_path: Path) -> None:
    text = (
        'class P:\n    """Says 1 < 2."""\n    name = "p"\n    contract = 1\n'
        '    most: int = option(8, "at most 8", 3)\n    def run(self, a: "x < y" = 4) -> "1":\n        """No 1."""\n'
    )
    found = source(tmp_path, text).sites
    assert {(one.function, one.after) for one in found} == {
        ("", "most: int = option(9, 'at most 8', 3)"),
        ("", "def run(self, a: 'x < y'=5) -> '1'"),
    }


def test_a_mutant_keeps_its_name_when_lines_move(tmp_path: Path) -> None:
    text = "def f(a):\n    return a < 3\n\ndef g(a):\n    return a < 3\n"
    before = source(tmp_path, text).sites
    after = source(tmp_path, "# a comment\n\n" + text.replace("a < 3", "(a  <  3)", 1)).sites
    assert [one.key for one in before] == [one.key for one in after]
    assert len({one.key for one in before}) == 4
    assert {one.function for one in before} == {"f", "g"}


def test_an_edit_is_taken_back_by_a_second_one(tmp_path: Path) -> None:
    import ast

    every = read(ROOT, ROOT / "passes/eliminate/no_op_slices.py")
    whole = ast.unparse(every.tree)
    for site in every.sites[::40]:
        site.edit.swap()
        assert ast.unparse(every.tree) != whole
        site.edit.swap()
        assert ast.unparse(every.tree) == whole


def test_who_holds_a_function_sees_its_mutant_in_the_fork_only() -> None:
    from graphopt.ir import Node
    from passes.eliminate.bypass import number as held

    every = read(ROOT, ROOT / "passes/eliminate/bypass.py")
    loaded = Loaded([every])
    site = next(one for one in every.sites if one.function == "number")
    node = Node("Abs", attrs={"axis": 3})

    def changed() -> dict[str, object]:
        return {"put": loaded.put(mutated(every, site)), "axis": held(node, "axis", 0)}

    assert held(node, "axis", 0) == 3
    assert in_fork(changed) == {"put": True, "axis": None}
    assert held(node, "axis", 0) == 3


def test_a_fork_says_what_it_found_or_how_it_died() -> None:
    def endless() -> dict[str, object]:
        allow(0.05)
        while True:
            pass

    assert in_fork(lambda: {"by": "tests"}) == {"by": "tests"}
    assert in_fork(endless) == {"died": "too long"}
    assert in_fork(lambda: {"x": 1 / 0})["died"].startswith("ZeroDivisionError")
    assert in_fork(lambda: os._exit(3)) == {"died": "status 3"}
    assert "MemoryError" in in_fork(lambda: {"x": len(bytearray(64 << 30))})["died"]


def fate(by: str, after: str = "if True") -> Fate:
    return Fate("passes/fold/a.py", "f", "always", "if a", after, 7, by, "", "3 tests", 0.5)


def test_fates_come_back_from_their_file_and_are_counted(tmp_path: Path) -> None:
    fates = [fate("tests", "1"), fate("laws", "2"), fate("judged", "3"), fate("", "if False")]
    save(tmp_path / "m.json", fates)
    assert list(load(tmp_path / "m.json").values()) == fates
    assert load(tmp_path / "none.json") == {}
    assert survivors(fates) == fates[3:]
    text = table(fates)
    assert "| passes/fold/a.py | 4 | 4 | 1 | 1 | 0 | 1 | 1 | 2 |" in text
    assert "- if a\n+ if False" in text
    assert "+ 1\n" not in text


def test_a_judgement_names_a_mutant_or_all_of_a_statement(tmp_path: Path) -> None:
    sites = source(tmp_path, "def f(a, b):\n    return a < 3 or b\n").sites
    here = {"file": "passes/fold/made_up.py", "function": "f", "before": "return a < 3 or b", "why": "so"}
    one = Judged([{**here, "after": "return a <= 3 or b"}])
    assert [site.after for site in sites if one.why(site)] == ["return a <= 3 or b"]
    assert all(Judged([here]).why(site) == "so" for site in sites)
    assert [site.kind for site in sites if Judged([{**here, "kind": "and for or"}]).why(site)] == ["and for or"]
    gone = Judged([here | {"before": "return a"}])
    assert gone.stale(sites) == gone.entries
    assert one.stale(sites) == []
    with pytest.raises(ValueError, match="needs file and why"):
        Judged([{"file": "a.py"}])


def test_what_was_judged_is_still_there() -> None:
    judged = Judged.read()
    files = {one["file"] for one in judged.entries}
    assert [one for file in files for one in judged.stale(read(ROOT, ROOT / file).sites)] == []


def test_a_small_pass_is_tried(tmp_path: Path) -> None:
    """The whole tool on a few mutants."""
    kept = tmp_path / "mutants.json"
    command = [sys.executable, "-m", "graphopt.testing.mutation", "--passes", "unused-functions"]
    command += ["--sample", "8", "--models", "1", "--json", str(kept)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "| 8 | 8 | 0 |" in done.stdout
    fates = [Fate(**one) for one in json.loads(kept.read_text())]
    killed = [one for one in fates if one.by == "tests"]
    assert len(killed) >= 4
    assert all(one.how.startswith("tests/passes/") for one in killed)


def test_the_table_says_how_many_there_are_besides_those_that_were_tried() -> None:
    fate = Fate("passes/fold/a.py", "f", "never", "if a", "if False", 1, "tests", "one", "", 0.5)
    text = table([fate], {"passes/fold/a.py": 9, "passes/fold/b.py": 3})
    assert "| passes/fold/a.py | 9 | 1 | 1 | 0 | 0 | 0 | 0 |" in text
    assert "| passes/fold/b.py | 3 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "| **all** | 12 | 1 | 1 |" in text
