"""Float TFLite of real models beside onnx2tf's: latency, transposes, CPU seconds and memory."""

from __future__ import annotations

import itertools
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.models import DATA, SHAPES, Array, sensible_feeds
from benchmarks.processes import Usage, measure
from edgec.errors import EdgecError
from edgec.evaluate import OnnxSession, ort_session
from edgec.frontend import load
from edgec.targets.tflite.run import interpreter

__all__ = ["report"]

CPU_LIMIT, MEMORY_LIMIT, LATENCY_LIMIT = 0.5, 0.75, 1.0
RIGHT = 1e-2
"""Relative to the range of the output; what is further off is no conversion."""
NOISE_FLOOR = 0.02
ROUND_S = 0.02
SESSIONS = 3


@dataclass(frozen=True, slots=True)
class Compared:
    """One model: ours as a multiple of the other tool's.

    Parameters
    ----------
    latency
        By number of threads.
    noise
        How far files are from themselves, by number of threads.
    """

    cpu: float
    memory: float
    proven_cpu: float
    proven_memory: float
    transposes: tuple[int, int]
    latency: Mapping[int, float]
    noise: Mapping[int, float]


def report(peer_python: str | None, pattern: str, runs: int = 3, rounds: int = 15) -> int:
    """Convert every model with both tools; return how many bounds failed."""
    tool = None
    if peer_python is not None:
        tool = shutil.which("onnx2tf", path=str(Path(peer_python).parent))
    if tool is None:
        print("onnx2tf: not measured; give --peer-python")
        return 0
    print(
        "model                      CPU s: no proof, proof, onnx2tf   MB: same order     "
        "TRANSPOSE  latency, 1 and 2 threads (noise)"
    )
    found: list[Compared] = []
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((DATA / "models").rglob("*.onnx")):
            if pattern in path.stem:
                one = compare(path, tool, Path(folder), runs, rounds)
                wrong += one == "wrong"
                found += [one] if isinstance(one, Compared) else []
    if not found:
        return wrong
    failures = wrong + sum(f.transposes[0] > f.transposes[1] for f in found)
    for title, values, limit in (
        ("CPU seconds, no proof", [f.cpu for f in found], CPU_LIMIT),
        ("peak memory, no proof", [f.memory for f in found], MEMORY_LIMIT),
        ("CPU seconds, proof", [f.proven_cpu for f in found], None),
        ("peak memory, proof", [f.proven_memory for f in found], None),
        ("latency, 1 thread", [f.latency[1] for f in found], LATENCY_LIMIT),
        ("latency, 2 threads", [f.latency[2] for f in found], LATENCY_LIMIT),
    ):
        mean = math.exp(statistics.mean(math.log(v) for v in values))
        # A mean of many ratios is as sure as one of them divided by the root of their number.
        spread = [f.noise[1] for f in found] if title.startswith("latency") else [0.0]
        slack = math.hypot(*spread) / len(spread)
        fails = limit is not None and mean > limit + slack
        failures += fails
        bound = "" if limit is None else f" (at most {limit}x)"
        print(f"{title}: {mean:.3f}x of onnx2tf over {len(values)} models{bound}{_flag(fails)}")
    return failures


def compare(
    path: Path, tool: str, folder: Path, runs: int, rounds: int
) -> Compared | Literal["wrong"] | None:
    """Print one line; return the figures where both tools made a file that runs.

    ``"wrong"`` where ours is far off.
    """
    shapes = SHAPES.get(path.stem, {})
    theirs_out = folder / "theirs"
    # As onnx2tf does by itself: images come channels last.
    ours = [sys.executable, "-m", "edgec", "compile", str(path), "-t", "tflite", "-q"]
    ours += ["--io-layout", "nhwc"]
    ours += ["-o", str(folder / "ours")]
    # onnx2tf writes the model it simplified over the one it was given.
    copied = str(shutil.copy(path, folder / path.name))
    Path(copied).chmod(0o644)
    theirs = [tool, "-i", copied, "-o", str(theirs_out), "-n"]
    for name, shape in shapes.items():
        ours += ["--shape", f"{name}={','.join(map(str, shape))}"]
    if open_names := _open_inputs(path):
        theirs += ["-ois", *(f"{n}:{','.join(map(str, s))}" for n, s in open_names.items())]
    commands = {"bare": [*ours, "--no-verify", "--no-proof"], "proof": ours, "peer": theirs}
    best: dict[str, Usage] = {}
    for turn in range(runs):
        for label, command in commands.items():
            if turn and best[label].exit_code:
                continue
            shutil.rmtree(theirs_out, ignore_errors=True) if label == "peer" else None
            usage = measure(command, {**os.environ, "PYTHONPATH": str(Path.cwd())})
            if label not in best or usage.cpu_s < best[label].cpu_s:
                best[label] = usage
    line = f"{path.stem:26}"
    broken = [k for k in commands if best[k].exit_code]
    if broken:
        why = best[broken[0]].output.strip().splitlines()
        print(f"{line} {', '.join(broken)} failed: {why[-1][:100] if why else ''}", flush=True)
        return None
    files = [
        (folder / "ours" / f"{path.stem}.tflite").read_bytes(),
        next(theirs_out.glob("*_float32.tflite")).read_bytes(),
    ]
    try:
        ours_off, theirs_off = (error_of(path, data) for data in files)
        if max(ours_off, theirs_off) > RIGHT:
            print(
                f"{line} off by {ours_off:.2g} of the range, onnx2tf's file by {theirs_off:.2g}"
                f"{_flag(ours_off > RIGHT)}",
                flush=True,
            )
            return "wrong" if ours_off > RIGHT else None
        latencies = {n: latency(files, n, rounds) for n in (1, 2)}
        transposes = tuple(_transposes(data) for data in files)
    except (EdgecError, RuntimeError, ValueError) as error:
        print(f"{line} the file of onnx2tf does not run: {str(error).splitlines()[0][:90]}")
        return None
    bare, proof, peer = best["bare"], best["proof"], best["peer"]
    more = transposes[0] > transposes[1]
    ratios = ", ".join(f"{r:.3f}x ({n:.3f})" for r, n in latencies.values())
    print(
        f"{line} {bare.cpu_s:5.2f} {proof.cpu_s:5.2f} {peer.cpu_s:5.2f}   "
        f"{bare.peak_bytes / 1e6:5.0f} {proof.peak_bytes / 1e6:5.0f} "
        f"{peer.peak_bytes / 1e6:5.0f}   {transposes[0]:3} and {transposes[1]:3}   "
        f"{ratios}{_flag(more)}",
        flush=True,
    )
    return Compared(
        bare.cpu_s / peer.cpu_s,
        bare.peak_bytes / peer.peak_bytes,
        proof.cpu_s / peer.cpu_s,
        proof.peak_bytes / peer.peak_bytes,
        (transposes[0], transposes[1]),
        {n: r for n, (r, _) in latencies.items()},
        {n: s for n, (_, s) in latencies.items()},
    )


