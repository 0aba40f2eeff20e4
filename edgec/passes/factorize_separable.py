"""Convolutions computed as depthwise and pointwise ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Array, Graph
from edgec.passes.factor_form import Form
from edgec.passes.factorizations import Separable
from edgec.passes.factorized_layers import Factorizing, kernels

__all__ = ["FactorizeSeparable"]


@dataclass(frozen=True, slots=True)
class FactorizeSeparable(Factorizing):
    """Compute convolutions as a depthwise one with a multiplier, then a pointwise one.

    ``W[o, c, :] = sum_r P[o, c R + r] D[c, r, :]``; exact where the multiplier ``R`` is the
    number of places in the kernel. Given samples, ``P`` and ``D`` are fitted in turns to what
    the layer reads, over all channels at once, so that one channel makes up for what another
    lost; layers are taken in order, each on what those before it yield by then, and fitted to
    what the original yields. The bias follows from the means. Without samples each channel's
    kernels are approximated for themselves, as published.

    Lossy. The ratios on record are those of each layer's results on samples held out: with the
    published solution, and with what was fitted; and of layers behind, which are fitted to
    what they read by then, as they were and as they are now.

    Parameters
    ----------
    multipliers
        How many kernels each input channel has, by the name of a convolution's result.
    samples
        One array for each graph input, for each sample. With fewer than eight nothing changes;
        ``None`` goes by the weights alone.
    original
        The graph to come near to, with the same names for values: the graph itself if not
        given.
    kept
        Channels of the original that are left, by the name of a value.

    References
    ----------
    Guo et al., arXiv:1808.05517 (network decoupling).
    """

    name: ClassVar[str] = "factorize-separable"
    multipliers: Mapping[str, int] = field(hash=False)
    samples: Sequence[Mapping[str, Array]] | None = field(hash=False, repr=False, default=None)
    original: Graph | None = field(hash=False, repr=False, default=None)
    kept: Mapping[str, Array] = field(
        hash=False, repr=False, default_factory=lambda: MappingProxyType({})
    )

    @override
    def forms(self, graph: Graph) -> dict[str, Form]:
        shapes = kernels(graph)
        return {n: Separable(shapes.get(n, ()), r) for n, r in self.multipliers.items()}
