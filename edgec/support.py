"""What a target takes of a model, and what its delegates leave to the runtime's own kernels."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from edgec.errors import Diagnostic, EdgecError, InternalError, ModelError, OptionError
from edgec.frontend.onnx import load
from edgec.ir import Dim, Graph
from edgec.passes import Pipeline, simplify
from edgec.placement import placement
from edgec.targets import TARGETS, Artifact, Target, Tflite
from edgec.targets.tflite.devices import ETHOS_U
from edgec.targets.tflite.ethos_u import ethos_u_misfits
from edgec.targets.tflite.gpu import gpu_misfits
from edgec.targets.tflite.model import Model
from edgec.targets.tflite.reader import read_tflite
from edgec.targets.tflite.run import interpreter

__all__ = ["DELEGATES", "check_support", "refusals"]

_NPUS = {"ethos-u": ETHOS_U[0], **{device.name: device for device in ETHOS_U}}

DELEGATES = ("xnnpack", "gpu", *_NPUS)
"""Delegates of TFLite files: by LiteRT itself, by documentation, by its own compiler."""


def check_support(
    path: Path,
    target: str,
    delegates: Sequence[str] = ("xnnpack",),
    shapes: Mapping[str, Sequence[Dim]] | None = None,
) -> dict[str, Any]:
    """Return what `edgec check` prints, as plain data.

    Parameters
    ----------
    path
        An ONNX file; or a TFLite file, of which the delegates are asked only.

    Raises
    ------
    ModelError
        If the file is not a valid model.
    OptionError
        If there is no such target or delegate, or it is not installed.
    """
    for name in delegates:
        if name not in DELEGATES:
            raise OptionError(f"there is no delegate {name!r}; known: {', '.join(DELEGATES)}")
    found: dict[str, Any] = {"file": path.name, "target": target, "refused": []}
    layers: tuple[str, ...] = ()
    if path.suffix == ".tflite":
        if target != Tflite.name:
            raise OptionError(f"{path} is a TFLite file; target {target} takes ONNX files")
        data = path.read_bytes() if path.is_file() else b""
    else:
        chosen = _target(target)
        problems, artifact = refusals(chosen, load(path, shapes or {}).graph)
        found["refused"] = [asdict(d) for d in problems]
        if artifact is None or artifact.suffix != ".tflite":
            return {**found, "delegates": {}}
        data, layers = artifact.data, tuple(layer for _, layer in artifact.layers)
    return {**found, "delegates": _delegates(path, data, layers, delegates)}


def _target(name: str) -> Target:
    for kind in TARGETS:
        if kind.name == name:
            return kind()
    known = ", ".join(t.name for t in TARGETS)
    raise OptionError(f"there is no target {name!r}; known: {known}")


def refusals(target: Target, graph: Graph) -> tuple[tuple[Diagnostic, ...], Artifact | None]:
    """Return what keeps a target from expressing a model, or else the artifact.

    The artifact is loaded into its runtime, which may refuse what the target did not; but not
    into an emulator.

    Parameters
    ----------
    graph
        As it was loaded, before any pass.
    """
    try:
        simple, _ = simplify(graph)
        ready, _ = Pipeline((*target.prepare(), *target.finish())).run(simple)
        if problems := target.check(ready):
            return tuple(problems), None
        artifact = target.emit(ready)
        if not target.is_emulated:
            target.load(artifact)
    except InternalError:
        raise
    except EdgecError as error:
        return (Diagnostic(error.summary), *error.diagnostics), None
    return (), artifact


def _delegates(
    path: Path, data: bytes, layers: tuple[str, ...], names: Sequence[str]
) -> dict[str, Any]:
    """Ask each delegate about a TFLite file."""
    with tempfile.TemporaryDirectory() as folder:
        place = path
        if path.suffix != ".tflite":
            place = Path(folder, f"{path.stem}.tflite")
            place.write_bytes(data)
        model = read_tflite(place)
        labels = layers if len(layers) == len(model.operators) else ()
        named = [labels[i] if labels else op.layer for i, op in enumerate(model.operators)]
        found: dict[str, Any] = {}
        for name in names:
            version, fallen = _ask(name, place, data, model)
            found[name] = {
                "version": version,
                "operators": len(model.operators),
                "delegated": len(model.operators) - len(fallen),
                "fallen": [
                    {"layer": named[i], "operator": model.operators[i].code, "reason": reason}
                    for i, reason in sorted(fallen.items())
                ],
            }
    return found


def _ask(name: str, path: Path, data: bytes, model: Model) -> tuple[str, dict[int, str]]:
    """Return who says so, and the operators that a delegate does not run, with why."""
    if name == "gpu":
        return "documented list", gpu_misfits(model)
    if name in _NPUS:
        return ethos_u_misfits(path, model, _NPUS[name])
    litert = f"LiteRT {metadata.version('ai-edge-litert')}"
    placed = placement(interpreter(data))
    if placed is None or len(placed.codes) != len(model.operators):
        raise ModelError(f"{litert} does not tell which operators of {path.name} XNNPACK runs")
    return litert, {i: _described(model, i) for i in placed.fallen}


def _described(model: Model, position: int) -> str:
    op = model.operators[position]
    tensors = [model.tensors[i] for i in (*op.inputs[:1], *op.outputs[:1]) if i >= 0]
    texts = dict.fromkeys(f"{t.dtype.value}[{','.join(map(str, t.shape))}]" for t in tensors)
    return f"XNNPACK does not take {' -> '.join(texts)}; the built-in kernel runs it"
