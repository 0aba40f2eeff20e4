"""Factorisation as a technique: each layer a site, each form of a product an option."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from typing_extensions import override

from edgec.cache import Cache
from edgec.compression.keys import key_of, numbers
from edgec.compression.sites import NOTHING_GONE, Kept, Option, Picks, Site, Technique
from edgec.cost import Cost, cost
from edgec.errors import Diagnostic
from edgec.ir import Array, Graph, Node
from edgec.latency import Kernels, node_seconds, predicted_seconds
from edgec.ops import Conv, FullyConnected
from edgec.passes import FactorizeLowRank, FactorizeSeparable, Pass, Rank
from edgec.passes.divergence import Divergence
from edgec.passes.factor_form import Form, covariance_of
from edgec.passes.factorizations import Separable
from edgec.passes.factorized_layers import alone, kernels, refusal, skeleton
from edgec.passes.judging import judging
from edgec.passes.layer_statistics import ExchangeRates, Statistics, statistics
from edgec.passes.moved_samples import moved

__all__ = ["KINDS", "Factorization"]

KINDS = ("separable", "channel", "spatial", "tucker")
"""Ways to factorise; see :class:`FactorizeSeparable` and :class:`edgec.passes.Rank`."""

_JUDGES = 128
_MOST_LEFT = 0.95
_MOST_ERROR = 0.5
_MOST_MULTIPLIER = 5
_RATIO = 1.125
_TURNS = 1
"""Three of them are what a pass takes, for errors less by a few percent."""
_MEASURED = (0.02, 0.2)
_MOST_MACS = 2e10
"""Of measurements for one layer; if they would take more only two ways are measured."""
_SLOPES = 0.5, 2.0
_LEAST_GAIN = 0.05
"""Of a layer's time: less is within what a prediction is off."""
_SLOW = "is predicted to be no faster on the target in any form"
_RUINED = 1e6
"""Nats of what is no number any more."""

Way = int | Rank
"""A multiplier of a separable form, or a rank."""


class _Less(NamedTuple):
    """A way to factorise one layer, with the share of multiply-accumulates that is left."""

    way: Way
    form: Form
    macs: float


class _Offer(NamedTuple):
    """The same, with the squared error of the layer's results.

    On samples held out, and relative to their variance.
    """

    way: Way
    form: Form
    macs: float
    error: float


