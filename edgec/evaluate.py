"""What a graph computes: ONNX Runtime, with its optimisations off unless asked for."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgec.errors import InternalError, ModelError
from edgec.export import is_large, to_onnx
from edgec.ir import Array, Graph, Value, trim, unload

__all__ = [
    "Evaluator",
    "OnnxSession",
    "evaluate",
    "first_line",
    "ort_errors",
    "ort_session",
]

_TRIMMED_BYTES = 1 << 26


def ort_session(
    model: bytes | str,
    *,
    optimize: bool = True,
    sound: bool = False,
    threads: int = 1,
    weights: Mapping[str, Array] | None = None,
    pack: bool = True,
    profile: str | None = None,
) -> Any:
    """Return an ``onnxruntime.InferenceSession`` on the CPU.

    Parameters
    ----------
    model
        A serialized model or a path.
    optimize
        Whether ONNX Runtime may rewrite the graph. Off, every operator runs as written.
    sound
        Whether it has to do without the rewrites that are known to change results; an artifact
        runs with them, as it will at the user's.
    weights
        Arrays of constants that the model refers to but does not hold; copied once.
    pack
        Whether kernels may keep another copy of their weights, in the order they read them.
    profile
        Prefix of the file that ONNX Runtime writes a trace to when profiling ends.

    Raises
    ------
    ModelError
        If ONNX Runtime does not take the model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn the CPU time of whatever else runs on this machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    )
    if not pack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    if weights:
        values = [ort.OrtValue.ortvalue_from_numpy(a) for a in weights.values()]
        options.add_external_initializers(list(weights), values)
    disabled = [*_UNSOUND] if optimize and sound else []
    if optimize and _may_abort(model):
        disabled.append(_ABORTS)
    try:
        return ort.InferenceSession(
            model, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
    except ort_errors() as error:
        raise ModelError(
            f"ONNX Runtime does not take the model: {first_line(error)}"
        ) from error


_UNSOUND = ("Pad_Fusion", "WeightBiasQuantization")
"""The first makes zeros around the input of a MaxPool in ONNX Runtime 1.31 its own padding,
which never wins. The second quantizes weights that are floats, with one scale for all."""
_ABORTS = "QDQPropagationTransformer"
"""What ONNX Runtime 1.31 aborts in: it moves a dequantization to whoever reads its result, and
does not know those that read it from within a subgraph."""


def _may_abort(model: bytes | str) -> bool:
    """Whether a model has both quantization and subgraphs."""
    if isinstance(model, bytes):
        return _has_both(model)
    try:
        with Path(model).open("rb") as file:
            return _has_both(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):  # the runtime says what is wrong with it
        return False


def _has_both(data: bytes | mmap.mmap) -> bool:
    names = (b"then_branch", b"body")
    return data.find(b"DequantizeLinear") >= 0 and any(data.find(n) >= 0 for n in names)


def ort_errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises; its errors share no base below ``Exception``."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoModel")
    more = ("NotImplemented", "NoSuchFile", "RuntimeException", "EPFail", "EngineError")
    return (*(getattr(state, n) for n in (*names, *more) if hasattr(state, n)), RuntimeError)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class OnnxSession:
    """An ONNX model that runs in ONNX Runtime, with named inputs and outputs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(i.name for i in session.get_inputs())
        self.outputs = tuple(o.name for o in session.get_outputs())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output; `feeds` holds one array for each input."""
        try:
            results = self._session.run(self.outputs, dict(feeds))
        except ort_errors() as error:
            raise ModelError(
                f"the model does not run in ONNX Runtime: {first_line(error)}"
            ) from error
        return dict(zip(self.outputs, results, strict=True))


class Evaluator:
    """A graph ready to be evaluated on many inputs.

    Parameters
    ----------
    outputs
        Values to compute instead of the graph's outputs.
    optimize
        Whether ONNX Runtime may rewrite the graph: faster, but not what a pass is held to.
    """

    def __init__(
        self, graph: Graph, outputs: Sequence[Value] = (), *, optimize: bool = False
    ) -> None:
        model = to_onnx(graph, outputs=outputs, weights=False).SerializeToString()
        weights = {
            name: np.ascontiguousarray(c.array)
            for name, c in graph.constants.items()
            if is_large(c.array)
        }
        try:
            session = _session(model, weights, optimize=optimize)
        except ModelError as error:
            raise InternalError(
                f"graph {graph.name!r} is not valid ONNX: {error.summary}",
                dump={"graph.txt": str(graph).encode()},
            ) from error
        self._session = OnnxSession(session)
        self._weights = weights  # if the session reads these arrays, they must outlive it
        unload(weights.values())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return every output; `feeds` holds one array for each input."""
        return self._session.run(feeds)


def _session(model: bytes, weights: Mapping[str, Array], *, optimize: bool) -> Any:
    """Return a session; one that computes as written if ONNX Runtime's own rewrites fail.

    They do on valid graphs: release 1.31 moves a transpose over a resize that keeps the aspect
    ratio, and then misses the lengths of two axes.
    """
    try:
        return ort_session(model, optimize=optimize, sound=True, weights=weights, pack=optimize)
    except ModelError:
        if not optimize:
            raise
        return ort_session(model, optimize=False, weights=weights)


def evaluate(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return the value of every graph output, computed as written.

    Parameters
    ----------
    feeds
        One array for each graph input, by name.
    """
    outputs = Evaluator(graph).run(feeds)
    if sum(c.array.nbytes for c in graph.constants.values()) >= _TRIMMED_BYTES:
        trim()  # a session was freed
    return outputs
