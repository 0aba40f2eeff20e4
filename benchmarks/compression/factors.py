"""Layers written as products of smaller ones: what that costs and gains."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.compression.bench import Bench, bound
from benchmarks.compression.cases import Case, Paired
from edgec.cache import Cache
from edgec.compression import Factorization, search
from edgec.cost import cost
from edgec.ir import Graph, Node
from edgec.ops import Conv, FullyConnected
from edgec.passes import FactorizeSeparable, Pass, Pipeline
from edgec.passes.divergence import Divergence
from edgec.passes.factor_form import covariance_of
from edgec.passes.factorizations import LowRank
from edgec.passes.judging import judging
from edgec.passes.layer_statistics import statistics

__all__ = ["low_rank", "separable"]

_SEPARABLE = ("resnet8", "resnet20", "resnet56")
_LEAST_OUTPUTS = 32
_POINTWISE = ("mobilenet_v2", "efficientnet_lite0")
_SHARES = (0.9, 0.75, 0.5)
_LITTLE, _MOST_DROP = 1.08, 1.0
_SINGLE = ("separable", "channel", "spatial", "tucker")


def separable(bench: Bench, models: Sequence[str]) -> int:
    """Depthwise and pointwise layers for 3x3 convolutions, by weights and by data."""
    failures = 0
    for name in (n for n in _SEPARABLE if n in models):
        case = bench.case(name)
        print(f"{name}: every 3x3 convolution to {_LEAST_OUTPUTS} channels or more")
        drops: dict[tuple[int, bool], Paired] = {}
        for multiplier in (4, 3, 2):
            for aware in (False, True):
                wanted = {n.output.name: multiplier for n in case.graph.nodes if _is_wanted(n)}
                step = FactorizeSeparable(wanted, case.feeds if aware else None)
                label = f"R = {multiplier}, {'joint, by data' if aware else 'weights alone'}"
                drops[multiplier, aware] = _line(bench, case, label, step)
        lost = drops[4, False].drop
        failures += bound(
            f"joint R = 4 loses {drops[4, True].drop:.2f} points, at most a quarter of the "
            f"{lost:.2f} of weights alone",
            holds=drops[4, True].drop <= lost / 4,
        )
        failures += bound(
            f"joint R = 2 loses {drops[2, True].drop:.2f}, about as much as R = 4 by weights "
            f"alone ({lost:.2f})",
            holds=drops[2, True].drop <= lost + 1,
        )
    if "resnet56" in models:
        failures += _chosen(bench, bench.case("resnet56"), 1.5)
    return failures


def low_rank(bench: Bench, models: Sequence[str]) -> int:
    """Products of low rank in the place of fully connected and pointwise layers."""
    failures = 0
    for name, goal, most in (("lenet_300_100", 6.0, 0.15), ("lenet5", 8.0, 0.15)):
        if name in models:
            failures += _lenet(bench, bench.case(name), goal, most)
    for name in (n for n in _POINTWISE if n in models):
        _pointwise(bench, bench.case(name))
    return failures


def _is_wanted(node: Node) -> bool:
    if not isinstance(node.op, Conv):
        return False
    outputs, _, *kernel = node.inputs[1].type.ints
    return kernel == [3, 3] and outputs >= _LEAST_OUTPUTS


def _line(bench: Bench, case: Case, label: str, *steps: Pass) -> Paired:
    start = time.perf_counter()
    graph, _ = Pipeline(steps).run(case.graph)
    return bench.line(case, label, graph, time.perf_counter() - start)


def _chosen(bench: Bench, case: Case, goal: float) -> int:
    """Print what each kind alone reaches at a goal, and what the best of all for each layer."""
    print(f"{case.name}: {goal:g}x fewer multiply-accumulates, each layer as it loses least")
    judge = Divergence(case.graph, judging(case.feeds))
    nats: dict[str, float] = {}
    for kinds in (*((k,) for k in _SINGLE), _SINGLE):
        label = kinds[0] if len(kinds) == 1 else "chosen for each layer"
        start = time.perf_counter()
        graph = _within(bench, case, _macs, goal, kinds=kinds, multiple=8)
        if graph is None:
            print(f"  {label:44} out of reach")
            continue
        bench.line(case, label, graph, time.perf_counter() - start)
        nats[label] = float(judge.of(graph).mean())
        print(f"    loses {nats[label]:.4f} nats on samples held out")
    best = nats.pop("chosen for each layer")
    return bound(
        f"what is chosen loses {best:.4f} nats on samples held out, less than every kind alone",
        holds=best < min(nats.values()),
    )


def _within(
    bench: Bench,
    case: Case,
    price: Callable[[Graph], float],
    goal: float,
    *,
    kinds: Sequence[str],
    multiple: int,
) -> Graph | None:
    technique = Factorization(
        case.graph, case.feeds, kinds=kinds, multiple=multiple, cache=Cache(bench.cache)
    )
    found = search(case.graph, [technique], price, price(case.graph) / goal)
    if found is None:
        return None
    return Pipeline(technique.passes(found.picks[0])).run(case.graph)[0]


def _macs(graph: Graph) -> float:
    return float(cost(graph).macs)


def _product_weights(graph: Graph) -> float:
    """Return the weights of fully connected layers."""
    return float(
        sum(n.inputs[1].type.size for n in graph.nodes if isinstance(n.op, FullyConnected))
    )


def _lenet(bench: Bench, case: Case, goal: float, most: float) -> int:
    print(f"{case.name}: {goal:g}x fewer weights in fully connected layers")
    start = time.perf_counter()
    graph = _within(bench, case, _product_weights, goal, kinds=["channel"], multiple=2)
    assert graph is not None
    found = bench.line(case, "low rank, by data", graph, time.perf_counter() - start)
    left = _product_weights(case.graph) / _product_weights(graph)
    return bound(
        f"{left:.2f}x fewer weights lose {found.drop:.2f} points, at most {most}",
        holds=found.drop <= most and left >= goal,
    )


def _pointwise(bench: Bench, case: Case) -> None:
    """Print how much of pointwise layers is left at each rank, and what a little gain costs."""
    print(
        f"{case.name}: error of 1x1 convolutions, relative, held out, by the work that is left"
    )
    nodes = {n.output.name: n for n in case.graph.nodes if _is_pointwise(n)}
    stats = statistics(case.graph, case.feeds, names=nodes)
    print(f"  statistics take {stats.bytes / 2**20:.0f} MiB; left out: {len(stats.left_out)}")
    table: list[list[float]] = []
    for name, layer in stats.layers.items():
        weight = layer.layer.weight[0]
        outputs, inputs = weight.shape
        ranks = [int(s * outputs * inputs / (outputs + inputs)) for s in _SHARES]
        forms = [LowRank(nodes[name].inputs[1].type.ints, r) for r in ranks]
        read = covariance_of(layer.fit)
        made = [f.dense(f.fitted(weight, read)) for f in forms]
        errors = [layer.error(m[None]) / layer.power for m in made]
        table.append(errors)
        text = ", ".join(f"{s:g}: {e:.4f}" for s, e in zip(_SHARES, errors, strict=True))
        print(f"  {nodes[name].layer[:56]:56} {inputs:4} -> {outputs:4}  {text}")
    middle = np.median(np.array(table), axis=0)
    text = ", ".join(f"{s:g}: {e:.4f}" for s, e in zip(_SHARES, middle, strict=True))
    print(f"  {'median':56} {'':12}  {text}", flush=True)
    start = time.perf_counter()
    graph = _within(bench, case, _macs, _LITTLE, kinds=["channel"], multiple=8)
    if graph is None:
        print(f"  {_LITTLE:g}x fewer multiply-accumulates are out of reach")
        return
    found = bench.line(case, f"{_LITTLE:g}x, low rank", graph, time.perf_counter() - start)
    pays = found.drop <= _MOST_DROP
    print(
        f"  {'pays' if pays else 'does not pay'}: {_MOST_DROP:g} point is the most", flush=True
    )


def _is_pointwise(node: Node) -> bool:
    return isinstance(node.op, Conv) and set(node.inputs[1].type.ints[2:]) == {1}