class Factorization(Technique):
    """What each way to factorise each layer loses, one layer at a time.

    The error of a layer's results follows from its statistics, without running anything. What
    such errors cost is measured on samples held out: of small models for every way, of others
    for two of each layer, a coarse and a fine one, as losses grow with a power of the error.
    Offered are those ways that lose less than all that compute as little. Of ways that the
    target would not run faster nothing is measured.

    Parameters
    ----------
    samples
        One array for each graph input, for each sample; there have to be eight or more.
    kinds
        Which of :data:`KINDS` to offer.
    multiple
        Ranks that kernels like are multiples of it.
    kernels
        Of the target: only ways are offered that are predicted to be faster on them.
        ``None`` offers all that compute less.
    original, kept
        What layers are fitted to, if that is not the graph itself but what it was made from;
        and the channels of it that are left, by the name of a value.
    cache
        Keeps each measurement, so that a run that was stopped goes on where it was.
    progress
        Called with the number of layers that are measured, and of all.

    Attributes
    ----------
    left_out
        Why layers stay as they are, by the user's names.
    """

    def __init__(
        self,
        graph: Graph,
        samples: Sequence[Mapping[str, Array]],
        *,
        kinds: Sequence[str] = KINDS,
        multiple: int = 4,
        kernels: Kernels | None = None,
        original: Graph | None = None,
        kept: Kept = NOTHING_GONE,
        cache: Cache = Cache(None),  # noqa: B008
        progress: Callable[[int, int], None] = lambda done, all_: None,
    ) -> None:
        self.graph, self.samples, self._kinds, self._multiple = graph, samples, kinds, multiple
        self._kernels, self._original, self._kept = kernels, original or graph, kept
        self.left_out: dict[str, str] = {}
        self._measured = _Measured(graph, samples, cache)
        self._ways: dict[str, tuple[Way, ...]] = {}
        nodes = [n for n in graph.nodes if isinstance(n.op, Conv | FullyConnected)]
        sites: list[Site] = []
        for done, node in enumerate(nodes, 1):
            site = self._site(node)
            if site is not None:
                sites.append(site)
            progress(done, len(nodes))
        self._sites = tuple(sites)

    @property
    def name(self) -> str:
        """What it is called, by the kinds that are offered."""
        if list(self._kinds) == ["separable"]:
            return FactorizeSeparable.name
        return "factorize" if "separable" in self._kinds else FactorizeLowRank.name

    @property
    @override
    def sites(self) -> tuple[Site, ...]:
        return self._sites

    @override
    def skeleton(self, picks: Picks, graph: Graph) -> Graph:
        shapes = kernels(graph)
        forms = {
            name: form_of(way, shapes[name])
            for name, way in self.ways(picks).items()
            if name in shapes
        }
        return skeleton(graph, {n: f for n, f in forms.items() if f.problem() is None})

    @override
    def passes(self, picks: Picks, kept: Kept = NOTHING_GONE) -> tuple[Pass, ...]:
        """Return the passes that factorise what is picked, and fit the layers behind it.

        Parameters
        ----------
        kept
            Channels that are left by the name of a value, if passes before these take some
            out. If that is not known layers are fitted to what those passes made.
        """
        before = self._kept
        left = {**before, **{n: before[n][k] if n in before else k for n, k in kept.items()}}
        ways = self.ways(picks)
        multipliers = {n: w for n, w in ways.items() if isinstance(w, int)}
        ranks = {n: w for n, w in ways.items() if isinstance(w, Rank)}
        found: list[Pass] = []
        if multipliers:
            found.append(FactorizeSeparable(multipliers, self.samples, self._original, left))
        if ranks:
            found.append(FactorizeLowRank(ranks, self.samples, self._original, left))
        return tuple(found)

    @override
    def notes(self) -> tuple[Diagnostic, ...]:
        slow = [layer for layer, reason in self.left_out.items() if reason == _SLOW]
        notes = [
            Diagnostic(f"is not factorised: it {reason}", layer)
            for layer, reason in self.left_out.items()
            if reason != _SLOW
        ]
        if slow:  # it may be all of them
            others = f", as are {len(slow) - 1} more" if len(slow) > 1 else ""
            why = f"is not factorised: it {_SLOW}{others}"
            notes.append(Diagnostic(why, slow[0], "named with --technique it is done even so"))
        return tuple(notes)

    def ways(self, picks: Picks) -> dict[str, Way]:
        """Return how layers are factorised that do not stay as they are."""
        return {name: self._ways[name][k - 1] for name, k in picks.items() if k}

    def curve(self, name: str) -> dict[str, tuple[float, float]]:
        """Return for each way the share of multiply-accumulates that is left, and the error.

        Relative to the variance of the layer's results, on samples held out; the cheapest way
        comes first. Ways that another beats in both are there, too.
        """
        node = next(n for n in self.graph.nodes if n.outputs[0].name == name)
        if self._measured.missing(name) is not None:
            return {}
        offers = self._offers(name, list(self._ways_of(node)))
        return {str(o.form): (o.macs, o.error) for o in offers}

    def _site(self, node: Node) -> Site | None:
        name = node.output.name
        reason = refusal(self.graph, node)
        ways = [] if reason else list(self._ways_of(node))
        if reason is None and not ways:
            reason = "computes no less in any form"
        if reason is None and self._kernels is not None:
            ways = [way for way in ways if self._is_faster(node, way.form, self._kernels)]
            reason = None if ways else _SLOW
        reason = reason or self._measured.missing(name)
        front = [] if reason else _front(self._offers(name, ways))
        if reason is None and not front:
            reason = "loses too much in every form that would compute less"
        if reason is not None:
            self.left_out[node.layer] = reason
            return None
        nats = self._measured.nats(name, front)
        self._ways[name] = tuple(o.way for o in front)
        options = (Option(str(o.form), n) for o, n in zip(front, nats, strict=True))
        return Site(name, node.layer, (Option("as it is", 0.0), *options))

    def _ways_of(self, node: Node) -> Iterator[_Less]:
        """Yield every way that computes less."""
        name, shape = node.output.name, node.inputs[1].type.ints
        layer = alone(self.graph, node)
        whole = cost(layer)
        for way in ways_of(shape, self._kinds, self._multiple):
            form = form_of(way, shape)
            if form.problem() is not None:
                continue
            less = cost(skeleton(layer, {name: form}))
            if _is_less(less, whole):
                yield _Less(way, form, less.macs / whole.macs)

    def _is_faster(self, node: Node, form: Form, kernels: Kernels) -> bool:
        layer = alone(self.graph, node)
        now = predicted_seconds(skeleton(layer, {node.output.name: form}), kernels)
        return now <= (1 - _LEAST_GAIN) * node_seconds(node, kernels)

    def _offers(self, name: str, ways: Sequence[_Less]) -> list[_Offer]:
        """Return ways with their errors, those that compute least first."""
        errors = (self._measured.error(name, each.form) for each in ways)
        found = [_Offer(*each, error) for each, error in zip(ways, errors, strict=True)]
        return sorted(found, key=lambda o: (o.macs, o.error))


