"""Where a graph can be made smaller, in which ways, and what each way loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np

from edgec.errors import Diagnostic
from edgec.ir import Array, Graph
from edgec.passes import Pass

__all__ = ["NOTHING_GONE", "Kept", "Option", "Picks", "Site", "Technique"]

Kept = Mapping[str, Array]
"""Indices of the channels that are left, by the name of a value that has lost some."""

NOTHING_GONE: Kept = MappingProxyType({})

Picks = Mapping[str, int]
"""Which option of each site, by the name of the site; of those not named the first."""


@dataclass(frozen=True, slots=True)
class Option:
    """One way to compress one place.

    Parameters
    ----------
    label
        As users read it, such as "24 of 32 channels" or "separable, 3 to a channel".
    nats
        What the outputs lose with this alone, on samples held out
        (:class:`edgec.passes.divergence.Divergence`); measured, or predicted from the error of
        the layer and what such errors were measured to cost.
    """

    label: str
    nats: float


@dataclass(frozen=True, slots=True)
class Site:
    """One place, with what can be done to it.

    Parameters
    ----------
    name
        Unique within a technique: of a value that a layer yields.
    layer
        The user's name for it.
    options
        The first is to leave it as it is, and loses nothing.
    """

    name: str
    layer: str
    options: Sequence[Option]


class Technique(Protocol):
    """A way to make one graph smaller, with all that was measured of it."""

    @property
    def name(self) -> str:
        """As the pass is called that does it."""

    trials: int = 0
    """How many combinations of options a search may have measured by :meth:`loss`."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The places, in order of the graph."""

    def skeleton(self, picks: Picks, graph: Graph) -> Graph:
        """Return a graph with the shapes it would have; its weights are not fitted.

        Parameters
        ----------
        graph
            The one the technique was made for, or what techniques before it made of that:
            values have the same names, but may have lost channels.
        """

    def passes(self, picks: Picks, kept: Kept = NOTHING_GONE) -> tuple[Pass, ...]:
        """Return the passes that do what is picked and make up for it as far as they can.

        Parameters
        ----------
        kept
            What techniques before it left of the channels of values.
        """

    def loss(self, picks: Picks) -> Array:
        """Return what some options lose together, on each of the samples that judge.

        Where nothing else is known that is the sum of what they lose alone, once.
        """
        alone = (s.options[picks[s.name]].nats for s in self.sites if s.name in picks)
        return np.array([sum(alone)])

    def notes(self) -> tuple[Diagnostic, ...]:
        """Return what stays as it is whatever is picked, and why."""
        return ()

    def kept(self, picks: Picks) -> Kept:
        """Return what is left of the channels of values that lose some."""
        del picks
        return NOTHING_GONE
