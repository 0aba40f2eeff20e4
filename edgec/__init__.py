"""edgec: compile ONNX models for phones and small boards, with proof.

Three functions are the public API: :func:`load`, :func:`compile` and :func:`profile`. Importing
this package costs nothing; what they need is imported when they are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgec.errors import EdgecError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgec.compiler import Result
    from edgec.ir import Graph
    from edgec.profiling import Profile

    Samples = str | Path | Mapping[str, NDArray[np.generic]]

__all__ = ["EdgecError", "__version__", "compile", "load", "profile"]

__version__ = "0.1.0"


def load(
    model: str | Path, *, shapes: Mapping[str, Sequence[int | str]] | None = None
) -> Graph:
    """Read an ONNX model as a graph.

    Parameters
    ----------
    model
        Path of a model of opset 7 or later.
    shapes
        Shapes of inputs that the model leaves open; an open batch is 1 unless given.

    Raises
    ------
    ModelError
        If the file is not a valid model, or a shape stays open.

    Examples
    --------
    >>> import edgec
    >>> from edgec.demo import MODEL
    >>> graph = edgec.load(MODEL)
    >>> print(graph.inputs[0].type, len(graph.nodes))
    f32[1,1,8,8] 21
    """
    from edgec.frontend import load as read

    return read(Path(model), {k: tuple(v) for k, v in (shapes or {}).items()}).graph


def compile(  # the name users expect, as in the command
    model: str | Path,
    targets: Sequence[str],
    *,
    recipe: str | None = None,
    calibration: Samples | None = None,
    evaluation: Samples | None = None,
    ranges: Literal["minmax", "percentile", "entropy", "mse"] | None = None,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    io_dtype: Literal["float32", "int8", "uint8", "int16"] = "float32",
    io_layout: Literal["keep", "nhwc"] = "keep",
    keep_float: Sequence[str] = (),
    max_drop: float | None = None,
    **options: Any,
) -> Result:
    """Compile an ONNX model, run every artifact in its runtime, and compare it with the model.

    Nothing is written: ``Result.save(folder)`` does that.

    Parameters
    ----------
    targets
        "tflite", "onnxruntime", or both.
    recipe
        "static_wi8_ai8" for int8 weights and activations, "static_wi4_ai8" for int4 weights,
        "static_wi8_ai16" for int16 activations; `edgec compile --help` lists them all. float32
        otherwise.
    calibration
        A few hundred unlabelled samples: an ``.npz`` with one array for each input, another
        form that ``edgec compile --calibration`` takes, or the arrays by name.
    evaluation
        Samples with ``labels``.
    ranges
        How activation ranges are found.
    io_dtype, io_layout
        Of the TFLite file's inputs and outputs.
    keep_float
        Names of layers that are not quantized.
    max_drop
        Largest loss of accuracy in points, of `metric` in its units, or of agreement with the
        float model in points: layers get more bits until it holds. If it never does,
        ``Result.refused`` says so, and the files are the best that was found.
    options
        Further fields of :class:`edgec.compiler.CompileOptions`.

    Raises
    ------
    EdgecError
        A subclass for each kind of problem: a bad model, bad data, an operator the target
        lacks, an artifact that does not compute what the model computes.

    Examples
    --------
    >>> import edgec
    >>> from edgec.demo import CALIBRATION, MODEL, TEST
    >>> result = edgec.compile(
    ...     MODEL, ["tflite"], recipe="static_wi8_ai8", calibration=CALIBRATION, evaluation=TEST
    ... )
    >>> sorted(result.files)
    ['digits.golden.npz', 'digits.tflite', 'report.json']
    >>> (artifact,) = result.report["artifacts"]
    >>> bool(artifact["accuracy"] > 0.97)
    True
    """
    from edgec.compiler import CompileOptions, compile_model

    settings = CompileOptions(
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
        recipe=recipe,
        calibration=_source(calibration),
        evaluation=_source(evaluation),
        ranges=ranges,
        shapes={k: tuple(v) for k, v in (shapes or {}).items()},
        io_dtype=io_dtype,
        io_layout=io_layout,
        keep_float=tuple(keep_float),
        max_drop=max_drop,
        **options,
    )
    return compile_model(Path(model), settings)


def profile(
    artifact: str | Path, *, runs: int = 50, warmup: int = 5, threads: int = 1
) -> Profile:
    """Time a ``.tflite`` or ``.onnx`` file on this machine, in a process of its own.

    Parameters
    ----------
    runs, warmup
        Timed inferences, and those before them that are not counted.
    threads
        Threads the runtime may use.

    Raises
    ------
    EdgecError
        If the runtime refuses the file.

    Examples
    --------
    >>> import edgec
    >>> from edgec.demo import MODEL
    >>> found = edgec.profile(MODEL, runs=10)
    >>> bool(0 < found.latency_ms <= found.latency_p95_ms)
    True
    """
    from edgec.profiling import profile_file

    return profile_file(Path(artifact), runs=runs, warmup=warmup, threads=threads)


def _source(samples: Any) -> Any:
    return Path(samples) if isinstance(samples, str) else samples
