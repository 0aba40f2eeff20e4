"""The process that TFLite Micro runs in, started by ``oracle``."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["REFUSED"]

REFUSED = 3
"""The exit code where TFLite Micro says that it does not run a model."""

_ARENA_BYTES = 1 << 28
"""Nobody touches what a model does not need of it."""


def _main(folder: Path, count: int, layers: bool, keep_state: bool) -> None:
    from tflite_micro.python.tflite_micro import runtime

    data = (folder / "model.tflite").read_bytes()
    graph = runtime.schema_fb.Model.GetRootAs(data).Subgraphs(0)
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    written = sorted({int(k) for op in operators for k in op.OutputsAsNumpy().tolist()})
    config = runtime.InterpreterConfig
    interpreter = runtime.Interpreter.from_bytes(
        data,
        arena_size=_ARENA_BYTES,
        intrepreter_config=config.kPreserveAllTensors
        if layers
        else config.kAllocationRecording,
    )
    results: dict[str, Any] = {}
    with np.load(folder / "inputs.npz") as inputs:
        for i in range(count):
            if i and not keep_state:
                interpreter.reset()
            for k in range(graph.InputsLength()):
                interpreter.set_input(inputs[f"{i}-{k}"], k)
            interpreter.invoke()
            for k in range(graph.OutputsLength()):
                results[f"{i}-y-{k}"] = np.array(interpreter.get_output(k))
            for k in written if layers else ():
                results[f"{i}-t-{k}"] = np.array(interpreter.GetTensor(k, 0)["tensor_data"])
    np.savez(folder / "results.npz", **results)


if __name__ == "__main__":
    try:
        _main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1", sys.argv[4] == "1")
    except RuntimeError as error:  # of the interpreter: it does not take the model, or run it
        sys.stderr.write(f"RuntimeError: {error}\n")
        sys.exit(REFUSED)
    except (ValueError, TypeError, LookupError, struct.error) as error:
        sys.exit(f"{type(error).__name__}: {error}")  # TFLite Micro has written why before