class _Measured:
    """Errors and losses of one graph, as far as they are not in the cache."""

    def __init__(
        self, graph: Graph, samples: Sequence[Mapping[str, Array]], cache: Cache
    ) -> None:
        self._graph, self._samples, self._cache = graph, samples, cache
        self._key = key_of(graph, samples, f"factors {_JUDGES}")
        self._known = numbers(cache.read(self._key))

    @cached_property
    def _statistics(self) -> Statistics:
        nodes = [n for n in self._graph.nodes if refusal(self._graph, n) is None]
        return statistics(self._graph, self._samples, names={n.output.name for n in nodes})

    @cached_property
    def _rates(self) -> ExchangeRates:
        judges = moved(judging(self._samples))[:_JUDGES]
        return ExchangeRates(self._graph, self._statistics, Divergence(self._graph, judges))

    def missing(self, name: str) -> str | None:
        """Return why there are no statistics of a layer, if there are none."""
        return None if f"power of {name}" in self._known else self._look(name)

    def _look(self, name: str) -> str | None:
        found = self._statistics.left_out.get(name)
        if found is None:
            self._keep(f"power of {name}", self._statistics.layers[name].power)
        return found

    def error(self, name: str, form: Form) -> float:
        """Return the error of a layer's results in a form, relative to their variance."""
        label = f"error of {name}, {form}"
        if label not in self._known:
            self._keep(label, self._statistics.layers[name].error(self._weight(name, form)))
        return self._known[label] / max(self._known[f"power of {name}"], 1e-30)

    def nats(self, name: str, front: Sequence[_Offer]) -> list[float]:
        """Return what each of several ways loses: measured, or from two that were measured."""
        every = len(front) * cost(self._graph).macs * _JUDGES <= _MOST_MACS
        at = range(len(front)) if every else {_nearest(front, e) for e in _MEASURED}
        lost = np.log([self._lost(name, front[k].form) for k in sorted(at)])
        errors = np.log([max(o.error, 1e-12) for o in front])
        known = errors[sorted(at)]
        slope = 1.0
        if len(known) > 1 and known[-1] != known[0]:
            slope = float(np.clip((lost[-1] - lost[0]) / (known[-1] - known[0]), *_SLOPES))
        # Small errors cost in proportion; larger ones as those that were measured.
        found = np.interp(errors, known, lost) + np.minimum(errors - known[0], 0)
        found += slope * np.maximum(errors - known[-1], 0)
        rising = np.maximum.accumulate(found)  # the finest comes first, and loses least
        return [float(n) for n in np.minimum(np.exp(rising), _RUINED)]

    def _lost(self, name: str, form: Form) -> float:
        label = f"nats of {name}, {form}"
        if label not in self._known:
            nats = self._rates.nats(name, self._weight(name, form))
            self._keep(label, min(nats, _RUINED) if math.isfinite(nats) else _RUINED)
        return max(self._known[label], 1e-9)

    def _weight(self, name: str, form: Form) -> Array:
        found = self._statistics.layers[name]
        covariance = covariance_of(found.fit)
        return form.dense(form.fitted(found.layer.weight[0], covariance, turns=_TURNS))[None]

    def _keep(self, label: str, value: float) -> None:
        self._known[label] = max(value, 0.0)
        self._cache.write(self._key, self._known)


def form_of(way: Way, shape: tuple[int, ...]) -> Form:
    """Return the form of a layer with weights of some shape."""
    return Separable(shape, way) if isinstance(way, int) else way.of(shape)


def ways_of(shape: tuple[int, ...], kinds: Sequence[str], multiple: int) -> Iterator[Way]:
    """Yield the ways to factorise weights of some shape, whether they save something or not."""
    outputs, inner = shape[0], math.prod(shape[1:])
    has_kernel = math.prod(shape[2:]) > 1
    if "separable" in kinds and has_kernel:
        yield from range(1, _MOST_MULTIPLIER + 1)
    if "channel" in kinds:
        yield from (Rank("channel", r) for r in _ladder(min(outputs, inner), multiple))
    if "spatial" in kinds and has_kernel and len(shape) == 4 and min(shape[2:]) > 1:
        most = min(outputs * shape[3], shape[1] * shape[2])
        yield from (Rank("spatial", r) for r in _ladder(most, multiple))
    if "tucker" in kinds and has_kernel:
        # Both ranks in the same proportion to what they stand for, or one step more.
        for inner_rank in _ladder(shape[1], multiple):
            share = inner_rank / shape[1]
            rank = max(multiple, round(share * outputs / multiple) * multiple)
            yield from (
                Rank("tucker", r, inner_rank) for r in (rank, rank + multiple) if r <= outputs
            )


def _ladder(most: int, multiple: int) -> Iterator[int]:
    """Yield ranks below the most that there is, each at least an eighth more than the last."""
    rank = multiple
    while rank < most:
        yield rank
        rank = max(rank + multiple, math.ceil(_RATIO * rank / multiple) * multiple)


def _is_less(one: Cost, whole: Cost) -> bool:
    return one.macs <= _MOST_LEFT * whole.macs and one.parameters < whole.parameters


def _front(offers: Sequence[_Offer]) -> list[_Offer]:
    """Return the ways that lose less than all that compute as little, the finest first.

    Of ways that differ by less than an eighth in what they compute only the finest.
    """
    found: dict[int, _Offer] = {}
    least = _MOST_ERROR
    for offer in offers:
        if offer.error < least:
            least = offer.error
            found[math.floor(math.log(offer.macs, _RATIO))] = offer
    return list(found.values())[::-1]


def _nearest(front: Sequence[_Offer], error: float) -> int:
    """Return which way has an error that is nearest to one, as a ratio."""
    ratios = [abs(math.log(max(o.error, 1e-12) / error)) for o in front]
    return int(np.argmin(ratios))
