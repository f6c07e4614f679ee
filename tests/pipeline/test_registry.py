"""The registry: real distributions on disk, some of them broken, and registries made by hand."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any, ClassVar

import pytest

from graphopt.errors import UsageError
from graphopt.pipeline import Context, Contract, Pass, Registry, option
from graphopt.pipeline.registry import GROUP

HEAD = """
from dataclasses import dataclass, field
from graphopt.pipeline import Contract, Pass, option

class Still(Pass):
    def run(self, graph, ctx):
        pass
"""
GOOD = """
@dataclass(frozen=True)
class Good(Still):
    '''Good.'''
    name = {name!r}
    contract = Contract.EXACT

PASSES = (Good,)
"""

Install = Callable[..., list[EntryPoint]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with one module; gives the entry points of everything installed so far."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(distribution: str, source: str, *, version: str = "1.0", points: str = "", head: str = HEAD) -> Any:
        module = f"plug_{distribution.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(head + textwrap.dedent(source), "utf-8")
        info = tmp_path / f"{distribution}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", "utf-8")
        lines = (points or f"{distribution} = {{module}}:PASSES").replace("{module}", module)
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{lines}\n", "utf-8")
        return [p for one in distributions(path=[str(tmp_path)]) for p in one.entry_points if p.group == GROUP]

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("plug_"):
            del sys.modules[name]


def only_reason(points: list[EntryPoint]) -> str:
    registry = Registry.load(points)
    assert registry.entries == ()
    (broken,) = registry.broken
    assert "\n" not in broken.reason and "\n" not in str(broken)
    return broken.reason


def test_families_are_found_in_a_fixed_order(install: Install) -> None:
    two = GOOD.format(name="zz-first") + GOOD.format(name="aa-second").replace("Good", "Second")
    install("beta", two + "\nPASSES = (Good, Second)\n", version="0.3")
    points = install("Alpha", GOOD.format(name="middle"), version="2.0")
    for order in (points, points[::-1]):
        registry = Registry.load(order)
        assert [(e.name, e.family, e.distribution, e.version) for e in registry.entries] == [
            ("middle", "Alpha", "Alpha", "2.0"),
            ("zz-first", "beta", "beta", "0.3"),
            ("aa-second", "beta", "beta", "0.3"),
        ]
        assert registry.names() == ("aa-second", "middle", "zz-first")
        assert registry.broken == ()
    assert registry.get("middle").name == "middle"
    assert registry.entries[0].pass_class is registry.get("middle")


def test_an_entry_point_may_be_one_pass(install: Install) -> None:
    registry = Registry.load(install("solo", GOOD.format(name="alone"), points="solo = {module}:Good"))
    assert registry.names() == ("alone",) and registry.broken == ()


def test_an_entry_point_may_hold_no_passes_yet(install: Install) -> None:
    registry = Registry.load(install("hollow", "PASSES = ()"))
    assert registry.names() == () and registry.broken == ()


def test_the_same_class_twice_is_one_pass(install: Install) -> None:
    points = install("twin", GOOD.format(name="one"), points="a = {module}:PASSES\nb = {module}:Good")
    assert [(e.name, e.family) for e in Registry.load(points).entries] == [("one", "a")]


def test_a_duplicate_name_names_both_distributions(install: Install) -> None:
    install("beta", GOOD.format(name="same"), version="0.3")
    points = install("alpha", GOOD.format(name="same"), version="2.0")
    with pytest.raises(UsageError) as caught:
        Registry.load(points)
    assert str(caught.value) == (
        "two passes are called same: plug_alpha.Good of alpha 2.0, and plug_beta.Good of beta 0.3; "
        "uninstall or rename one of them"
    )


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no\\n  good')", "importing it failed with RuntimeError: no good"),
        ("import surely_not_there", "importing it failed with ModuleNotFoundError: No module named 'surely_not_there'"),
        ("raise SystemExit(3)", "importing it failed with SystemExit: 3"),
        ("raise SystemExit", "importing it failed with SystemExit"),
        ("def f(:", "importing it failed with SyntaxError: invalid syntax (plug_bad.py, line 8)"),
        ("x = 1", "importing it failed with AttributeError: module 'plug_bad' has no attribute 'PASSES'"),
        (
            "class Mute(Exception):\n    def __str__(self): raise KeyError\nraise Mute",
            "importing it failed with Mute",
        ),
        ("raise ValueError('x' * 9999)", f"importing it failed with ValueError: {'x' * 285}..."),
        ("PASSES = {}", "it is a dict, not a pass, a tuple of passes or a table of them"),
        ("PASSES = None", "it is a NoneType, not a pass, a tuple of passes or a table of them"),
        ("PASSES = int", "int is not a subclass of Pass"),
        ("PASSES = ('x',)", "an item of it is a str, not a subclass of Pass"),
        ("PASSES = Pass", "Pass is Pass itself, not a subclass"),
        ("PASSES = Still", "Still is not a frozen dataclass: decorate it with @dataclass(frozen=True)"),
    ],
)
def test_a_broken_plug_in_is_listed(install: Install, source: str, reason: str) -> None:
    assert only_reason(install("bad", source)) == reason


def declared(body: str, *, decorator: str = "@dataclass(frozen=True)", base: str = "Still") -> str:
    fields = textwrap.indent(textwrap.dedent(body), "    ")
    return f"{decorator}\nclass Bad({base}):\n{fields}\n\nPASSES = (Bad,)\n"


NAMED = "'''Bad.'''\nname = 'bad'\ncontract = Contract.EXACT\n"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            declared(NAMED, decorator="#"),
            "Bad is not a frozen dataclass: decorate it with @dataclass(frozen=True)",
        ),
        (declared(NAMED, base="Pass"), "Bad does not implement run"),
        (declared("'''Bad.'''\ncontract = Contract.EXACT"), "Bad has no name"),
        (declared("'''Bad.'''\nname = 'bad'"), "Bad has no contract"),
        (declared("name = 'bad'\ncontract = Contract.EXACT"), "Bad has no docstring"),
        (declared("'''  '''\nname = 'bad'\ncontract = Contract.EXACT"), "Bad has no docstring"),
        (
            declared("'''Bad.'''\nname = 'Bad_Pass'\ncontract = Contract.EXACT"),
            "Bad has the name 'Bad_Pass', which is not in kebab-case (such as dead-nodes)",
        ),
        (
            declared("'''Bad.'''\nname = 3\ncontract = Contract.EXACT"),
            "Bad has the name 3, which is not in kebab-case (such as dead-nodes)",
        ),
        (
            declared("'''Bad.'''\nname = 'repeat'\ncontract = Contract.EXACT"),
            "Bad has the name 'repeat', which means something else in a pipeline",
        ),
        (
            declared("'''Bad.'''\nname = 'bad'\ncontract = 0"),
            "Bad has the contract 0, which is not a Contract",
        ),
        (
            declared("'''Bad.'''\nname: str = 'bad'\ncontract = Contract.EXACT"),
            "Bad cannot be used: 'name' is annotated, which makes it an option: write `name = ...`",
        ),
        (declared(NAMED + "bits: int"), "Bad cannot be used: the option 'bits' has no default"),
        (
            declared(NAMED + "bits: int = option('8', '')"),
            "Bad cannot be used: the default of the option 'bits' is wrong: it expects a whole number, "
            "not the text '8'",
        ),
        (
            declared(NAMED + "bits: 'Unknown' = option(8, '')"),
            "Bad cannot be used: the types of its options cannot be read (name 'Unknown' is not defined)",
        ),
        (
            declared(NAMED + "Bits: int = option(8, '')"),
            "Bad cannot be used: the option 'Bits' is not in lower case with single underscores",
        ),
        (
            declared(NAMED + "_seen: tuple[str, ...] = ()"),
            "Bad cannot be used: the option '_seen' is not in lower case with single underscores",
        ),
        (
            declared(NAMED + "seen: int = field(init=False, default=0)"),
            "Bad cannot be used: the field 'seen' is no option (init=False), and passes keep no state",
        ),
        (
            declared(NAMED + "where: object = option(None, '')"),
            "Bad cannot be used: the option 'where' has the type object, but options are bool, int, float, str, "
            "Literal, Enum, tuple[T, ...] of these, or one of all these or None",
        ),
        (
            declared(NAMED + "def __post_init__(self): raise ValueError('bits must be odd')"),
            "Bad cannot be built from its defaults (ValueError: bits must be odd)",
        ),
        (
            declared(NAMED + "def __post_init__(self): self.seen = 3"),
            "Bad cannot be built from its defaults (FrozenInstanceError: cannot assign to field 'seen')",
        ),
    ],
)
def test_a_class_that_is_no_pass_is_listed(install: Install, source: str, reason: str) -> None:
    assert only_reason(install("bad", source)) == reason


def test_the_good_classes_of_a_family_stay_usable(install: Install) -> None:
    points = install("mixed", GOOD.format(name="fine") + "\nPASSES = (int, Good, Still)\n")
    registry = Registry.load(points)
    assert registry.names() == ("fine",)
    assert [broken.reason for broken in registry.broken] == [
        "int is not a subclass of Pass",
        "Still is not a frozen dataclass: decorate it with @dataclass(frozen=True)",
    ]
    assert str(registry.broken[0]) == "mixed of mixed 1.0 (int is not a subclass of Pass)"
    assert registry.broken[0].target == "plug_mixed:PASSES"


def test_a_broken_distribution_does_not_hide_the_others(install: Install) -> None:
    install("bad", "raise RuntimeError('boom')")
    registry = Registry.load(install("fine", GOOD.format(name="fine")))
    assert registry.names() == ("fine",) and len(registry.broken) == 1


def test_a_distribution_without_metadata_is_unknown(install: Install, tmp_path: Path) -> None:
    install("lost", GOOD.format(name="found"))
    (tmp_path / "lost-1.0.dist-info" / "METADATA").unlink()
    (one,) = distributions(path=[str(tmp_path)])
    (entry,) = Registry.load(one.entry_points).entries
    assert (entry.name, entry.distribution, entry.version) == ("found", "", "")


def test_an_interruption_is_passed_on(install: Install) -> None:
    points = install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry.load(points)


def test_the_installed_passes_are_found_once() -> None:
    assert Registry.load() is Registry.load()


@dataclass(frozen=True)
class ByHand(Pass):
    name: ClassVar[str] = "by-hand"
    contract: ClassVar[Contract] = Contract.EXACT
    level: int = option(1, "how much")

    def run(self, graph: Any, ctx: Context) -> None:
        return None


@dataclass(frozen=True)
class SameName(ByHand):
    """Another pass of the same name."""


def test_a_registry_by_hand() -> None:
    registry = Registry.of([ByHand])
    (entry,) = registry.entries
    assert (entry.name, entry.pass_class, entry.distribution) == ("by-hand", ByHand, "")
    assert entry.family == (ByHand.__module__.split(".")[-2] if "." in ByHand.__module__ else "")
    assert Registry.of([ByHand], family="mine").entries[0].family == "mine"
    assert Registry.of([]).names() == ()


def test_a_registry_by_hand_refuses_what_is_no_pass() -> None:
    with pytest.raises(UsageError, match=r"^the pass int is not a subclass of Pass$"):
        Registry.of([int])  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"^the pass 'dead-nodes' is a str, not a subclass of Pass$"):
        Registry.of(["dead-nodes"])  # type: ignore[list-item]


def test_including_keeps_what_was_there(registry: Registry) -> None:
    larger = registry.including([ByHand])
    assert set(larger.names()) == {"by-hand", *registry.names()}
    assert "by-hand" not in registry.names()
    with pytest.raises(UsageError, match=r"two passes are called by-hand: .*ByHand of an unknown distribution, and "):
        larger.including([SameName])
    assert larger.including([ByHand]).names() == larger.names()


def test_an_unknown_name(install: Install) -> None:
    with pytest.raises(UsageError) as caught:
        Registry.of([ByHand]).get("byhand")
    assert str(caught.value) == "no pass is called 'byhand'; did you mean 'by-hand'?"
    with pytest.raises(UsageError) as caught:
        Registry.of([]).get("x")
    assert str(caught.value) == "no pass is called 'x'; no passes are installed at all, so install graphopt again"
    with pytest.raises(UsageError) as caught:
        Registry.load(install("bad", "raise RuntimeError('boom')")).get("fold-it")
    assert str(caught.value) == (
        "no pass is called 'fold-it'; perhaps it belongs to a broken plug-in: "
        "bad of bad 1.0 (importing it failed with RuntimeError: boom)"
    )
