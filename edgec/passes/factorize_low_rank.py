"""Layers computed through fewer channels than they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

from typing_extensions import override

from edgec.ir import Array, Graph
from edgec.passes.factor_form import Form
from edgec.passes.factorizations import LowRank, Spatial, Tucker
from edgec.passes.factorized_layers import Factorizing, kernels

__all__ = ["FactorizeLowRank", "Rank"]


@dataclass(frozen=True, slots=True)
class Rank:
    """How a layer is to be written as a product.

    Parameters
    ----------
    form
        ``"channel"``: the same kernel to `rank` channels, then a pointwise layer; of a product
        or a pointwise layer the singular value decomposition. ``"spatial"``: a kernel along
        the first axis to `rank` channels, then one along the second. ``"tucker"``: a pointwise
        layer to `inner` channels, the kernel to `rank`, then a pointwise layer.
    inner
        Only for the last.
    """

    form: Literal["channel", "spatial", "tucker"]
    rank: int
    inner: int = 0

    def of(self, shape: tuple[int, ...]) -> Form:
        """Return the form of a layer with weights of some shape."""
        match self.form:
            case "channel":
                return LowRank(shape, self.rank)
            case "spatial":
                return Spatial(shape, self.rank)
            case "tucker":
                return Tucker(shape, self.inner, self.rank)


@dataclass(frozen=True, slots=True)
class FactorizeLowRank(Factorizing):
    """Compute layers through fewer channels: products of low rank, fitted to what is read.

    For ``min || (W - A B) X ||`` of rank ``r`` the optimum is known: with ``W H W^T = U L U^T``
    and ``H`` the covariance of what is read, ``A = U_r`` and ``B = U_r^T W``. Spatial and
    Tucker factors are fitted in turns, each by least squares. Layers are taken in order, each
    on what those before it yield by then, and fitted to what the original yields: the ``W``
    that is factorised is the one that comes nearest to that. The bias follows from the means,
    and what passes between the factors is brought to one size for all channels, as one scale
    may have to do for them. Without samples the weights alone are approximated.

    CP decomposition is not offered: its factors cancel each other, and cannot be fitted
    without training.

    Lossy. The ratios on record are those of each layer's results on samples held out: from the
    weights alone, and with what was fitted; and of layers behind, which are fitted to what
    they read by then, as they were and as they are now.

    Parameters
    ----------
    ranks
        By the name of the result of a convolution or product.
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
    Zhang et al., arXiv:1505.06798; Jaderberg et al., arXiv:1405.3866; Kim et al.,
    arXiv:1511.06530.
    """

    name: ClassVar[str] = "factorize-low-rank"
    ranks: Mapping[str, Rank] = field(hash=False)
    samples: Sequence[Mapping[str, Array]] | None = field(hash=False, repr=False, default=None)
    original: Graph | None = field(hash=False, repr=False, default=None)
    kept: Mapping[str, Array] = field(
        hash=False, repr=False, default_factory=lambda: MappingProxyType({})
    )

    @override
    def forms(self, graph: Graph) -> dict[str, Form]:
        shapes = kernels(graph)
        return {name: rank.of(shapes.get(name, ())) for name, rank in self.ranks.items()}
