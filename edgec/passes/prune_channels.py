"""Whole channels taken out, and the layers that read them fitted to do without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from edgec.channels import channels_of
from edgec.cost import cost
from edgec.errors import Diagnostic
from edgec.ir import Array, Graph
from edgec.passes.base import LayerRecord, Lossy, Pass, Promise
from edgec.passes.channel_cuts import ChannelCuts, Criteria, Widths
from edgec.passes.divergence import Divergence, ratio_of
from edgec.passes.judging import judging

__all__ = ["PruneChannels"]

_JUDGES = 32


@dataclass(frozen=True, slots=True)
class PruneChannels(Pass):
    """Cut groups of channels to the widths that are given.

    Channels go in the groups that the operators tie together (:mod:`edgec.channels`). Within a
    group they go in the order of a criterion, and the layers that read them are fitted to what
    they yielded before. Which widths are worth it is not decided here: see
    :class:`edgec.compression.ChannelPruning`.

    Not used: Taylor and Fisher scores, squeezing before removal and fits of several blocks at
    once (SNOWS), which need gradients; selection by LASSO, which ends where optimal brain
    surgery does and takes longer; correction of variances, as the least squares with a free
    bias leave both moments as near as the weights can bring them.

    Lossy. On record is a line for each group: what the outputs lose with this group alone, in
    nats on samples held out, before the layers are fitted and after.

    Parameters
    ----------
    widths
        How many units are left, by the name of the group: of what its first layer yields.
        Groups that are not named stay whole.
    samples
        One array for each graph input, for each sample.
    criterion
        See :data:`edgec.channels.importance.Criterion`; one for all groups, or by their names.
    compensate
        Whether the layers that read a group are fitted.

    References
    ----------
    Fang et al., arXiv:2301.12900 (groups); He et al., arXiv:1707.06168 (least squares).
    """

    name: ClassVar[str] = "prune-channels"
    promise: ClassVar[Promise] = Lossy()
    widths: Widths = field(hash=False)
    samples: Sequence[Mapping[str, Array]] = field(hash=False, repr=False)
    criterion: Criteria = field(default="obs", hash=False)
    compensate: bool = True

    @override
    def run(self, graph: Graph) -> Graph:
        return self._cuts(graph).cut(self.widths, self.criterion)

    @override
    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        cuts = self._cuts(graph)
        made = cuts.cut(self.widths, self.criterion)
        return made, (() if made is graph else tuple(self._records(cuts)))

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        return tuple(
            Diagnostic(f"its channels all stay: {reason}", node.layer, _way_out(reason))
            for node, reason in channels_of(graph).reasons.items()
        )

    def _cuts(self, graph: Graph) -> ChannelCuts:
        return ChannelCuts(
            graph,
            self.samples,
            compensate=self.compensate,
            names=list(self.widths),
        )

    def _records(self, cuts: ChannelCuts) -> Iterator[LayerRecord]:
        """Yield what each group costs and saves alone."""
        samples = judging(self.samples)[:_JUDGES]
        judge, whole = Divergence(cuts.graph, samples), cost(cuts.graph)
        for name, group in cuts.groups.items():
            size = self.widths[name]
            if size == group.size:
                continue
            left = cost(cuts.skeleton({name: size}))
            bare = cuts.cut({name: size}, self.criterion, compensate=False)
            before = after = float(judge.of(bare).mean())
            if self.compensate:
                after = float(judge.of(cuts.cut({name: size}, self.criterion)).mean())
            yield LayerRecord(
                group.layer,
                ratio_of(before),
                ratio_of(after),
                f"{size} of {group.size} channels",
                (before, after),
                (whole.macs, left.macs),
                (whole.weight_bytes, left.weight_bytes),
            )


def _way_out(reason: str) -> str:
    """Return what users can do about a reason; nothing where the interface has to stay."""
    if reason.endswith("needs all of them"):
        return "without that node, or with it behind the next layer, they are free to go"
    return "" if reason.endswith("of the model") else "a layer of its own would leave them free"
