"""Channels silenced, and channels taken out: what both must agree on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from edgec.channels import ChannelGroup, channels_of, without
from edgec.evaluate import evaluate
from edgec.ir import Array, Constant, Graph, verify
from edgec.numerics import relative_error
from edgec.passes.rounding import rounding_floor

Removal = Mapping[tuple[str, int], Array]


def silenced(graph: Graph, removed: Removal) -> Graph:
    """Return the graph with zeros for the weights of what is removed."""
    constants = dict(graph.constants)
    for (name, axis), at in removed.items():
        if name in constants and constants[name].array.dtype.kind == "f":
            array = constants[name].array.copy()
            array[(slice(None),) * axis + (at,)] = 0
            constants[name] = Constant(array)
    return replace(graph, constants=MappingProxyType(constants))


def joined(groups: Sequence[ChannelGroup], pick: Callable[[int], Array]) -> Removal:
    """Return what goes with some units of every group that has more than one."""
    found: dict[tuple[str, int], list[Array]] = {}
    for group in groups:
        if group.size > 1:
            for place, at in group.removal(pick(group.size)).items():
                found.setdefault(place, []).append(at)
    return {place: np.unique(np.concatenate(at)) for place, at in found.items()}


def check_removal(
    graph: Graph, feed: Mapping[str, Array], seed: int = 0
) -> tuple[float, float]:
    """Take out a third of the units of every group, silenced first.

    Returns the error, and how far rounding alone moves the silenced graph.
    """
    rng = np.random.default_rng(seed)
    groups = channels_of(graph).groups
    removed = joined(groups, lambda n: rng.choice(n, max(1, n // 3), replace=False))
    quiet = silenced(graph, removed)
    less = without(quiet, removed)
    verify(less)
    assert [v.type for v in less.outputs] == [v.type for v in graph.outputs]
    want = evaluate(quiet, feed)
    return relative_error(want, evaluate(less, feed)), rounding_floor(quiet, feed, want)
