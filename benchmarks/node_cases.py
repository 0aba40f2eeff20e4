"""The backend node tests of the onnx package: single operators with expected outputs.

Needs nothing but onnx and numpy, since other tools run it in environments of their own.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

__all__ = [
    "ATOL",
    "RTOL",
    "Case",
    "close",
    "collected",
    "forms",
    "generated",
    "is_core",
    "tolerances",
]

RTOL, ATOL = 1e-3, 1e-5
"""What counts as equal, for every tool; a case that allows more is given more."""

_CORE_TYPES = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.INT8,
    onnx.TensorProto.INT16,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
    onnx.TensorProto.UINT8,
    onnx.TensorProto.BOOL,
}
_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_STANDARD = ("", "ai.onnx")

# Leading inputs that steer the operator rather than enter its result: how often a loop runs.
_CONTROL = {"Loop": 2}


@dataclass(frozen=True, slots=True)
class Case:
    """One model with inputs and expected outputs.

    Parameters
    ----------
    model
        Serialized.
    inputs, outputs
        In the order of the model's; arrays, or lists of arrays for sequences.
    """

    name: str
    model: bytes
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    rtol: float
    atol: float

    def proto(self) -> onnx.ModelProto:
        """Return the model."""
        model = onnx.ModelProto()
        model.ParseFromString(self.model)
        return model

    def feeds(self) -> dict[str, Any]:
        """Return the inputs by name."""
        names = [v.name for v in self.proto().graph.input]
        return dict(zip(names, self.inputs, strict=False))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors whose declaration leaves a length open."""
        feeds = self.feeds()
        return {
            v.name: tuple(feeds[v.name].shape)
            for v in self.proto().graph.input
            if not all(d.HasField("dim_value") for d in v.type.tensor_type.shape.dim)
            and isinstance(feeds.get(v.name), np.ndarray)
        }

    @property
    def expanded(self) -> bool:
        """Whether it is the twin in which the operator is written as its function body."""
        return "_expanded" in self.name


def generated() -> list[Case]:
    """Return all cases of the installed onnx, freshly made; takes some seconds."""
    from onnx.backend.test.case.node import collect_testcases

    cases = []
    for made in collect_testcases(None):
        if made.model is None or not made.data_sets:
            continue
        inputs, outputs = (tuple(map(_array, side)) for side in made.data_sets[0])
        data = made.model.SerializeToString()
        cases.append(Case(made.name, data, inputs, outputs, made.rtol, made.atol))
    return sorted(cases, key=lambda case: case.name)


def _array(value: Any) -> Any:
    """Return a test's value as an array, a list of arrays or nothing."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list | tuple):
        return [_array(v) for v in value]
    return value if value is None else np.asarray(value)


def collected(cache: Path | None) -> list[Case]:
    """Return all cases of the installed onnx, kept in the folder `cache` from then on."""
    if cache is None:
        return generated()
    path = cache / f"node-cases-onnx-{onnx.__version__}.pickle"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps([_fields(case) for case in generated()]))
    return pickled(path)


def pickled(path: Path) -> list[Case]:
    """Return the cases in a file that `collected` made."""
    return [Case(*fields) for fields in pickle.loads(path.read_bytes())]


def _fields(case: Case) -> tuple[Any, ...]:
    """Return a case without its class, which has another name in another process."""
    return (case.name, case.model, case.inputs, case.outputs, case.rtol, case.atol)


def is_core(case: Case) -> bool:
    """Whether a case is within what a deployed TFLite model can be asked for.

    Tensors of float32, int8 to int64, uint8 and bool; static shapes of the inputs; operators
    of the standard's own domain, none of them random or in training mode.
    """
    model = case.proto()
    if any(o.domain not in _STANDARD for o in model.opset_import):
        return False
    if "training" in case.name:
        return False
    if any(n.domain not in _STANDARD or n.op_type in _RANDOM for n in model.graph.node):
        return False
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.HasField("tensor_type"):
            return False
        if value.type.tensor_type.elem_type not in _CORE_TYPES:
            return False
    return all(
        d.HasField("dim_value") for v in model.graph.input for d in v.type.tensor_type.shape.dim
    )


def forms(case: Case) -> Iterator[tuple[str, onnx.ModelProto, dict[str, NDArray[Any]]]]:
    """Yield the case as it is, then with its parameters frozen, each with what to feed.

    Frozen, all inputs but the first that enters the result become initializers, as they are
    in models that people deploy.
    """
    model, feeds = case.proto(), case.feeds()
    yield "raw", model, feeds
    names = list(feeds)
    skipped = max((_CONTROL.get(n.op_type, 0) for n in model.graph.node), default=0)
    if case.expanded:
        skipped = 0
    kept = names[min(skipped, len(names) - 1)] if names else ""
    if len(names) < 2:
        return
    frozen = onnx.ModelProto()
    frozen.CopyFrom(model)
    inputs = [v for v in frozen.graph.input if v.name == kept]
    for name in names:
        if name != kept:
            tensor = numpy_helper.from_array(np.asarray(feeds[name]), name)
            frozen.graph.initializer.append(tensor)
    del frozen.graph.input[:]
    frozen.graph.input.extend(inputs)
    yield "frozen", frozen, {kept: feeds[kept]}


def close(got: Any, want: Any, rtol: float, atol: float) -> str:
    """Return in what two values differ; ``""`` if they are equal within the tolerances."""
    if isinstance(want, Sequence) and not isinstance(want, str | bytes):
        if not isinstance(got, Sequence) or len(got) != len(want):
            return "another number of elements"
        found = (close(g, w, rtol, atol) for g, w in zip(got, want, strict=True))
        return next(filter(None, found), "")
    if want is None or got is None:
        return "" if got is want else "one is absent"
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return f"shape {list(got.shape)} for {list(want.shape)}"
    if want.dtype.kind in "OUS" or got.dtype.kind in "OUS":
        return "" if np.array_equal(_text(got), _text(want)) else "other texts"
    if got.dtype != want.dtype:
        return f"type {got.dtype} for {want.dtype}"
    return _numbers(got, want, rtol, atol)


def _numbers(got: NDArray[Any], want: NDArray[Any], rtol: float, atol: float) -> str:
    if want.dtype.kind in "biu":
        wrong = int(np.sum(got != want))
        return f"{wrong} of {want.size} integers differ" if wrong else ""
    kind = np.complex128 if want.dtype.kind == "c" else np.float64
    wide = got.astype(kind), want.astype(kind)
    if np.allclose(*wide, rtol=rtol, atol=atol, equal_nan=True):
        return ""
    with np.errstate(all="ignore"):
        off = np.nanmax(np.abs(np.nan_to_num(wide[0]) - np.nan_to_num(wide[1])))
    return f"numbers are off by {off:.3g}"


def _text(array: NDArray[Any]) -> list[str]:
    return [t.decode() if isinstance(t, bytes) else str(t) for t in array.reshape(-1)]


def tolerances(case: Case, operators: Mapping[str, int] | None = None) -> tuple[float, float]:
    """Return relative and absolute tolerance of a case, for every tool.

    A runtime's own GELU is an approximation that differs by up to 5e-4.
    """
    atol = max(case.atol, ATOL)
    if operators is not None and "GELU" in operators:
        atol = max(atol, 1e-3)
    return max(case.rtol, RTOL), atol
