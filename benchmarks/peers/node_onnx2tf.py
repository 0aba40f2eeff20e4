"""Convert the core node cases of the installed onnx with onnx2tf and judge the files in LiteRT.

Run from the root of the checkout with the interpreter that has onnx2tf:
``PYTHON -m benchmarks.peers.node_onnx2tf CACHE``. Writes the cases that it made to
``CACHE/node-cases-onnx-VERSION.pickle`` and a line of JSON for each to
``CACHE/node-onnx2tf-VERSION.jsonl``; cases that are there already are not converted again.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.node_cases import Case, close, collected, forms, is_core, tolerances
from benchmarks.workers import Died, judged

__all__ = ["main", "results_file"]

Array = NDArray[Any]


def results_file(cache: Path, peer: str) -> Path:
    """Return where the outcomes are kept."""
    return cache / f"node-onnx2tf-{peer}.jsonl"


def main() -> None:
    """Judge all core cases that have no outcome yet."""
    cache = Path(sys.argv[1])
    out = results_file(cache, version("onnx2tf"))
    core = [case for case in collected(cache) if is_core(case)]
    cases = sorted(core, key=lambda case: case.expanded)
    done = set()
    if out.exists():
        done = {json.loads(line)["name"] for line in out.read_text().splitlines()}
    left = [
        (case, form) for case in cases if case.name not in done for form in ("raw", "frozen")
    ]
    judge: dict[str, dict[str, str]] = {}
    with out.open("a") as file:
        for number, found in judged(_judge, left, timeout_s=300, recycle=50):
            case, form = left[number]
            verdict = f"CRASH: {found.how}" if isinstance(found, Died) else found
            judge.setdefault(case.name, {})[form] = verdict
            if len(judge[case.name]) == 2:
                row = {"name": case.name, **judge[case.name]}
                print(json.dumps(row, sort_keys=True), file=file, flush=True)


def _judge(item: tuple[Case, str]) -> str:
    """Return ``pass`` or in what way it fails."""
    case, wanted = item
    for form, model, feeds in forms(case):
        if form == wanted:
            return _attempt(case, model, feeds)
    return "no such form"


def _attempt(case: Case, model: onnx.ModelProto, feeds: dict[str, Array]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        try:
            data = _converted(model, Path(folder))
        except BaseException as error:  # noqa: BLE001  (whatever the tool raises, exits included)
            return f"refused: {type(error).__name__}: {str(error)[:200]}"
    from ai_edge_litert.interpreter import Interpreter

    try:
        made = Interpreter(model_content=data, num_threads=1)
        made.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        return f"UNLOADABLE: {str(error)[:200]}"
    details = made._get_ops_details()
    read = {int(index) for op in details for index in op["inputs"]}
    if not read.intersection(d["index"] for d in made.get_input_details()):
        return "WRONG NUMBER: nothing reads the input"
    operators = {op["op_name"]: 1 for op in details}
    rtol, atol = tolerances(case, operators)
    why = "no run"
    for fed in _feedings(made, feeds):
        try:
            for index, array in fed:
                made.set_tensor(index, array)
            made.invoke()
            got = [made.get_tensor(d["index"]) for d in made.get_output_details()]
        except (RuntimeError, ValueError) as error:
            why = f"UNLOADABLE: does not run: {str(error)[:200]}"
            continue
        if all(any(_like(g, np.asarray(w), rtol, atol) for g in got) for w in case.outputs):
            return "pass"
        why = "WRONG NUMBER"
    return why


def _converted(model: onnx.ModelProto, folder: Path) -> bytes:
    gc.collect = lambda *args: 0  # most of its time, otherwise
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    os.chdir(folder)
    import_module("onnx2tf").convert(
        input_onnx_file_path=str(path),
        output_folder_path=str(folder / "out"),
        copy_onnx_input_output_names_to_tflite=True,
        non_verbose=True,
    )
    os.chdir("/")
    return (folder / "out" / "model_float32.tflite").read_bytes()


def _feedings(made: Any, feeds: dict[str, Array]) -> Iterator[list[tuple[int, Array]]]:
    """Yield ways to feed the file: each input in its own order or with its axes permuted."""
    details = made.get_input_details()
    names = list(feeds)
    choices: list[list[tuple[int, Array]]] = []
    for position, detail in enumerate(details):
        name = detail["name"].removeprefix("serving_default_").split(":")[0]
        if name not in feeds:
            name = names[position] if position < len(names) else names[0]
        array = np.asarray(feeds[name]).astype(detail["dtype"])
        shape = tuple(detail["shape"])
        fits = [array] if array.shape == shape else []
        last = (0, *range(2, array.ndim), 1)
        if array.ndim > 2 and array.transpose(last).shape == shape:
            fits.append(np.ascontiguousarray(array.transpose(last)))
        if not fits and array.size == np.prod(shape):
            fits.append(array.reshape(shape))
        choices.append([(detail["index"], a) for a in fits])
    yield from map(list, itertools.islice(itertools.product(*choices), 16))


def _like(got: Array, want: Array, rtol: float, atol: float) -> bool:
    """Whether two arrays hold the same numbers, in whatever order of the axes and type."""
    if got.size != want.size:
        return False
    got = got.astype(want.dtype)
    if not close(got.reshape(want.shape), want, rtol, atol):
        return True
    if got.ndim > 6:
        return False
    return any(
        not close(np.ascontiguousarray(got.transpose(p)).reshape(want.shape), want, rtol, atol)
        for p in itertools.permutations(range(got.ndim))
    )


if __name__ == "__main__":
    main()
