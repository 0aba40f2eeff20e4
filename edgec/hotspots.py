"""Which operators cost a quantized artifact its speed, by the user's layers."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from edgec.errors import Diagnostic
from edgec.ir import Array, DType
from edgec.placement import placement
from edgec.targets import Artifact

if TYPE_CHECKING:
    from edgec.targets.tflite.model import Model, Operator

__all__ = ["Hotspot", "hotspots"]

_RUNS = 9
_NOISE_MS = 0.002
"""What a kernel is slower by may be the clock's."""

_FLOATS = {DType.FLOAT32, DType.FLOAT16}
_BYTES = {DType.INT8, DType.INT16}
_FLOAT_REASON = re.compile(r"(?:stays|is computed) in float: (.*)")
_COMPUTES_FLOATS = "computes on floats"
_CONVERTS = "converts only"
_SLOWER = "its integer kernel is slower than the float one"
_NOT_ALONE = "floats need no operator of their own for it"
_LEFT_ALONE = "ONNX Runtime leaves its pairs alone and computes on floats"


@dataclass(frozen=True, slots=True)
class Hotspot:
    """A layer that costs time which integers were to save.

    Parameters
    ----------
    layer
        By its name in the user's model; where operators only convert, the layer they are after.
    operators
        Of the runtime.
    why
        What is wrong with it.
    ms, float_ms
        Time of these operators, and of the same layer in the float artifact; ``None`` where the
        runtime does not tell.
    """

    layer: str
    operators: tuple[str, ...]
    why: str
    ms: float | None = None
    float_ms: float | None = None


def hotspots(
    made: Artifact, plain: Artifact, feeds: Mapping[str, Array], notes: Iterable[Diagnostic]
) -> tuple[Hotspot, ...]:
    """Return the layers that cost a quantized artifact its speed, worst first.

    In ONNX Runtime those that take longer than in the float artifact, by its own trace. LiteRT
    tells no times: there, what computes on floats, what only converts, and what its delegate
    ran in the float artifact and leaves out now; most elements first.

    Parameters
    ----------
    made, plain
        The quantized artifact and the float one.
    feeds
        What to run both on, by the names of the model.
    notes
        What was said of layers on the way: why they stay in float.
    """
    reasons: dict[str, str] = {}
    for note in notes:
        if match := _FLOAT_REASON.search(note.message):
            reasons.setdefault(note.where, match[1])
    if made.suffix == ".tflite":
        return tuple(_in_litert(made, plain, reasons))
    return tuple(_in_onnxruntime(made, plain, feeds, reasons))


# ---- LiteRT


@dataclass(slots=True)
class _Group:
    """What belongs to one layer."""

    operators: list[str] = field(default_factory=list)
    why: str = ""
    elements: int = 0


def _in_litert(
    made: Artifact, plain: Artifact, reasons: Mapping[str, str]
) -> Iterator[Hotspot]:
    groups: dict[str, _Group] = defaultdict(_Group)
    for layer, operator, why, elements in _costs(made, plain, reasons):
        group = groups[layer]
        group.operators.append(operator)
        group.elements += elements
        if not group.why or group.why.startswith(_CONVERTS):
            group.why = why
    for layer, group in sorted(groups.items(), key=lambda g: -g[1].elements):
        yield Hotspot(layer, tuple(group.operators), group.why)


