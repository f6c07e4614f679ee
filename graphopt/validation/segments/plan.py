"""Where a model is cut: segments bounded by the bytes of their weights, at places where few values cross."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from graphopt.validation.segments.net import Net


@dataclass(frozen=True)
class Segment:
    """Some nodes of a net, by place and ascending, as a model of its own.

    `takes` are values of earlier segments, `inputs` of the model's own inputs, `gives` what later segments or the
    user read; `bytes` are those of its `weights` and of the tensors inside its nodes. `joint` numbers the cut at its
    end where the other model is cut there, too.
    """

    nodes: tuple[int, ...]
    takes: tuple[str, ...]
    inputs: tuple[str, ...]
    gives: tuple[str, ...]
    weights: tuple[str, ...]
    bytes: int
    joint: int | None = None


class Cuts:
    """The places between the nodes of an order, and what crosses them.

    Cut `c` lies before the node `order[c]`. `crossing(c)` are the values made before it and read behind it.
    """

    def __init__(self, net: Net, order: Sequence[int]) -> None:
        self._net, self.order = net, list(order)
        place = {at: number for number, at in enumerate(self.order)}
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        for number, at in enumerate(self.order):
            for name in net.nodes[at].output:
                if name:
                    self._first[name] = number
            for name in net.reads[at]:
                maker = net.makers.get(name)
                if maker is not None and maker in place:
                    self._last[name] = number

    def span(self, name: str) -> tuple[int, int]:
        """The first and the last cut that a value crosses; the last is before the first where it crosses none."""
        return self._first[name] + 1, self._last.get(name, 0)

    def counts(self, counted: Callable[[str], bool] = lambda name: True) -> list[int]:
        """How many of the values that are `counted` cross each cut."""
        steps = [0] * (len(self.order) + 1)
        for name, last in self._last.items():
            if counted(name) and last > self._first[name]:
                steps[self._first[name] + 1] += 1
                steps[last + 1] -= 1
        found, total = [], 0
        for step in steps[:-1]:
            total += step
            found.append(total)
        return found

    def crossing(self, cuts: Sequence[int]) -> list[list[str]]:
        """The values that cross each of some cuts, which ascend."""
        found: list[list[str]] = [[] for _ in cuts]
        for name, last in self._last.items():
            for number, cut in enumerate(cuts):
                if self._first[name] < cut <= last:
                    found[number].append(name)
        return found

    def chosen(self, most: int, strange: Callable[[str], bool], forced: Collection[int] = ()) -> list[int]:
        """Cuts, ascending, between which are weights of at most `most` bytes (or one node), the `forced` ones among
        them; of the places in the last half of that those where the fewest `strange` values cross, then the fewest."""
        few, odd = self.counts(), self.counts(strange)
        needs = [self._needs(at) for at in self.order]
        found, start, at = list[int](), 0, 0
        held, total = set[str | int](), 0
        half: int | None = None
        while at < len(self.order):
            more = sum(needs[at][one] for one in needs[at].keys() - held)
            if at > start and at in forced:
                cut = at
            elif at > start and total + more > most:
                cut = min(range(start + 1 if half is None else half, at + 1), key=lambda c: (odd[c], few[c], -c))
            else:
                held |= needs[at].keys()
                total += more
                at += 1
                half = at if half is None and 2 * total >= most else half
                continue
            found.append(cut)
            start = at = cut
            held, total, half = set(), 0, None
        return found

    def _needs(self, at: int) -> dict[str | int, int]:
        """What a node has to have with it, weights by name and nodes by place, and how many bytes each is."""
        nodes, weights = self._net.rests_on(at)
        found: dict[str | int, int] = {name: self._net.bytes_of(name) for name in weights}
        found.update((one, self._net.inner_bytes(one)) for one in (at, *nodes))
        return found


def segments_of(net: Net, order: Sequence[int], cuts: Sequence[int], joints: dict[int, int]) -> list[Segment]:
    """The segments that cuts of an order make; `joints` numbers those cuts at which the other model is cut, too."""
    stops = [*cuts, len(order)]
    groups = [list(order[start:stop]) for start, stop in zip([0, *cuts], stops, strict=True)]
    home = {name: number for number, group in enumerate(groups) for at in group for name in net.nodes[at].output}
    read_later: dict[str, int] = {}
    for number, group in enumerate(groups):
        for at in group:
            read_later.update((name, number) for name in net.reads[at] if home.get(name, number) < number)
    made = []
    for number, group in enumerate(groups):
        last = number == len(groups) - 1
        # outputs that no live node makes: weights, inputs, and what follows from weights
        loose = [name for name in net.outputs if name not in home] if last else []
        made.append(_segment(net, group, home, read_later, loose, joints.get(stops[number])))
    return made


def joined(one: Segment, other: Segment, net: Net, later: Collection[str]) -> Segment:
    """Two segments that follow each other as one; `later` is what the segments behind them take."""
    nodes = tuple(sorted({*one.nodes, *other.nodes}))
    weights = tuple(dict.fromkeys((*one.weights, *other.weights)))
    return Segment(
        nodes,
        tuple(dict.fromkeys((*one.takes, *(name for name in other.takes if name not in one.gives)))),
        tuple(dict.fromkeys((*one.inputs, *other.inputs))),
        tuple(name for name in (*one.gives, *other.gives) if name in net.outputs or name in later),
        weights,
        sum(map(net.bytes_of, weights)) + sum(map(net.inner_bytes, nodes)),
        other.joint,
    )


def _segment(
    net: Net, group: Sequence[int], home: dict[str, int], read_later: dict[str, int], loose: Sequence[str],
    joint: int | None,
) -> Segment:  # fmt: skip
    nodes, weights = set(group), set[str]()
    for at in group:
        fixed, read = net.rests_on(at)
        nodes |= fixed
        weights |= read
    for name in loose:
        behind = net.behind([name])
        nodes |= behind
        weights.update(read for at in behind for read in net.reads[at] if read in net.weights)
        weights.update([name] if name in net.weights else [])
    own = {name for at in group for name in net.nodes[at].output}
    reads = dict.fromkeys(name for at in sorted(nodes) for name in net.reads[at])
    gives = [name for at in group for name in net.nodes[at].output if name in net.outputs or name in read_later]
    return Segment(
        tuple(sorted(nodes)),
        tuple(name for name in reads if name in home and name not in own),
        tuple(name for name in (*reads, *loose) if name in net.inputs and name not in net.makers),
        tuple(dict.fromkeys((*gives, *loose))),
        tuple(sorted(weights)),
        sum(map(net.bytes_of, weights)) + sum(map(net.inner_bytes, nodes)),
        joint,
    )
