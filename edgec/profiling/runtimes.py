"""The runtimes a profile can be taken of, each behind the same few names."""

from __future__ import annotations

import importlib
import json
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from edgec.errors import Diagnostic, ModelError, UnsupportedError
from edgec.placement import placement
from edgec.profiling.profile import OperatorTime

__all__ = ["Array", "Input", "LiteRT", "OnnxRuntime", "Runtime", "first_line", "runtime_of"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Input:
    """One input as the runtime wants it; lengths are numbers."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Runtime(ABC):
    """One model, opened in one runtime with a fixed number of threads.

    `target` is what edgec calls artifacts for this runtime.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    target: ClassVar[str]
    inputs: tuple[Input, ...]

    @abstractmethod
    def feed(self, arrays: Mapping[str, Array]) -> None:
        """Take one array for each input; every `run` from now on uses them."""

    @abstractmethod
    def run(self) -> None:
        """Compute once."""

    def operators(self) -> tuple[OperatorTime, ...] | None:
        """Measure every operator, in a run of its own; ``None`` if the runtime cannot."""
        return None

    def delegation(self) -> dict[str, Any] | None:
        """Which operators a delegate runs; ``None`` if there is no such thing."""
        return None

    def notes(self) -> tuple[str, ...]:
        """What to know when reading the numbers."""
        return ()

    @classmethod
    @abstractmethod
    def load(cls) -> None:
        """Import the runtime, which is no part of opening a model."""

    @classmethod
    @abstractmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        """What the runtime raises about a model."""

    @property
    def version(self) -> str:
        """Of the runtime's package."""
        return metadata.version(self.package)


def runtime_of(path: Path) -> type[OnnxRuntime] | type[LiteRT]:
    """Return the runtime that the file's ending stands for."""
    return LiteRT if path.suffix == ".tflite" else OnnxRuntime


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU, with all its optimisations."""

    name: ClassVar[str] = "ONNX Runtime"
    package: ClassVar[str] = "onnxruntime"
    target: ClassVar[str] = "onnxruntime"

    def __init__(self, path: Path, threads: int) -> None:
        self._path, self._threads = path, threads
        self._session = self._open(None)
        self.inputs = tuple(
            Input(i.name, _numpy(path, i.name, i.type), _bound(path, i.name, i.shape))
            for i in self._session.get_inputs()
        )
        self._feeds: dict[str, Array] = {}

    def _open(self, trace: str | None) -> Any:
        # Not edgec.evaluate's session: it loads onnx, which would count as the model's memory.
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that spin between runs take time from whatever else runs on the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = trace
        try:
            return ort.InferenceSession(
                str(self._path), options, providers=["CPUExecutionProvider"]
            )
        except self.errors() as error:
            raise ModelError(
                f"{self._path}: ONNX Runtime does not take the model: {first_line(error)}"
            ) from error

    @classmethod
    @override
    def load(cls) -> None:
        importlib.import_module("onnxruntime")

    @classmethod
    @override
    def errors(cls) -> tuple[type[Exception], ...]:
        # Only called when something was raised, so that a good run never loads onnx.
        from edgec.evaluate import ort_errors

        return ort_errors()

    @override
    def feed(self, arrays: Mapping[str, Array]) -> None:
        self._feeds = dict(arrays)

    @override
    def run(self) -> None:
        self._session.run(None, self._feeds)

    @override
    def operators(self) -> tuple[OperatorTime, ...] | None:
        with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
            session = self._open(str(Path(folder) / "trace"))
            runs = 10
            for _ in range(runs + 1):
                session.run(None, self._feeds)
            events = json.loads(Path(session.end_profiling()).read_text())
        return _aggregate(events, runs)


def _aggregate(events: Sequence[Mapping[str, Any]], runs: int) -> tuple[OperatorTime, ...]:
    """Return one entry for each node, from ``runs + 1`` traced runs."""
    durations: dict[tuple[str, str], list[float]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            key = name.removesuffix("_kernel_time"), str(event["args"]["op_name"])
            durations.setdefault(key, []).append(float(event["dur"]) / 1000)
    found = []
    for (name, op_type), times in durations.items():
        # Nodes of a loop's body run several times an inference. The first inference, in
        # which memory is allocated, is left out.
        calls = max(1, round(len(times) / (runs + 1)))
        warm = times[calls:] or times
        found.append(OperatorTime(name, op_type, sum(warm) / len(warm), calls))
    return tuple(found)


def _numpy(path: Path, name: str, ort_type: str) -> np.dtype[Any]:
    names = {"float": "float32", "double": "float64"}
    inner = ort_type.removeprefix("tensor(").removesuffix(")")
    try:
        return np.dtype(names.get(inner, inner))
    except TypeError:
        raise UnsupportedError(
            f"{path} cannot be profiled: input {name!r} is a {ort_type}",
            [Diagnostic("inputs must be numbers")],
        ) from None


def _bound(path: Path, name: str, shape: Sequence[int | str | None]) -> tuple[int, ...]:
    """Return the shape with an open batch as 1."""
    dims = [1 if i == 0 and not isinstance(d, int) else d for i, d in enumerate(shape)]
    if not all(isinstance(d, int) for d in dims):
        shown = ",".join("?" if d is None else str(d) for d in dims)
        raise ModelError(
            f"{path} cannot be profiled: input {name!r} has the open shape [{shown}]",
            [
                Diagnostic(
                    "only an open batch is bound, to 1",
                    hint=f"compile the model with --shape {name}=... and profile the artifact",
                )
            ],
        )
    return tuple(d for d in dims if isinstance(d, int))


class LiteRT(Runtime):
    """LiteRT's interpreter with its default delegate, XNNPACK."""

    name: ClassVar[str] = "LiteRT"
    package: ClassVar[str] = "ai-edge-litert"
    target: ClassVar[str] = "tflite"

    def __init__(self, path: Path, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter: Any = Interpreter(str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except self.errors() as error:
            raise ModelError(
                f"{path}: LiteRT does not take the model: {first_line(error)}"
            ) from error
        details = self._interpreter.get_input_details()
        self._index = {d["name"]: d["index"] for d in details}
        self.inputs = tuple(
            Input(d["name"], np.dtype(d["dtype"]), tuple(map(int, d["shape"]))) for d in details
        )

    @classmethod
    @override
    def load(cls) -> None:
        importlib.import_module("ai_edge_litert.interpreter")

    @classmethod
    @override
    def errors(cls) -> tuple[type[Exception], ...]:
        return (RuntimeError, ValueError)

    @override
    def feed(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            self._interpreter.set_tensor(self._index[name], array)

    @override
    def run(self) -> None:
        self._interpreter.invoke()

    @override
    def delegation(self) -> dict[str, Any] | None:
        found = placement(self._interpreter)
        if found is None:
            return None
        outside = Counter(found.codes[i] for i in found.fallen)
        inside = Counter(found.codes[i] for i in sorted(found.delegated))
        return {
            "delegate": "XNNPACK" if found.partitions else None,
            "partitions": found.partitions,
            "delegated": dict(sorted(inside.items())),
            "not_delegated": dict(sorted(outside.items())),
        }

    @override
    def notes(self) -> tuple[str, ...]:
        return (
            "LiteRT's Python package gives no time per operator; its benchmark_model tool "
            "does, with --enable_op_profiling=true.",
        )