def _costs(
    made: Artifact, plain: Artifact, reasons: Mapping[str, str]
) -> Iterator[tuple[str, str, str, int]]:
    """Yield layer, operator, reason and elements of what a TFLite file spends time on."""
    from edgec.targets.tflite.reader import parse_tflite

    model = parse_tflite(made.data, "model")
    layers = [layer for _, layer in made.layers]
    maker = {i: at for at, op in enumerate(model.operators) for i in op.outputs}
    readers: dict[int, list[int]] = defaultdict(list)
    for at, op in enumerate(model.operators):
        for i in op.inputs:
            readers[i].append(at)

    def is_float(at: int) -> bool:
        op = model.operators[at]
        return op.code not in _BORDERS and _holds(model, op.outputs, _FLOATS)

    # Where no activation is an integer, floats are what the recipe is about.
    mixed = any(_holds(model, op.outputs, _BYTES) for op in model.operators)
    spare = Counter(plain.layers)
    fallen = _fallen(made) - _fallen(plain)
    for at, (op, layer) in enumerate(zip(model.operators, layers, strict=True)):
        tensors = [model.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
        elements = sum(int(np.prod(t.shape)) for t in tensors if t.data is None)
        if op.code in _BORDERS:
            beside = [*(maker.get(i, -1) for i in op.inputs), *readers[op.outputs[0]]]
            island = next((layers[i] for i in beside if i >= 0 and is_float(i)), None)
            if tensors[0].data is not None:
                yield layer, op.code, "reads stored weights as floats", elements
            elif mixed and island is not None:
                yield island, op.code, reasons.get(island, _COMPUTES_FLOATS), elements
            else:
                source = next((name for name, i in model.inputs if i == op.inputs[0]), None)
                at_border = layer if source is None else f"input {source}"
                yield at_border, op.code, _border(model, op), elements
        elif is_float(at):
            if mixed:
                yield layer, op.code, reasons.get(layer, _COMPUTES_FLOATS), elements
        elif op.code in _MOVES:
            spare[op.code, layer] -= 1
            if spare[op.code, layer] < 0:
                yield layer, op.code, f"{_CONVERTS}, where the float file does not", elements
        elif (op.code, layer) in fallen:
            yield (
                layer,
                op.code,
                "XNNPACK runs it on floats and not on these integers",
                elements,
            )


def _holds(model: Model, tensors: Iterable[int], dtypes: Container[DType]) -> bool:
    return any(model.tensors[i].dtype in dtypes for i in tensors)


_BORDERS = ("QUANTIZE", "DEQUANTIZE")
_MOVES = ("CAST", "TRANSPOSE")


def _border(model: Model, op: Operator) -> str:
    """Return what a conversion is for that no float layer needs."""
    if op.inputs[0] in {i for _, i in model.inputs}:
        return f"{_CONVERTS} the input, which --io-dtype int8 leaves out"
    if op.outputs[0] in {i for _, i in model.outputs}:
        return f"{_CONVERTS} the output, which --io-dtype int8 leaves out"
    return f"{_CONVERTS} from one scale to another"


def _fallen(artifact: Artifact) -> set[tuple[str, str]]:
    """Return the operators that XNNPACK leaves to LiteRT's own kernels, with their layers."""
    from edgec.targets.tflite.run import interpreter

    found = placement(interpreter(artifact.data))
    if found is None or len(found.codes) != len(artifact.layers):
        return set()
    return {artifact.layers[i] for i in found.fallen}


# ---- ONNX Runtime


@dataclass(frozen=True, slots=True)
class _Timed:
    layer: str
    operator: str
    is_float: bool
    ms: float


def _in_onnxruntime(
    made: Artifact, plain: Artifact, feeds: Mapping[str, Array], reasons: Mapping[str, str]
) -> Iterator[Hotspot]:
    took: dict[str, float] = defaultdict(float)
    for entry in _traced(plain, feeds):
        took[entry.layer] += entry.ms
    groups: dict[str, list[_Timed]] = defaultdict(list)
    for entry in _traced(made, feeds):
        groups[entry.layer].append(entry)
    excess = {layer: sum(e.ms for e in g) - took[layer] for layer, g in groups.items()}
    for layer in sorted(groups, key=lambda name: -excess[name]):
        if excess[layer] <= _NOISE_MS:
            return
        group = groups[layer]
        computing = [e for e in group if not _converts(e.operator)]
        if any(e.is_float for e in computing):
            why = reasons.get(layer, _LEFT_ALONE)
        elif computing:
            why = _SLOWER if took[layer] else _NOT_ALONE
        else:
            why = _CONVERTS if layer else "ONNX Runtime adds them between layers"
        operators = tuple(e.operator for e in group)
        total = sum(e.ms for e in group)
        yield Hotspot(
            layer or "between layers", operators, why, round(total, 4), round(took[layer], 4)
        )


_CONVERTING = (
    *("Cast", "DequantizeLinear", "QuantizeLinear", "ReorderInput", "ReorderOutput"),
    "Transpose",
)


def _converts(operator: str) -> bool:
    return operator in _CONVERTING


def _traced(artifact: Artifact, feeds: Mapping[str, Array]) -> list[_Timed]:
    """Return the time of every operator that ONNX Runtime runs, by its own trace."""
    from edgec.evaluate import ort_session

    weights = None if artifact.outside is None else artifact.outside.weights
    stored = {port.name: port.encode(feeds[port.name]) for port in artifact.inputs}
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        prefix = str(Path(folder, "trace"))
        session = ort_session(artifact.data, weights=weights, profile=prefix)
        for _ in range(_RUNS):
            session.run(None, stored)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    layer_of = _Layers(artifact.data)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    floats: dict[tuple[str, str], bool] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            args = event["args"]
            key = name.removesuffix("_kernel_time"), str(args["op_name"])
            times[key].append(float(event["dur"]) / 1e3)
            floats[key] = any(
                "float" in kinds for kinds in args.get("input_type_shape", ())[:1]
            )
    return [
        # Bodies of loops run several times an inference; the median is of one.
        _Timed(layer_of(*key), key[1], floats[key], median(found) * len(found) / _RUNS)
        for key, found in times.items()
    ]


class _Layers:
    """Finds the user's layer of an operator that ONNX Runtime renamed.

    What stands between two layers belongs to the one that needs it: a conversion to floats to
    the layer after it.
    """

    def __init__(self, data: bytes) -> None:
        import onnx

        graph = onnx.load_from_string(data).graph
        self._known: dict[str, str] = {}
        self._after: dict[str, str] = {}
        """Layers by names of nodes and of what they yield: new names are made of either."""
        made_by = {v.name: f"input {v.name}" for v in graph.input}
        layers: list[str] = []
        for node in graph.node:
            layer = node.name.removesuffix(f"/{node.op_type}").replace("+", " + ")
            if node.op_type == "QuantizeLinear":
                layer = made_by.get(node.input[0], layer)
            layers.append(layer)
            made_by |= dict.fromkeys(node.output, layer)
            self._known.setdefault(node.name, layer)
        for name, layer in made_by.items():
            self._known.setdefault(name, layer)
        read_by: dict[str, str] = {}
        for node, layer in zip(reversed(graph.node), reversed(layers), strict=True):
            if node.op_type == "DequantizeLinear" and node.output[0] in read_by:
                layer = read_by[node.output[0]]
                self._after |= dict.fromkeys((node.name, node.output[0]), layer)
            read_by |= dict.fromkeys(node.input, layer)

    def __call__(self, name: str, operator: str) -> str:
        """Return the layer, or nothing if ONNX Runtime made the operator for itself."""
        found = name
        if name not in self._known:
            begins = (
                known
                for known in self._known
                if known and name.startswith(known) and not name[len(known)].isalnum()
            )
            found = max(begins, key=len, default="")
        if operator == "DequantizeLinear" and found in self._after:
            return self._after[found]
        return self._known.get(found, "")
