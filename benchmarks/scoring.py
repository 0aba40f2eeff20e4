"""Run float models and artifacts on test samples, and keep what came out."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fidelity import agrees, decibels, is_right
from benchmarks.models import DATA, LABELLED, UNLABELLED
from edgec.evaluate import ort_session
from edgec.files import write_files

__all__ = ["Case", "Float", "Scores", "case_named", "float_scores", "opened", "score"]

Array = NDArray[Any]
Run = Callable[[Array], list[Array]]

_SMALL = 4096
"""Numbers of an output that is kept whole."""


@dataclass(frozen=True)
class Case:
    """A model with the samples that every tool gets.

    Parameters
    ----------
    measure
        What it is judged by: "accuracy", "agreement", "sqnr" or "psnr".
    """

    name: str
    model: Path
    input: str
    calibration: Array
    test: Array
    labels: Array | None
    measure: str

    @cached_property
    def digest(self) -> str:
        """Of the test samples and the model."""
        found = hashlib.sha256(self.model.read_bytes())
        found.update(str(self.test.shape).encode())
        found.update(np.ascontiguousarray(self.test).data)
        return found.hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, as the model takes it."""
        return (1, *self.test.shape[1:])


def case_named(name: str, samples: int | None) -> Case:
    """Return a model with all its test samples, or the first so many."""
    if name in LABELLED:
        labelled = LABELLED[name]
        calibration, test, labels = labelled.split()
        return Case(
            name,
            DATA / "models" / labelled.file,
            "input",
            np.ascontiguousarray(calibration),
            test[:samples],
            labels[:samples],
            "accuracy",
        )
    plain = UNLABELLED[name]
    calibration, test = plain.split()
    path = DATA / "models" / plain.file
    return Case(name, path, plain.input, calibration, test[:samples], None, plain.measure)


@dataclass(frozen=True)
class Float:
    """What the float model computes: each output, for all samples."""

    outputs: dict[str, Array]

    @property
    def classes(self) -> Array | None:
        """The output with classes, [N, classes]."""
        for array in self.outputs.values():
            if array.ndim == 2 and array.shape[1] > 1:
                return array
        return None


@dataclass(frozen=True)
class Scores:
    """How an artifact did on every sample.

    Parameters
    ----------
    signal, noise
        Energies by output: of what the float model computes, and of the difference.
    count
        Numbers of an output in one sample.
    classes
        The output with classes as it came out.
    """

    signal: dict[str, Array]
    noise: dict[str, Array]
    count: dict[str, int]
    classes: Array | None
    right: Array | None
    agreed: Array | None

    def sqnr(self, name: str) -> float:
        """Return the signal-to-noise ratio of an output in decibels."""
        return decibels(float(self.signal[name].sum()), float(self.noise[name].sum()))

    @property
    def worst_sqnr(self) -> float:
        """The least of all outputs."""
        return min(map(self.sqnr, self.noise))

    def psnr(self, name: str) -> float:
        """Return the peak signal-to-noise ratio of images in 0..1, in decibels."""
        noise = self.noise[name]
        return decibels(1.0, float(noise.sum()) / (len(noise) * self.count[name]))


def opened(path: Path, *, delegate: bool = True) -> Run:
    """Return what runs a file in its runtime, on one thread: TFLite or ONNX.

    Parameters
    ----------
    delegate
        Whether LiteRT may use XNNPACK.
    """
    return _tflite(path, delegate) if path.suffix == ".tflite" else _onnx(str(path))


def _onnx(model: str) -> Run:
    session = ort_session(model)
    (wanted,) = session.get_inputs()
    return lambda x: list(session.run(None, {wanted.name: x}))


def _tflite(path: Path, delegate: bool) -> Run:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.AUTO
    if not delegate:
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    made = Interpreter(str(path), num_threads=1, experimental_op_resolver_type=kernels)
    made.allocate_tensors()
    (wanted,) = made.get_input_details()
    given = [d["index"] for d in made.get_output_details()]

    def run(x: Array) -> list[Array]:
        made.set_tensor(wanted["index"], np.ascontiguousarray(x))
        made.invoke()
        return [made.get_tensor(index) for index in given]

    return run


def float_scores(case: Case, cache: Path) -> Float:
    """Return what the model itself computes, from the cache if it is there."""
    file = cache / f"float-{case.digest[:16]}-{version('onnxruntime')}.npz"
    if not file.exists():
        session = ort_session(str(case.model))
        names = [o.name for o in session.get_outputs()]
        rows = [session.run(None, {case.input: x[None]}) for x in case.test]
        outputs = {n: np.concatenate([r[i] for r in rows]) for i, n in enumerate(names)}
        _write(file, outputs)
    with np.load(file) as arrays:
        return Float(dict(arrays))


def score(
    path: Path, case: Case, wanted: Float, cache: Path, *, delegate: bool = True
) -> Scores:
    """Run an artifact on all test samples; what is in the cache is not run again."""
    runtime = "ai-edge-litert" if path.suffix == ".tflite" else "onnxruntime"
    key = hashlib.sha256(path.read_bytes())
    key.update(f"{case.digest} {runtime} {version(runtime)} {delegate}".encode())
    file = cache / f"score-{key.hexdigest()[:24]}.npz"
    if not file.exists():
        _write(file, _measured(opened(path, delegate=delegate), case.test, wanted))
    with np.load(file) as arrays:
        found = dict(arrays)
    names = list(wanted.outputs)
    got = found.get("classes")
    classes = wanted.classes
    return Scores(
        {n: found["signal"][:, i] for i, n in enumerate(names)},
        {n: found["noise"][:, i] for i, n in enumerate(names)},
        {n: int(np.prod(a.shape[1:])) for n, a in wanted.outputs.items()},
        got,
        is_right(got, case.labels) if got is not None and case.labels is not None else None,
        agrees(got, classes) if got is not None and classes is not None else None,
    )


def _measured(run: Run, test: Array, wanted: Float) -> dict[str, Array]:
    names = list(wanted.outputs)
    energies = np.zeros((2, len(test), len(names)))
    classes: list[Array] = []
    kept = next((i for i, n in enumerate(names) if wanted.outputs[n] is wanted.classes), None)
    for row, x in enumerate(test):
        outputs = _ordered(run(x[None]), [wanted.outputs[n][row] for n in names])
        for column, name in enumerate(names):
            want = wanted.outputs[name][row].astype(np.float64).ravel()
            got = outputs[column].astype(np.float64).ravel()
            error = np.nan_to_num(got - want, nan=np.inf)
            energies[:, row, column] = want @ want, error @ error
        if kept is not None and outputs[kept].size <= _SMALL:
            classes.append(outputs[kept].reshape(1, -1))
    found = {"signal": energies[0], "noise": energies[1]}
    return {**found, "classes": np.concatenate(classes)} if classes else found


def _ordered(got: Sequence[Array], wanted: Sequence[Array]) -> list[Array]:
    """Return outputs in the order of the model's; a tool may have changed it."""
    if all(g.size == w.size for g, w in zip(got, wanted, strict=True)):
        return list(got)
    return [next(g for g in got if g.size == w.size) for w in wanted]


def _write(file: Path, arrays: dict[str, Array]) -> None:
    """Write whole files only: a run may be stopped at any time."""
    buffer = io.BytesIO()
    plain: dict[str, Any] = dict(arrays)
    np.savez(buffer, **plain)
    write_files(file.parent, {file.name: buffer.getvalue()})
