"""How far predicted times are from measured ones, layer by layer, and what would fit better."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks.compression.bench import Bench, bound
from benchmarks.compression.cases import CASES
from benchmarks.models import Array
from edgec.compiler import CompileOptions, compile_model
from edgec.evaluate import ort_session
from edgec.export import to_onnx
from edgec.ir import Graph, Node
from edgec.latency import KERNELS, Kernels, node_seconds
from edgec.ops import Add, Conv, DepthwiseConv, FullyConnected
from edgec.passes import FactorizeSeparable
from edgec.targets.tflite.run import interpreter

__all__ = ["latency"]

_KINDS = (Conv, DepthwiseConv, FullyConnected, Add)
_FIELDS: dict[type, str] = dict(
    zip(_KINDS, ("conv", "depthwise", "dense", "other"), strict=True)
)
_SECONDS, _RUNS = 0.05, 15
_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput")


@dataclass(frozen=True)
class Timed:
    """A layer of a real model, and what it takes alone, by target and integers or not."""

    node: Node
    seconds: dict[tuple[str, bool], float]


def latency(bench: Bench, names: Sequence[str]) -> int:
    """Time every distinct layer alone and compare with what is predicted for it."""
    timed = [_timed(graph, node) for graph, node in _layers(bench, names)]
    print(f"{len(timed)} layers, each alone, one thread: predicted time by measured time")
    failures = 0
    for key, kernels in KERNELS.items():
        for kind in _KINDS:
            some = [t for t in timed if isinstance(t.node.op, kind)]
            if not some:
                continue
            took = np.array([t.seconds[key] for t in some])
            ratios = np.array([node_seconds(t.node, kernels) for t in some]) / took
            low, middle, high = np.quantile(ratios, (0.1, 0.5, 0.9))
            fitted = ", ".join(f"{c:.3g}" for c in _fitted(some, took, kernels, kind))
            print(
                f"  {key[0]:12} {'int8' if key[1] else 'float32':8} {_FIELDS[kind]:10} "
                f"{len(some):3} layers, 80 % within {low:.2f} to {high:.2f}, median "
                f"{middle:.2f}; fitted here: {fitted}",
                flush=True,
            )
        every = np.array([node_seconds(t.node, kernels) / t.seconds[key] for t in timed])
        spread = np.quantile(every / np.median(every), (0.1, 0.9))
        failures += bound(
            f"{key[0]}, int8 {key[1]}: four of five within 1.5 of the median ratio",
            holds=bool(spread[0] > 1 / 1.5 and spread[1] < 1.5),
        )
    return failures


def _layers(bench: Bench, names: Sequence[str]) -> Iterator[tuple[Graph, Node]]:
    """Yield every layer that is unlike those before it."""
    seen: set[str] = set()
    for name in CASES:
        if name not in names:
            continue
        whole = bench.case(name).graph
        for graph in (whole, _in_factors(whole)):
            for node in graph.nodes:
                shapes = [v.type.shape for v in node.inputs]
                key = f"{node.op!r} {shapes}"
                if isinstance(node.op, _KINDS) and key not in seen:
                    seen.add(key)
                    yield graph, node


def _in_factors(graph: Graph) -> Graph:
    """Return a graph with its convolutions as depthwise layers, three to five results each."""
    wanted = {
        n.output.name: 3 + k % 3
        for k, n in enumerate(graph.nodes)
        if isinstance(n.op, Conv) and list(n.inputs[1].type.ints[2:]) == [3, 3]
    }
    return FactorizeSeparable(wanted).run(graph)


def _timed(graph: Graph, node: Node) -> Timed:
    """Return what a layer takes in each runtime, in floats and in integers."""
    given = tuple(v for v in node.inputs if v.name not in graph.constants)
    constants = {v.name: c for v in node.inputs if (c := graph.constants.get(v.name))}
    alone = Graph("layer", given, node.outputs, (node,), MappingProxyType(constants))
    rng = np.random.default_rng(0)
    feeds = {
        v.name: np.maximum(rng.standard_normal((4, *v.type.ints[1:])), -0.5).astype(np.float32)
        for v in given
    }
    first = {name: x[:1] for name, x in feeds.items()}
    seconds: dict[tuple[str, bool], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.onnx"
        path.write_bytes(to_onnx(alone).SerializeToString())
        for recipe in (None, "static_wi8_ai8"):
            options = CompileOptions(
                ("tflite", "onnxruntime"), recipe, feeds, effort="fast", prove=False,
                verify=False, io_dtype="float32" if recipe is None else "int8",
            )  # fmt: skip
            files = compile_model(path, options).files
            integers = recipe is not None
            seconds["tflite", integers] = _of_tflite(files["layer.tflite"], first)
            seconds["onnxruntime", integers] = _of_onnx(
                files["layer.onnx"], first, Path(folder)
            )
    return Timed(node, seconds)


def _of_tflite(data: bytes, feeds: dict[str, Array]) -> float:
    made: Any = interpreter(data)
    made.allocate_tensors()
    for detail, x in zip(made.get_input_details(), feeds.values(), strict=True):
        made.set_tensor(detail["index"], x.reshape(detail["shape"]).astype(detail["dtype"]))
    return float(np.quantile(_runs(made.invoke), 0.2))


def _of_onnx(data: bytes, feeds: dict[str, Array], folder: Path) -> float:
    """Return the time of the kernels but for those that only convert, by its own trace."""
    session = ort_session(data, profile=str(folder / "trace"))
    _runs(lambda: session.run(None, feeds))
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels: dict[str, list[float]] = {}
    for event in events:
        name = str(event.get("name", ""))
        kernel = event.get("cat") == "Node" and name.endswith("_kernel_time")
        if kernel and event["args"]["op_name"] not in _CONVERSIONS:
            kernels.setdefault(name, []).append(event["dur"])
    # Microseconds come as whole numbers: the mean of the faster runs has more digits.
    return 1e-6 * sum(
        float(np.mean(np.sort(d)[: max(3, int(0.7 * len(d)))])) for d in kernels.values()
    )


def _runs(run: Callable[[], object]) -> list[float]:
    for _ in range(3):
        run()
    took: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < _SECONDS or len(took) < _RUNS:
        before = time.perf_counter()
        run()
        took.append(time.perf_counter() - before)
    return took


def _fitted(
    some: Sequence[Timed], took: Array, kernels: Kernels, kind: type
) -> Sequence[float]:
    """Return the constants with the least relative error, none below zero."""
    field = _FIELDS[kind]
    count = len(getattr(kernels, field))
    empty: dict[str, Any] = {
        name: (0.0,) * len(getattr(kernels, name)) for name in _FIELDS.values()
    }
    columns = []
    for i in range(count):
        unit = tuple(float(i == k) for k in range(count))
        one = replace(kernels, **{**empty, field: unit})
        columns.append([node_seconds(t.node, one) for t in some])
    features = np.array(columns, float).T
    scale = np.maximum(features.max(axis=0), 1e-30)
    found, _ = nnls(features / scale / took[:, None], np.ones(len(took)))
    return [float(c) for c in found / scale]