def _open_inputs(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the inputs that the model leaves open, batches too."""
    import onnx

    declared = onnx.load(path, load_external_data=False).graph.input
    fixed = {
        v.name
        for v in declared
        if all(
            d.HasField("dim_value") and d.dim_value > 0 for d in v.type.tensor_type.shape.dim
        )
    }
    inputs = load(path, SHAPES.get(path.stem, {})).graph.inputs
    return {v.name: v.type.ints for v in inputs if v.name not in fixed}


def _transposes(data: bytes) -> int:
    return sum(op["op_name"] == "TRANSPOSE" for op in interpreter(data)._get_ops_details())


def latency(files: Sequence[bytes], threads: int, rounds: int) -> tuple[float, float]:
    """Return the latency of the first file as a multiple of the second's, and the noise.

    Several interpreters of each run in turn, in both orders; medians of each are compared.
    """
    made = [
        (i, _ready(interpreter(data, threads=threads)))
        for _ in range(SESSIONS)
        for i, data in enumerate(files)
    ]
    repeats = [max(1, int(ROUND_S / _seconds(m, 3))) for _, m in made]
    times: list[list[float]] = [[] for _ in made]
    for turn in range(rounds):
        order = range(len(made))
        for k in order if turn % 2 else reversed(order):
            times[k].append(_seconds(made[k][1], repeats[k]))
    medians = [statistics.median(t) for t in times]
    sides = [
        [m for (i, _), m in zip(made, medians, strict=True) if i == side] for side in (0, 1)
    ]
    spread = max(max(side) / min(side) - 1 for side in sides)
    return statistics.median(sides[0]) / statistics.median(sides[1]), max(spread, NOISE_FLOOR)


def error_of(path: Path, data: bytes) -> float:
    """Return how far a file's outputs are from the model's, relative to their range.

    Its inputs and outputs may have their axes in any order.
    """
    inputs = load(path, SHAPES.get(path.stem, {})).graph.inputs
    feeds = sensible_feeds(path.stem, inputs)
    wants = list(OnnxSession(ort_session(str(path))).run(feeds).values())
    made = interpreter(data)
    left = dict(feeds)
    for detail in made.get_input_details():
        shape = tuple(detail["shape"])
        own = detail["name"].removeprefix("serving_default_").split(":")[0]
        names = sorted(left, key=lambda name: name != own)
        fits = ((n, a) for n in names for a in _orders(left[n]) if a.shape == shape)
        name, array = next(fits, ("", np.zeros(0)))
        if not name:
            return math.inf  # it takes something else than the model does
        del left[name]
        made.set_tensor(detail["index"], array.astype(detail["dtype"]))
    made.invoke()
    gots = [made.get_tensor(d["index"]) for d in made.get_output_details()]
    return max(min(_off(got, want) for got in gots) for want in wants)


def _orders(array: Array) -> list[Array]:
    """Return an array as it is, and with its channels last."""
    if array.ndim < 3:
        return [array]
    return [array, np.ascontiguousarray(array.transpose(0, *range(2, array.ndim), 1))]


def _off(got: Array, want: Array) -> float:
    """Return the least error over all orders of the axes, relative to the range."""
    if got.size != want.size:
        return math.inf
    span = float(np.abs(want).max()) or 1.0
    shapes = [got.reshape(want.shape)]
    squeezed = got.squeeze()
    if squeezed.ndim <= 5:
        orders = itertools.permutations(range(squeezed.ndim))
        shapes += [squeezed.transpose(p).reshape(want.shape) for p in orders]
    return min(float(np.abs(s.astype(np.float64) - want).max()) / span for s in shapes)


def _ready(made: Any) -> Any:
    """Return the interpreter with small random numbers in its inputs."""
    rng = np.random.default_rng(0)
    for detail in made.get_input_details():
        shape, dtype = tuple(detail["shape"]), detail["dtype"]
        array: Array = rng.uniform(0, 1, shape).astype(dtype)
        if np.issubdtype(dtype, np.integer):
            array = rng.integers(0, 2, shape).astype(dtype)
        made.set_tensor(detail["index"], array)
    made.invoke()
    return made


def _seconds(made: Any, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        made.invoke()
    return (time.perf_counter() - start) / repeats


def _flag(fails: bool) -> str:
    return "  FAIL" if fails else ""
