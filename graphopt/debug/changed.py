"""What each pass of a run changed, from the texts that `optimize --snapshots` wrote."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphopt.errors import UsageError
from graphopt.ir.wording import shown_path

_FILE = re.compile(r"([0-9]{3,})-(.+)\.txt")
_NODE = re.compile(r" = ((?:[A-Za-z_][\w.]*\.)?[A-Za-z_]\w*)[<(]")
_WEIGHT = re.compile(r" = [a-z0-9_?]+\[[0-9,]*\] (?:#[0-9a-f]{12}|\{)")
MAX_FILE = 1 << 30  # bytes of one text


@dataclass(frozen=True)
class Changed:
    """What one pass changed: lines of the model's text that went and came, of nodes, of weights, of the rest.

    `operators` says how many more (or fewer, below zero) of each operator there are.
    """

    turn: int
    pass_name: str
    nodes: tuple[int, int]
    weights: tuple[int, int]
    others: tuple[int, int]
    operators: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        pairs = {"nodes": self.nodes, "weights": self.weights, "others": self.others}
        plain = {name: {"removed": pair[0], "added": pair[1]} for name, pair in pairs.items()}
        return {"turn": self.turn, "pass": self.pass_name, **plain, "operators": self.operators}


def changed(folder: Path) -> list[Changed]:
    """What changed between the snapshots of a folder, one entry for each pass that changed something.

    Raises UsageError when the folder is none, or holds no snapshots.
    """
    what = shown_path(folder)
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"{what} {kind}; name the folder that `optimize --snapshots DIR` wrote")
    try:
        found = [(match, path) for path in folder.iterdir() if (match := _FILE.fullmatch(path.name))]
    except OSError as error:
        raise UsageError(f"{what} cannot be read ({os.strerror(error.errno or 0).lower()})") from None
    texts = sorted((int(match[1]), match[2], path) for match, path in found)
    if not texts or texts[0][:2] != (0, "input"):
        raise UsageError(f"{what} holds no 000-input.txt; name the folder that `optimize --snapshots DIR` wrote")
    made, before = [], _lines(texts[0][2])
    for turn, name, path in texts[1:]:
        after = _lines(path)
        made.append(_between(turn, name, before, after))
        before = after
    return made


def _lines(path: Path) -> Counter[str]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise UsageError(f"{shown_path(path)} is larger than {MAX_FILE >> 20} MiB, which no snapshot's text is")
        return Counter(path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError:
        raise UsageError(f"{shown_path(path)} is not text; `optimize --snapshots DIR` wrote something else") from None
    except OSError as error:
        raise UsageError(f"{shown_path(path)} cannot be read ({os.strerror(error.errno or 0).lower()})") from None


def _between(turn: int, name: str, before: Counter[str], after: Counter[str]) -> Changed:
    gone, new = _Lines(before - after), _Lines(after - before)
    operators = Counter(new.operators)
    operators.subtract(gone.operators)
    return Changed(
        turn,
        name,
        (gone.nodes, new.nodes),
        (gone.weights, new.weights),
        (gone.others, new.others),
        {op: count for op, count in sorted(operators.items()) if count},
    )


class _Lines:
    """Lines of a model's text by what they are of."""

    def __init__(self, lines: Counter[str]) -> None:
        self.nodes = self.weights = self.others = 0
        self.operators: Counter[str] = Counter()
        for line, count in lines.items():
            node = _NODE.search(line)
            if _WEIGHT.search(line):
                self.weights += count
            elif node is not None:
                self.nodes += count
                self.operators[node[1]] += count
            else:
                self.others += count
