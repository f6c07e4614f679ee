"""What became of one node or value of a model, from a report: what touched it, what was missed and why."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from graphopt.errors import UsageError
from graphopt.pipeline.nearest import did_you_mean
from graphopt.pipeline.protocol import Remark
from graphopt.report.brief import brief
from graphopt.report.plain import plain, printable
from graphopt.report.saved import Saved

_FEW = 10  # names that one line lists
_SEARCHED = 20_000  # names among which the nearest is looked for


@dataclass(frozen=True)
class Story:
    """Everything that a report says about `name`, in the order in which it happened.

    `applied` are the rewrites whose subject it was or that took it away, changed it or made it;
    `disabled` those that were switched off, `missed` those that nearly happened. `stands_for` are
    the names of the input model that it stands for, `now` those of the result that stand for it.
    `under_other_names` are what nearly happened, or was switched off, to these and to what it became.
    """

    name: str
    applied: tuple[Remark, ...]
    disabled: tuple[Remark, ...]
    missed: tuple[Remark, ...]
    stands_for: tuple[str, ...]
    now: tuple[str, ...]
    under_other_names: tuple[Remark, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return dataclasses.asdict(self)


def explain(saved: Saved, name: str) -> Story:
    """The story of a node or value (`if_1.then_branch/conv_3` inside a body), or of the rewrite `PASS:NUMBER`.

    Raises UsageError when the report does not mention it, with the nearest name that it does.
    """
    name = brief(name)
    found = _rewrite(saved, name) or tuple(one for one in saved.remarks if _is_about(one, name))
    stands_for = tuple(old for old in saved.origins.get(name, ()) if old != name)
    now = tuple(new for new, old in saved.origins.items() if name in old and new != name)
    if not (found or stands_for or now):
        near = did_you_mean(name, itertools.islice(_names(saved), _SEARCHED))
        raise UsageError(
            f"the report of {printable(saved.model)!r} says nothing about {printable(name)!r}: no pass touched it or "
            f"nearly did, or the model has no node or value of that name{near}"
        )
    kinds = {kind: tuple(one for one in found if one.kind == kind) for kind in ("applied", "disabled", "missed")}
    told = set(found)
    others = _others(saved, name, kinds["applied"]) | set(stands_for) | set(now)
    elsewhere = tuple(
        one
        for one in saved.remarks
        if one.kind != "applied" and one not in told and (one.node in others or others.intersection(one.values))
    )
    return Story(name, kinds["applied"], kinds["disabled"], kinds["missed"], stands_for, now, elsewhere)


def print_story(story: Story, console: Console, verbose: int = 0) -> None:
    """Print a story; with `verbose` all names of a rewrite that touched many."""
    console.print(f"[bold]{plain(story.name)}[/bold]")
    if story.stands_for:
        console.print(f"  stands for {_joined(story.stands_for, verbose)}")
    if story.now:
        console.print(f"  {_joined(story.now, verbose)} now stands for it")
    for title, remarks in (
        ("touched by", story.applied),
        ("switched off", story.disabled),
        ("nearly touched by", story.missed),
        ("nearly touched or switched off under another name", story.under_other_names),
    ):
        if not remarks:
            continue
        console.print(f"\n[bold]{title}[/bold]")
        for one in remarks:
            _print_remark(one, console, verbose)


def _print_remark(one: Remark, console: Console, verbose: int) -> None:
    number = f":{one.number}" if one.number is not None else ""
    place = f"{one.scope}/{one.node}" if one.scope else one.node
    because = f" because {plain(one.why)}" if one.kind == "missed" else f" ({plain(one.why)})" if one.why else ""
    console.print(f"  {plain(one.pass_name)}{number} [dim]{plain(one.rule)} on[/dim] {plain(place)}{because}")
    gone = [name for name in one.before if name not in one.after]
    if gone:
        console.print(f"    [dim]before[/dim] {_joined(gone, verbose)}")
    if one.after:
        console.print(f"    [dim]after [/dim] {_joined(one.after, verbose)}")


def _rewrite(saved: Saved, name: str) -> tuple[Remark, ...]:
    """The rewrite that `PASS:NUMBER`, the handle of `--disable`, stands for."""
    pass_name, _, number = name.rpartition(":")
    if not (pass_name and number.isascii() and number.isdigit()):
        return ()
    return tuple(one for one in saved.remarks if one.pass_name == pass_name and str(one.number) == number)


def _is_about(one: Remark, name: str) -> bool:
    return name in (one.node, f"{one.scope}/{one.node}", *one.before, *one.after, *one.values)


def _others(saved: Saved, name: str, applied: Iterable[Remark]) -> set[str]:
    """The names of what the rewrites of a node made in its place, and of what these became."""
    made = {new for one in applied if name in (one.node, f"{one.scope}/{one.node}", *one.before) for new in one.after}
    return made | {new for new, old in saved.origins.items() if made.intersection(old)}


def _names(saved: Saved) -> Iterable[str]:
    known: dict[str, None] = {}
    for one in saved.remarks:
        known.update(dict.fromkeys((one.node, *one.before, *one.after, *one.values)))
    for new, old in saved.origins.items():
        known.update(dict.fromkeys((new, *old)))
    return known


def _joined(names: Iterable[str], verbose: int) -> str:
    listed = list(names)
    shown = listed if verbose or len(listed) <= _FEW else listed[: _FEW - 1]
    rest = f" and {len(listed) - len(shown)} more" if len(shown) < len(listed) else ""
    return ", ".join(plain(name) for name in shown) + rest
