"""The process that arenas are tried in, for the module ``arena`` beside this one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

__all__: list[str] = []

_STEP = 16


def _runs(data: bytes, size: int) -> bool:
    from tflite_micro.python.tflite_micro import runtime

    graph = runtime.schema_fb.Model.GetRootAs(data).Subgraphs(0)
    try:
        interpreter = runtime.Interpreter.from_bytes(data, arena_size=size)
        for k in range(graph.InputsLength()):
            details = interpreter.get_input_details(k)
            interpreter.set_input(np.zeros(details["shape"], details["dtype"]), k)
        interpreter.invoke()
    except RuntimeError:
        return False
    return True


def _search(folder: Path, data: bytes, low: int, high: int) -> None:
    """Halve the range until it is one step; what is tried is written down before and after."""
    with (folder / "log").open("w") as log:
        while high - low > 1:
            # Sizes are near the lower end, by far.
            middle = (low + high) // 2 if high < 4 * low + 64 else max(2 * low, 64)
            middle = min(max(middle, low + 1), high - 1)
            print(middle, "tried", file=log, flush=True)
            good = _runs(data, middle * _STEP)
            print(middle, "runs" if good else "fails", file=log, flush=True)
            low, high = (low, middle) if good else (middle, high)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    contents = (place / "model.tflite").read_bytes()
    if sys.argv[2] == "try":
        sys.exit(0 if _runs(contents, int(sys.argv[3])) else 1)
    _search(place, contents, int(sys.argv[3]), int(sys.argv[4]))
