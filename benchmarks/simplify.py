"""What lossless simplification leaves of real models, beside onnxslim and onnxsim.

From the root of the checkout: ``python -m benchmarks.simplify --peer-python PYTHON``.
Each tool writes every ONNX model of the data folder with the same input shapes, edgec by
``edgec compile -t onnxruntime`` with its proof. Printed for each: nodes (those of subgraphs
included, `Constant` not), bytes, CPU seconds of the whole process, and the latency of ours in
ONNX Runtime as a multiple of the peer's. Exits with 1 where we write more nodes or bytes, or
a model that is slower beyond noise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from benchmarks.models import DATA, SHAPES, Array, example_feeds
from benchmarks.processes import Usage, measure
from edgec.errors import ModelError
from edgec.evaluate import ort_session
from edgec.frontend import load
from edgec.ir import Value

PEERS = {"onnxslim": "--input-shapes", "onnxsim": "--overwrite-input-shape"}
SESSIONS = 3
"""Each model is loaded so often: where its memory happens to lie moves its latency too."""

ROUND_S = 0.02
NOISE_FLOOR = 0.02


@dataclass(frozen=True, slots=True)
class Written:
    """What one tool made of a model."""

    path: Path
    nodes: int
    size: int
    cpu_s: float


def main() -> int:
    """Measure everything; return how many bounds failed."""
    parser = argparse.ArgumentParser(description="lossless simplification, beside other tools")
    parser.add_argument("--peer-python", help="interpreter with onnxslim and onnxsim")
    parser.add_argument("--models", nargs="*", default=[], help="parts of names of files")
    parser.add_argument("--rounds", type=int, default=15, help="of latency; 0 leaves it out")
    arguments = parser.parse_args()
    files = sorted((DATA / "models").rglob("*.onnx"))
    wanted = [
        f for f in files if not arguments.models or any(m in f.stem for m in arguments.models)
    ]
    failures, totals = 0, dict.fromkeys(("edgec", *PEERS), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for path in wanted:
            inputs = load(path, SHAPES.get(path.stem, {})).graph.inputs
            ours = simplified(path, Path(folder))
            original = onnx.load(path, load_external_data=False)
            print(f"{path.stem}: {count(original.graph)} nodes, {path.stat().st_size} bytes")
            print(
                f"  {'edgec':9}{ours.nodes:5} nodes {ours.size:9} bytes {ours.cpu_s:6.2f} CPU s"
            )
            totals["edgec"] += ours.cpu_s
            for name in PEERS:
                theirs = peer(name, path, inputs, arguments.peer_python, Path(folder))
                if theirs is not None:
                    totals[name] += theirs.cpu_s
                    failures += compare(name, ours, theirs, inputs, arguments.rounds)
    print("CPU seconds in all: " + ", ".join(f"{k} {v:.1f}" for k, v in totals.items()))
    return int(failures > 0)


def count(graph: onnx.GraphProto) -> int:
    """Return how many nodes there are, those of subgraphs included, constants not."""
    total = sum(count(body) for node in graph.node for body in subgraphs(node))
    return total + len([node for node in graph.node if node.op_type != "Constant"])


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the subgraphs of a node; an empty one stands for none."""
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs)


def simplified(path: Path, folder: Path) -> Written:
    """Return what edgec writes without a recipe."""
    command = [sys.executable, "-m", "edgec", "compile", str(path), "-t", "onnxruntime"]
    for name, shape in SHAPES.get(path.stem, {}).items():
        command += ["--shape", f"{name}={','.join(map(str, shape))}"]
    usage = measure(
        [*command, "-o", str(folder), "--quiet"],
        {**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    if usage.exit_code:
        raise SystemExit(f"edgec failed on {path}:\n{usage.output}")
    return written(folder / path.name, usage)


def peer(
    name: str, path: Path, inputs: Sequence[Value], python: str | None, folder: Path
) -> Written | None:
    """Return what a peer writes, with input shapes given or without, or ``None``."""
    tool = None if python is None else shutil.which(name, path=str(Path(python).parent))
    if tool is None:
        print(f"  {name:9}not measured, that tool is not here")
        return None
    out = folder / f"{path.stem}.{name}.onnx"
    shapes = [f"{v.name}:{','.join(map(str, v.type.ints))}" for v in inputs if v.type.ints]
    for options in ([PEERS[name], *shapes], []):
        usage = measure([tool, str(path), str(out), *options])
        if not usage.exit_code and out.exists():
            return written(out, usage)
    print(f"  {name:9}fails: {usage.output.strip().splitlines()[-1][:70]}")
    return None


def written(path: Path, usage: Usage) -> Written:
    """Return what a tool has just written."""
    return Written(path, count(onnx.load(path).graph), path.stat().st_size, usage.cpu_s)


def compare(
    name: str, ours: Written, theirs: Written, inputs: Sequence[Value], rounds: int
) -> int:
    """Print one peer's line; return the number of bounds that do not hold."""
    line = f"  {name:9}{theirs.nodes:5} nodes {theirs.size:9} bytes {theirs.cpu_s:6.2f} CPU s"
    broken = [
        text
        for text, worse in (
            (f"{ours.nodes - theirs.nodes} nodes more", ours.nodes > theirs.nodes),
            (f"{ours.size - theirs.size} bytes more", ours.size > theirs.size),
        )
        if worse
    ]
    if rounds:
        try:
            ratio, noise = latency(ours.path, theirs.path, example_feeds(inputs), rounds)
        except ModelError as error:
            line += f"  {error.summary[:60]}"
        else:
            line += f"  latency {ratio:.3f}x (noise {noise:.3f})"
            if ratio > 1 + noise:
                broken.append("slower")
    print(line + (f"  FAIL: {', '.join(broken)}" if broken else ""), flush=True)
    return len(broken)


def latency(
    ours: Path, theirs: Path, feeds: Mapping[str, Array], rounds: int
) -> tuple[float, float]:
    """Return the latency of ours as a multiple of theirs, and how far a file is from itself.

    Several sessions of each run in turn, in both orders; medians of each session are compared.
    """
    sessions = [
        (mine, ort_session(str(path), threads=2))
        for _ in range(SESSIONS)
        for mine, path in ((True, ours), (False, theirs))
    ]
    repeats = [max(1, int(ROUND_S / seconds(s, feeds, 3))) for _, s in sessions]
    times: list[list[float]] = [[] for _ in sessions]
    for turn in range(rounds):
        order = range(len(sessions))
        for i in order if turn % 2 else reversed(order):
            times[i].append(seconds(sessions[i][1], feeds, repeats[i]))
    medians = [statistics.median(t) for t in times]
    sides = [
        [m for (own, _), m in zip(sessions, medians, strict=True) if own is mine]
        for mine in (True, False)
    ]
    spread = max(max(side) / min(side) - 1 for side in sides)
    ratio = statistics.median(sides[0]) / statistics.median(sides[1])
    return ratio, max(spread, NOISE_FLOOR)


def seconds(session: Any, feeds: Mapping[str, Array], repeats: int) -> float:
    """Return the time of one run, averaged over several."""
    known = {i.name for i in session.get_inputs()}
    given = {k: v for k, v in feeds.items() if k in known}
    start = time.perf_counter()
    for _ in range(repeats):
        session.run(None, given)
    return (time.perf_counter() - start) / repeats


if __name__ == "__main__":
    raise SystemExit(main())
