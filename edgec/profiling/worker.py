"""The process that runs the model: ``python -m edgec.profiling.worker``.

Reads a request as JSON from standard input and answers in JSON on standard output. It is a
process of its own so that a runtime that crashes is an error message, and so that its memory
is that of the model and not of whatever called it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np

from edgec.errors import Diagnostic, EdgecError, ModelError, OptionError
from edgec.profiling.machine import describe, peak_rss_bytes
from edgec.profiling.profile import Profile
from edgec.profiling.runtimes import Array, Input, Runtime, first_line, runtime_of

__all__ = ["main", "measure"]


def main() -> None:
    """Answer one request."""
    # Runtimes print to standard output; the answer must stand there alone.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.read())
    try:
        result: dict[str, Any] = {"profile": measure(request).to_dict()}
    except EdgecError as error:
        result = {
            "error": {
                "type": type(error).__name__,
                "summary": error.summary,
                "diagnostics": [[d.message, d.where, d.hint] for d in error.diagnostics],
            }
        }
    with answer:
        json.dump(result, answer)


def measure(request: Mapping[str, Any]) -> Profile:
    """Run the model as the request says.

    Parameters
    ----------
    request
        ``path``, ``inputs`` (a path or ``None``) and the fields of
        :class:`edgec.profiling.run.Settings`.
    """
    path = Path(request["path"])
    machine = describe()
    kind = runtime_of(path)
    kind.load()
    start = time.perf_counter()
    runtime = kind(path, request["threads"])
    opened = time.perf_counter() - start
    runtime.feed(_arrays(runtime, request["inputs"]))
    cold = opened + _first_run(runtime, path)
    for _ in range(request["warmup"]):
        runtime.run()
    times = _timed(runtime, request["runs"], request["min_seconds"], request["max_seconds"])
    peak = peak_rss_bytes()  # before the traced run, which needs more
    median, p95, low, high = np.percentile(times, [50, 95, 0, 100]) * 1000
    notes = runtime.notes()
    if len(times) < request["runs"]:
        limit = f"{request['max_seconds']:g} s"
        notes += (f"{len(times)} of {request['runs']} runs fitted into {limit}.",)
    return Profile(
        latency_ms=float(median),
        latency_p95_ms=float(p95),
        latency_min_ms=float(low),
        latency_max_ms=float(high),
        cold_ms=cold * 1000,
        runs=len(times),
        warmup=request["warmup"],
        threads=request["threads"],
        peak_rss_bytes=peak,
        runtime={"name": runtime.name, "version": runtime.version},
        machine=machine,
        operators=runtime.operators(),
        delegation=runtime.delegation(),
        notes=notes,
    )


def _first_run(runtime: Runtime, path: Path) -> float:
    """Run once and return the seconds; whatever is wrong with the model comes up here."""
    start = time.perf_counter()
    try:
        runtime.run()
    except runtime.errors() as error:
        raise ModelError(
            f"{path} does not run in {runtime.name}: {first_line(error)}"
        ) from error
    return time.perf_counter() - start


def _timed(runtime: Runtime, runs: int, min_seconds: float, max_seconds: float) -> Array:
    """Return seconds of each run: at least `runs` and `min_seconds`, within `max_seconds`."""
    times: list[float] = []
    begin = now = time.perf_counter()
    gc.disable()  # a collection in the middle of a run would be timed
    try:
        while len(times) < runs or now - begin < min_seconds:
            start = time.perf_counter()
            runtime.run()
            now = time.perf_counter()
            times.append(now - start)
            if now - begin >= max_seconds:
                break
    finally:
        gc.enable()
    return np.array(times)


def _arrays(runtime: Runtime, source: str | None) -> dict[str, Array]:
    if source is not None:
        return _stored(runtime, Path(source))
    rng = np.random.default_rng(0)
    return {i.name: _random(i, rng) for i in runtime.inputs}


def _random(wanted: Input, rng: np.random.Generator) -> Array:
    """Return an array that no model chokes on.

    Bytes are quantized data and take any value; wider integers may be indices, which only
    0 and 1 are safe for.
    """
    dtype, shape = wanted.dtype, wanted.shape
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return rng.integers(0, 2, shape).astype(dtype)


def _stored(runtime: Runtime, path: Path) -> dict[str, Array]:
    """Return the arrays of a file: a golden one of edgec's, or one with plain names."""
    found: dict[str, Array] = {}
    problems: list[Diagnostic] = []
    if not path.is_file():
        raise OptionError(f"cannot read the inputs {path}: there is no such file")
    if not is_zipfile(path):
        raise OptionError(f"the inputs {path} are no .npz file, or it is cut off")
    try:
        with np.load(path, allow_pickle=False) as stored:
            held = stored.files
            for i in runtime.inputs:
                names = (f"{runtime.target}/input/{i.name}", f"input/{i.name}", i.name)
                name = next((n for n in names if n in held), None)
                if name is None:
                    problems.append(
                        Diagnostic(f"is missing; there is {', '.join(held)}", i.name)
                    )
                else:
                    found[i.name] = stored[name]
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise OptionError(f"cannot read the inputs {path}: {error}") from error
    for i in runtime.inputs:
        array = found.get(i.name)
        if array is not None and (array.dtype != i.dtype or array.shape != i.shape):
            message = f"is {array.dtype}{list(array.shape)}, not {i.dtype}{list(i.shape)}"
            problems.append(Diagnostic(message, i.name))
    if problems:
        raise OptionError(f"the arrays of {path} do not fit the model's inputs", problems)
    return {name: np.ascontiguousarray(a) for name, a in found.items()}


if __name__ == "__main__":
    main()
