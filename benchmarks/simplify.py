"""What lossless simplification leaves of real models, beside onnxslim and onnxsim.

From the root of the checkout: ``python -m benchmarks.simplify --peer-python PYTHON``.
Each tool writes every ONNX model of the data folder with the same input shapes; edgec with
every pass held to its promise on one sample. Printed for each: nodes (those of subgraphs
included, `Constant` not), bytes, CPU seconds of the whole process, and the latency of ours in
ONNX Runtime as a multiple of the peer's; also that of the artifact of ``edgec compile -t
onnxruntime``, which goes on to write what ONNX Runtime has no fast kernels for in other
operators. Exits with 1 where we write more nodes or bytes, or a model that is slower beyond
noise.
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
from edgec.export import to_onnx
from edgec.frontend import load
from edgec.ir import Value
from edgec.passes import simplify

PEERS = {"onnxslim": "--input-shapes", "onnxsim": "--overwrite-input-shape"}
SESSIONS = 3
"""Each model is loaded so often: where its memory happens to lie moves its latency too."""

ROUND_S = 0.02
NOISE_FLOOR = 0.02
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path.cwd())}


@dataclass(frozen=True, slots=True)
class Written:
    """What one tool made of a model."""

    path: Path
    nodes: int
    size: int
    cpu_s: float

    def text(self, tool: str) -> str:
        """Return the figures as part of a line."""
        return f"{tool:9}{self.nodes:5} nodes {self.size:9} bytes {self.cpu_s:6.2f} CPU s"


def main() -> int:
    """Measure everything; return how many bounds failed."""
    parser = argparse.ArgumentParser(description="lossless simplification, beside other tools")
    parser.add_argument("--peer-python", help="interpreter with onnxslim and onnxsim")
    parser.add_argument("--models", nargs="*", default=[], help="parts of names of files")
    parser.add_argument("--rounds", type=int, default=15, help="of latency; 0 leaves it out")
    parser.add_argument("--write", nargs=2, metavar=("MODEL", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(*map(Path, arguments.write))
        return 0
    files = sorted((DATA / "models").rglob("*.onnx"))
    wanted = arguments.models or [""]
    failures, totals = 0, dict.fromkeys(("edgec", *PEERS), 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            if not any(part in path.stem for part in wanted):
                continue
            inputs = load(path, SHAPES.get(path.stem, {})).graph.inputs
            original = onnx.load(path, load_external_data=False)
            print(f"{path.stem}: {count(original.graph)} nodes, {path.stat().st_size} bytes")
            ours = simplified(path, Path(folder))
            print("  " + ours.text("edgec"))
            totals["edgec"] += ours.cpu_s
            artifact = compiled(path, Path(folder)) if arguments.rounds else None
            for name in PEERS:
                theirs = peer(name, path, inputs, arguments.peer_python, Path(folder))
                if theirs is None:
                    continue
                totals[name] += theirs.cpu_s
                line, broken = theirs.text(name), excess(ours, theirs)
                if artifact is not None:
                    pair = [ours.path, artifact]
                    text, slower = timed(pair, theirs.path, inputs, arguments.rounds)
                    line, broken = line + text, broken + slower
                flag = f"  FAIL: {', '.join(broken)}" if broken else ""
                print(f"  {line}{flag}", flush=True)
                failures += len(broken)
    print("CPU seconds in all: " + ", ".join(f"{k} {v:.1f}" for k, v in totals.items()))
    return int(failures > 0)


def write(model: Path, out: Path) -> None:
    """Simplify one model as `edgec compile` does first."""
    graph = load(model, SHAPES.get(model.stem, {})).graph
    graph, _ = simplify(graph, example_feeds(graph.inputs))
    out.write_bytes(to_onnx(graph).SerializeToString(deterministic=True))


def count(graph: onnx.GraphProto) -> int:
    """Return how many nodes there are, those of subgraphs included, constants not."""
    total = sum(count(body) for node in graph.node for body in subgraphs(node))
    return total + len([node for node in graph.node if node.op_type != "Constant"])


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the subgraphs of a node; an empty one stands for none."""
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs)


def simplified(path: Path, folder: Path) -> Written:
    """Return what edgec makes of a model, in a process of its own."""
    out = folder / f"{path.stem}.edgec.onnx"
    module = [sys.executable, "-m", "benchmarks.simplify"]
    usage = measure([*module, "--write", str(path), str(out)], ENVIRONMENT)
    if usage.exit_code:
        raise SystemExit(f"edgec failed on {path}:\n{usage.output}")
    return written(out, usage)


def compiled(path: Path, folder: Path) -> Path:
    """Return the artifact that edgec writes for ONNX Runtime."""
    command = [sys.executable, "-m", "edgec", "compile", str(path), "-t", "onnxruntime"]
    for name, shape in SHAPES.get(path.stem, {}).items():
        command += ["--shape", f"{name}={','.join(map(str, shape))}"]
    usage = measure([*command, "-o", str(folder), "--quiet"], ENVIRONMENT)
    if usage.exit_code:
        raise SystemExit(f"edgec failed on {path}:\n{usage.output}")
    return folder / path.name


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


def excess(ours: Written, theirs: Written) -> list[str]:
    """Return what we write more of."""
    more = [(ours.nodes - theirs.nodes, "nodes"), (ours.size - theirs.size, "bytes")]
    return [f"{number} {what} more" for number, what in more if number > 0]


def timed(
    ours: Sequence[Path], theirs: Path, inputs: Sequence[Value], rounds: int
) -> tuple[str, list[str]]:
    """Return the latency of our files as multiples of one of theirs, and what is too slow."""
    try:
        ratios, noise = latency([*ours, theirs], example_feeds(inputs), rounds)
    except ModelError as error:
        return f"  {error.summary[:60]}", []
    names = ("latency", "artifact")
    text = "".join(f"  {n} {r:.3f}x" for n, r in zip(names, ratios, strict=True))
    slower = [f"{n} above" for n, r in zip(names, ratios, strict=True) if r > 1 + noise]
    return f"{text} (noise {noise:.3f})", slower


def latency(
    paths: Sequence[Path], feeds: Mapping[str, Array], rounds: int
) -> tuple[list[float], float]:
    """Return latencies as multiples of the last file's, and how far one is from itself.

    Several sessions of each run in turn, in both orders. Those of one file differ by what
    else the machine does, and by where their memory happens to lie.
    """
    sessions = [ort_session(str(p), threads=2) for _ in range(SESSIONS) for p in paths]
    repeats = [max(1, int(ROUND_S / seconds(s, feeds, 3))) for s in sessions]
    times: list[list[float]] = [[] for _ in sessions]
    for turn in range(rounds):
        order = range(len(sessions))
        for i in order if turn % 2 else reversed(order):
            times[i].append(seconds(sessions[i], feeds, repeats[i]))
    fastest = [min(t) for t in times]  # whatever else runs only ever adds to them
    files = [fastest[i :: len(paths)] for i in range(len(paths))]
    spread = max(max(own) / min(own) - 1 for own in files)
    typical = [statistics.median(own) for own in files]
    return [t / typical[-1] for t in typical[:-1]], max(spread, NOISE_FLOOR)


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
