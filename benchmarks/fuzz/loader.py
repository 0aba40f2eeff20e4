"""Damaged models through the loader, the lossless passes and the targets."""

from __future__ import annotations

import re
import resource
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx

import edgec
from benchmarks.fuzz.mutants import damaged, mutant, parses
from benchmarks.models import DATA, SHAPES
from benchmarks.workers import Died, judged
from edgec.cli.inspection import inspect_tflite
from edgec.demo import CALIBRATION, MODEL
from edgec.errors import EdgecError, InternalError
from edgec.frontend import load
from edgec.passes import Pipeline, simplify
from edgec.targets import OnnxRuntime, Tflite

__all__ = [
    "MODELS",
    "Files",
    "Outcome",
    "artifacts",
    "judge",
    "originals",
    "report",
]

MODELS = (
    "kws_ds_cnn_s",  # tf2onnx
    "kws_gru_s",  # a loop
    "silero_vad_16k_op15",  # six subgraphs
    "basic_pitch",
    "ppocr_v2_cls",  # Paddle
    "sinet_portrait",  # an old PyTorch
    "yunet_n_dynamic",
    "thai_attacut_c",  # PyTorch's newer exporter
)
"""Models of the data folder. The shipped one, in QDQ form and with its data outside, makes ten;
one with little but subgraphs is there when the data folder is not."""

