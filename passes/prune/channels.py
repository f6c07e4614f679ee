"""Take channels out of convolutions and dense layers, and repair what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from graphopt.analysis.channels import Group, channel_groups
from graphopt.analysis.float_layers import FloatLayer, float_layer
from graphopt.analysis.layer_goals import Goal, goals_of
from graphopt.analysis.unit_removal import Removal
from graphopt.ir import Graph, Node
from graphopt.pipeline.protocol import Context, Contract, Pass, option
from passes.prune.channel_costs import Costs
from passes.prune.channel_cutting import RULE, Cut, Sweep, Terms
from passes.prune.channel_readers import TOGETHER, Reader, by_magnitude, look, readers_of, removal, told_of
from passes.prune.channel_shares import by_error, counts, evenly
from passes.prune.narrowing import Narrowing, why_not_narrow
from passes.prune.output_importance import by_outputs
from passes.prune.overridable import advised
from passes.prune.predicted_errors import parsed, weighed


@dataclass(frozen=True)
class Channels(Pass):
    """Take out channels that matter least, so that tensors and layers really get smaller, and repair the rest.

    What it does
        Finds the axes that get shorter together: the outputs of the layers that make some channels, whatever
        passes them on (normalization, activations, depthwise convolutions, residual sums, concatenation, views), and
        the inputs of the layers that read them. From such a group, channels go; every tensor in it gets
        shorter, so that any runtime is faster on any hardware.

        Which channels go, and how many of each group, follows from what their loss does to the layers that
        read them. importance=second-order takes for the loss of a channel the error that stays when the weights of
        the other channels make good for it as well as they can (optimal brain surgeon for groups of weights), and
        brings it up to date after each channel that goes, so that of two channels that say the same, one stays.
        activation takes the energy that a channel brings, magnitude the size of the weights that make it. output
        runs what is behind without eight numbers of them in the order of second-order, for which the layers that
        read them make good, and counts the error of these layers by how much the outputs lose with it.
        Errors count as a share of the variance of the layer's result, or of the residual sum that it goes into;
        those of second-order are taken on the half of the samples that chose neither channels nor weights.

        `share` is what is to be saved of the target: multiply-accumulates, bytes of weights, or channels, of the
        whole model. allocation=error takes channels one step at a time where they add least error for what
        they save; even takes the same share of every group. With predicted, which `--sensitivity FILE` gives (a table
        that `graphopt sensitivity --table FILE` wrote), a group's errors count as much as that says the outputs
        lose with a quarter of it. What stays of a group is a multiple of `multiple`
        (of less in groups of fewer than twice that), because kernels of convolutions work on 8 or 16 channels at a
        time, and at least a share of 1 - most. With kernel=16 multiply-accumulates are counted as such kernels make
        them: results in whole blocks, and what is read one by one only where it is less than a block. Groups
        of 16 or more then keep whole blocks, and smaller ones lose channels where that makes what reads them cheaper.

        Then, in the order of the graph: at the turn of the first layer that reads a group, its channels are chosen
        on the activations as they are by then, they go, and with repair=true the layers that read them are fitted by
        least squares to what they made in the model as it was read. All other layers behind are fitted
        at their turn (see `repair`), so that errors do not pile up.

    Example
        channels{share=0.3 multiple=16}
        before: c = Conv(x, w[64,3,3,3]) r = Relu(c) y = Conv(r, v[32,64,3,3])
        after:  c = Conv(x, w[48,3,3,3]) r = Relu(c) y = Conv(r, v[32,48,3,3])      v fitted anew

    When not
        Left, with the reason: what a normalization takes its mean over, unless normalized=true; groups that reach a
        graph output, an input, weights that callers may override, or anything whose meaning for its channels is
        not known. Behind quantization (prune first).
        A cut without training costs accuracy quickly: some networks have next to no channels to spare.
        Calibrate on as many samples as there are; a layer with n inputs wants some times n places.

        Cost: a run over the feeds for all groups, and one of both models up to a layer for each level of layers. For
        a group whose readers have n inputs, two matrices of n^2 numbers and some 30 times n^3 operations. With
        importance=output eight runs of what lies behind a group and one of the model for each group, on
        `samples` samples.

    Contract
        LOSSY: needs a budget. No repair makes the error of its layer on the calibration feeds larger.

    Source
        He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017. Hassibi, Stork,
        "Second order derivatives for network pruning: Optimal Brain Surgeon", NIPS 1992. Kurtic, Frantar, Alistarh,
        "ZipLM", NeurIPS 2023 (structures one by one, error against measured cost). Fang et al., "DepGraph", CVPR 2023.
        Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2023 (activation).
    """

    name = "channels"
    contract = Contract.LOSSY
    strength = "share"
    calibrates = True
    predicts = "channels-25"

    share: float = option(0.2, "what is to be saved of the target, as a share of the whole model's")
    target: Literal["macs", "bytes", "channels"] = option(
        "macs", "what is saved: multiply-accumulates, bytes or channels"
    )
    importance: Literal["second-order", "activation", "magnitude", "output"] = option(
        "second-order",
        "what a channel is worth: the error left without it, the energy it brings, its weights, or the outputs' error",
    )
    allocation: Literal["error", "even"] = option("error", "take where it adds least error, or of every group alike")
    kernel: int = option(
        0, "count multiply-accumulates as convolutions that compute so many channels at a time make them; 0: as needed"
    )
    multiple: int = option(16, "what is left of a group is a multiple of this, or of less in small groups")
    most: float = option(0.9, "at most this share of a group goes")
    normalized: bool = option(
        False, "also cut what a normalization takes its mean or variance over: they are then of what is left"
    )
    repair: bool = option(True, "fit the layers behind to what they made in the original")
    damping: float = option(
        0.0, "share of the mean energy of the inputs that pulls towards the weights there are; 0 finds the best"
    )
    rows: int = option(4096, "rows of the data of a layer that are looked at in one feed; 0 for all")
    samples: int = option(32, "samples of the calibration feeds that importance=output runs on; 0 for all")
    predicted: tuple[str, ...] = option(
        (), "NAME=ERROR: what the outputs lose with a quarter of a layer's channels; --sensitivity FILE gives it"
    )
    skip: tuple[str, ...] = option((), "patterns such as /head/* of nodes and values whose groups stay as they are")
    only: tuple[str, ...] = option((), "patterns of the nodes and values whose groups are cut; all when empty")

    def __post_init__(self) -> None:
        for name in ("share", "most"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, and {getattr(self, name):g} is not")
        if not 0 <= self.damping <= 100:
            raise ValueError(f"damping must be from 0 to 100, and {self.damping:g} is not")
        if self.multiple < 1:
            raise ValueError(f"multiple must be at least 1, and {self.multiple} is not")
        if min(self.rows, self.kernel, self.samples) < 0:
            raise ValueError("rows, kernel and samples must not be negative")
        parsed(self.predicted)

    def run(self, graph: Graph, ctx: Context) -> None:
        groups = list[Group]()
        for group in channel_groups(graph, ctx.shapes):
            why = why_not_narrow(group, self.normalized) or self._unwanted(group)
            if why is None:
                groups.append(group)
            else:
                if group.figures and group.obstacle == why:
                    why += ", which normalized=true lets change"
                ctx.missed(RULE, group.subject, advised(why))
        if not groups:
            return
        if self.share == 0:
            ctx.missed(RULE, groups[0].subject, "share is 0: nothing is to go")
            return
        goals = self._goals(graph, ctx)
        readers, removals = self._removals(groups, goals, ctx)
        groups = [group for group in groups if group in removals]
        cuts = [
            Cut(group, count, readers[group], removals[group])
            for group, count in zip(groups, self._counts(graph, groups, removals, ctx), strict=True)
            if count
        ]
        terms = Terms(self.damping, self.rows)
        Sweep(graph.root, ctx, goals, self.importance, self.repair, terms).run(cuts)

    def _unwanted(self, group: Group) -> str | None:
        names = [name for member in group.members for name in [member.tensor.name]]
        names += [site.node.label for site in (*group.makers, *group.readers)]
        pattern = next((one for one in self.skip if any(fnmatchcase(name, one) for name in names)), None)
        if pattern is not None:
            return f"skip has {pattern!r}"
        if self.only and not any(fnmatchcase(name, one) for one in self.only for name in names):
            return "only has no pattern for it"
        return None

    def _goals(self, graph: Graph, ctx: Context) -> Mapping[Node, Goal]:
        """What layers made in the original: of all that can be fitted, where anything is to be fitted or observed."""
        if self.importance == "magnitude" and not self.repair:
            return {}
        layers = [found for node in graph.root.nodes if isinstance(found := float_layer(node), FloatLayer)]
        return goals_of(layers, ctx)

    def _removals(
        self, groups: Sequence[Group], goals: Mapping[Node, Goal], ctx: Context
    ) -> tuple[dict[Group, Sequence[Reader]], dict[Group, Removal]]:
        """For each group the layers that can be asked, and its channels in the order in which they would go."""
        readers, found = dict[Group, Sequence[Reader]](), dict[Group, Removal]()
        for group in groups:
            told = readers_of(group, goals)
            readers[group] = [] if isinstance(told, str) else told
            if self.importance == "magnitude":
                found[group] = by_magnitude(group)
            elif isinstance(told, str):
                ctx.missed(RULE, group.subject, f"{told}, and importance is {self.importance}")
        if self.importance == "magnitude":
            return readers, found
        for batch in _batches([group for group in groups if readers[group]], readers):
            layers = {one.layer.node: one.layer for group in batch for one in readers[group]}
            seen = look(list(layers.values()), goals, ctx, self.rows)
            for group in batch:
                order = removal(readers[group], seen, Narrowing(), self.importance, self.damping, curve=True)
                if self.importance == "output" and isinstance(order, Removal):
                    asked = told_of(readers[group], seen, order, self.damping)
                    order = by_outputs(asked, order.order, self.repair, ctx, self.samples, unseen=order.errors)
                if isinstance(order, Removal):
                    found[group] = order
                else:
                    ctx.missed(RULE, group.subject, order)
        return readers, found

    def _counts(
        self, graph: Graph, groups: Sequence[Group], removals: Mapping[Group, Removal], ctx: Context
    ) -> list[int]:
        """How many channels of each group go; groups that lose none are missed."""
        costs = Costs(graph, ctx.shapes, groups, self.target, self.kernel)
        choices = [counts(group.size, self.multiple, self.most, self.kernel) for group in groups]
        goal = self.share * costs.total
        if self.allocation == "even":
            found = evenly([group.size for group in groups], choices, costs, goal)
        else:
            curves = [removals[group].errors for group in groups]
            found = by_error(weighed(groups, curves, parsed(self.predicted)), choices, costs, goal)
        saved = costs.saved(found)
        for group, count, each in zip(groups, found, choices, strict=True):
            if count == 0:
                why = (
                    "other channels are cheaper to lose"
                    if len(each) > 1
                    else f"no multiple of {self.kernel or self.multiple} is less than its {group.size} channels"
                )
                ctx.missed(RULE, group.subject, why)
        if groups and saved < goal * 0.99:
            ctx.missed(
                RULE,
                groups[0].subject,
                f"only {saved / costs.total:.1%} of the {self.target} can be saved in all, not {self.share:.1%}",
            )
        return found


def _batches(groups: Sequence[Group], readers: Mapping[Group, Sequence[Reader]]) -> list[list[Group]]:
    """Groups whose readers' sums fit in memory together."""
    made, size = list[list[Group]](), TOGETHER
    for group in groups:
        needed = sum(one.layer.sums for one in readers[group])
        if size + needed > TOGETHER:
            made.append([])
            size = 0
        made[-1].append(group)
        size += needed
    return made
