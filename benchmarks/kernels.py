"""One quantized model under several sets of kernels: how often and by how much they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.artifacts import Bench
from benchmarks.fidelity import agrees
from benchmarks.scoring import Case, score
from benchmarks.tables import bound
from edgec.compiler import compile_model
from edgec.export import to_onnx
from edgec.ir import Graph
from edgec.ops import Dequantize
from edgec.options import CompileOptions
from edgec.targets import Artifact, Tflite

__all__ = ["kernels"]

Array = NDArray[Any]

MODELS = ("resnet8", "resnet20", "kws_ds_cnn", "efficientnet_lite0", "mobilenet_v2")


def kernels(bench: Bench, names: Sequence[str]) -> int:
    """Judge TFLite files under XNNPACK beside their own QDQ graphs in ONNX Runtime."""
    return sum(_model(bench, bench.case(name)) for name in MODELS if name in names)


def _model(bench: Bench, case: Case) -> int:
    effort = bench.efforts[-1]
    tflite, qdq, scale = _compiled(case, effort, bench.cache)
    wanted = bench.floating(case)
    delegated = score(tflite, case, wanted, bench.cache).classes
    graph = score(qdq, case, wanted, bench.cache).classes
    builtin = score(tflite, case, wanted, bench.cache, delegate=False).classes
    if delegated is None or graph is None or builtin is None:
        raise ValueError(f"{case.name} has no output with classes")
    agreed = 100 * agrees(delegated, graph).mean()
    text = f"{case.name} {effort}, {len(case.test)} samples: XNNPACK and the QDQ graph in "
    text += f"ONNX Runtime agree on {agreed:.2f} % (at least 98)"
    failures = bound(text, agreed >= 98)
    others = 100 * agrees(delegated, builtin).mean()
    print(f"    XNNPACK and LiteRT's own kernels agree on {others:.2f} %")
    for what, one in (("ONNX Runtime", graph), ("LiteRT's own kernels", builtin)):
        print(f"    int8 outputs, XNNPACK less {what}: {_distribution(delegated, one, scale)}")
    return failures


def _distribution(a: Array, b: Array, scale: float | None) -> str:
    """Return how many outputs differ by how many steps."""
    if scale is None:
        return f"the output is no int8, largest difference {np.abs(a - b).max():.2g}"
    steps = np.rint((a.astype(np.float64) - b) / scale).astype(np.int64)
    values, counts = np.unique(np.abs(steps), return_counts=True)
    shown = [f"{v}: {100 * c / steps.size:.2f} %" for v, c in zip(values, counts, strict=True)]
    return f"{', '.join(shown[:8])}; at most {values[-1]}, on average {steps.mean():+.3f}"


def _compiled(case: Case, effort: str, cache: Path) -> tuple[Path, Path, float | None]:
    """Return a TFLite file, the graph it was written from as ONNX, and the output's scale."""
    graphs: list[Graph] = []
    emit = Tflite.emit

    def recorded(target: Tflite, graph: Graph) -> Artifact:
        graphs.append(graph)
        return emit(target, graph)

    options = CompileOptions(
        ("tflite",),
        "static_wi8_ai8",
        {case.input: case.calibration},
        effort=effort,
        shapes={case.input: case.shape},
    )
    with mock.patch.object(Tflite, "emit", recorded):
        files = compile_model(case.model, options).files
    data = next(d for name, d in files.items() if name.endswith(".tflite"))
    graph = graphs[-1]
    stem = f"edgec-{hashlib.sha256(data).hexdigest()[:24]}"
    tflite, qdq = cache / f"{stem}.tflite", cache / f"{stem}-qdq.onnx"
    tflite.write_bytes(data)
    qdq.write_bytes(to_onnx(graph).SerializeToString())
    made = [n.op for n in graph.nodes if graph.outputs[0] in n.outputs]
    last = made[0] if made else None
    return tflite, qdq, last.params.scale[0] if isinstance(last, Dequantize) else None