_LIMIT_S = 10.0
_LEAST_PARSED = 0.3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one damaged file.

    Parameters
    ----------
    what
        "compiled", "loaded", the name of the error it was refused with, or what is wrong.
    wrong
        Whether this must not be.
    """

    what: str
    wrong: bool = False
    parsed: bool = False
    seconds: float = 0.0
    peak_bytes: int = 0


def originals(folder: Path, data: Path | None) -> dict[str, Path]:
    """Write models to damage into folders of their own, and return where they are."""
    found: dict[str, Path] = {}
    for name in MODELS if data is not None else ():
        found[name] = folder / name / "model.onnx"
        found[name].parent.mkdir()
        found[name].write_bytes(next((data or folder).rglob(f"{name}.onnx")).read_bytes())
    found["digits in QDQ form"] = folder / "qdq" / "model.onnx"
    _quantized(found["digits in QDQ form"])
    if data is None:
        found["branches and loops"] = folder / "branches" / "model.onnx"
        found["branches and loops"].parent.mkdir()
        branches = onnx.parser.parse_model(_BRANCHES)
        found["branches and loops"].write_bytes(branches.SerializeToString())
    found["digits with its data outside"] = folder / "outside" / "model.onnx"
    found["digits with its data outside"].parent.mkdir()
    onnx.save_model(
        onnx.load(MODEL), found["digits with its data outside"], save_as_external_data=True,
        location="data.bin", size_threshold=0,
    )  # fmt: skip
    return found


_BRANCHES = """<ir_version: 8, opset_import: ["" : 17]>
net (float[2,3] x, bool flag) => (float[2,3] y) <int64 n = {3}, float[3] w = {1, 2, 3}> {
    a = If (flag) <
        then_branch = one () => (float[2,3] p) { p = Mul(x, w) },
        else_branch = two () => (float[2,3] q) {
            q = If (flag) <
                then_branch = three () => (float[2,3] r) { r = Relu(x) },
                else_branch = four () => (float[2,3] s) { s = Neg(x) }
            >
        }
    >
    t = Constant <value = bool {1}> ()
    y = Loop (n, t, a) <
        body = five (int64 i, bool c, float[2,3] u) => (bool d, float[2,3] v) {
            d = Identity(c)
            v = Add(u, x)
        }
    >
}
"""


def _quantized(path: Path) -> None:
    """Write the shipped model as int8 with pairs around every operator."""
    path.parent.mkdir()
    path.write_bytes(_shipped("onnxruntime", "static_wi8_ai8"))


def artifacts(folder: Path) -> dict[str, Path]:
    """Write TFLite files to damage, and return where they are."""
    found: dict[str, Path] = {}
    for name, recipe in (("float", None), ("int8", "static_wi8_ai8")):
        found[name] = folder / f"{name}.tflite"
        found[name].write_bytes(_shipped("tflite", recipe))
    return found


def _shipped(target: str, recipe: str | None) -> bytes:
    """Return the shipped model, compiled."""
    calibration = None if recipe is None else CALIBRATION
    made = edgec.compile(MODEL, [target], recipe=recipe, calibration=calibration, prove=False)
    return next(d for n, d in made.files.items() if n.endswith((".onnx", ".tflite")))


def _survives(path: Path, shapes: Mapping[str, Sequence[int]], targets: bool) -> Outcome:
    """Load a damaged model, simplify it and, perhaps, compile it for both targets."""
    outcome = _outcome(partial(_compiled, path, shapes, targets))
    return replace(outcome, parsed=parses(path.read_bytes()))


def _survives_tflite(path: Path) -> Outcome:
    """Inspect a damaged TFLite file."""
    return _outcome(partial(_inspected, path))


def _outcome(run: Callable[[], str]) -> Outcome:
    begun = time.perf_counter()
    try:
        what, wrong = run(), False
    except InternalError as error:
        what, wrong = _told(error), True
    except EdgecError as error:
        what, wrong = f"refused: {type(error).__name__}", False
    except Exception as error:  # noqa: BLE001  (that is what is looked for)
        where = traceback.extract_tb(error.__traceback__)[-1]
        what, wrong = f"{_told(error)} in {Path(where.filename).name}:{where.lineno}", True
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Outcome(what, wrong, False, time.perf_counter() - begun, peak)


def _compiled(path: Path, shapes: Mapping[str, Sequence[int]], targets: bool) -> str:
    graph = load(path, shapes).graph
    graph, _ = simplify(graph)
    for target in (Tflite(), OnnxRuntime()) if targets else ():
        ready = graph
        for passes in (target.prepare(), target.finish()):
            ready, _ = Pipeline(passes).run(ready)
        target.compile(ready)
    return "compiled" if targets else "loaded and simplified"


def _inspected(path: Path) -> str:
    inspect_tflite(path)
    return "inspected"


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


# ---- the long run


@dataclass(frozen=True, slots=True)
class Files:
    """What is damaged, and where to put it.

    Parameters
    ----------
    names
        Of the models, in the order that mutants go round.
    """

    names: tuple[str, ...]
    paths: Mapping[str, Path]
    seed: int

    def damage(self, number: int) -> Path:
        """Write the mutant with a number, beside what its original reads, and return where."""
        name = self.names[number % len(self.names)]
        original = self.paths[name]
        rng = np.random.default_rng([self.seed, number])
        path = original.with_stem(f"mutant{number}")
        change = damaged if original.suffix == ".tflite" else mutant
        path.write_bytes(change(original.read_bytes(), rng))
        return path


def judge(files: Files, number: int) -> Outcome:
    """Damage a file and see what becomes of it; it stays there if this process dies of it."""
    path = files.damage(number)
    if path.suffix == ".tflite":
        outcome = _survives_tflite(path)
    else:
        name = files.names[number % len(files.names)]
        outcome = _survives(path, SHAPES.get(name, {}), number % 4 == 0)
    if not outcome.wrong:
        path.unlink()
    return outcome


def report(mutants: int, tflite: int, seed: int, failures: Path, memory_bytes: int) -> int:
    """Damage models and TFLite files; return how many kinds of faults there are."""
    data = DATA if (DATA / "models").is_dir() else None
    if data is None:
        print(f"{DATA} has no models: only the shipped one is damaged")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = originals(root, data)
        files = Files(tuple(paths), paths, seed)
        outcomes = _run(files, mutants, failures, memory_bytes)
        parsed = sum(o.parsed for o in outcomes) / max(len(outcomes), 1)
        low = parsed < _LEAST_PARSED
        print(f"still parse: {parsed:.1%} (at least {_LEAST_PARSED:.0%}){'  FAIL' * low}")
        wrong += _print(outcomes) + low
        if tflite:
            paths = artifacts(root)
            files = Files(tuple(paths), paths, seed)
            wrong += _print(_run(files, tflite, failures, memory_bytes))
    print(f"kinds of faults: {wrong} (none allowed){'  FAIL' * bool(wrong)}")
    return wrong


def _run(files: Files, count: int, failures: Path, memory_bytes: int) -> list[Outcome]:
    print(f"{count} mutants of {len(files.names)} files: {', '.join(files.names)}; "
          f"seed {files.seed}", flush=True)  # fmt: skip
    outcomes: dict[int, Outcome] = {}
    begun = time.monotonic()
    run = partial(judge, files)
    stream = judged(
        run, range(count), workers=1, timeout_s=_LIMIT_S, memory_bytes=memory_bytes, recycle=500
    )
    for number, found in stream:
        outcome = Outcome(f"CRASH: {found.how}", True) if isinstance(found, Died) else found
        outcomes[number] = outcome
        if outcome.wrong:
            _keep(files, number, failures)
    print(f"  {time.monotonic() - begun:.0f} s")
    return [outcomes[number] for number in range(count)]


def _keep(files: Files, number: int, failures: Path) -> None:
    """Keep a mutant that something went wrong with."""
    failures.mkdir(parents=True, exist_ok=True)
    path = files.damage(number)
    name = files.names[number % len(files.names)].replace(" ", "-")
    path.rename(failures / f"{name}-{files.seed}-{number}{path.suffix}")


def _print(outcomes: Sequence[Outcome]) -> int:
    """Print what became of mutants; return how many kinds of faults there are."""
    for what, n in Counter(o.what for o in outcomes if not o.wrong).most_common():
        print(f"  {what}: {n}")
    number, slowest = max(enumerate(outcomes), key=lambda pair: pair[1].seconds)
    peak = max(o.peak_bytes for o in outcomes)
    print(f"slowest {slowest.seconds:.1f} s (number {number}, limit {_LIMIT_S:g} s), peak "
          f"{peak / 1e6:.0f} MB resident")  # fmt: skip
    faults: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.wrong:
            faults[re.sub(r"\S*\d\S*", "#", outcome.what)[:150]].append(outcome)
    for found in sorted(faults.values(), key=len, reverse=True):
        print(f"WRONG, {len(found)} times: {found[0].what}")
    return len(faults)
