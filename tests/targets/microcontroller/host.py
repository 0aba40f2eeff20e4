"""Generated code on this machine: compiled into one library, run, compared with the oracle."""

from __future__ import annotations

import ctypes
import importlib
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.ir import Array
from edgec.targets.microcontroller import Core
from edgec.targets.microcontroller.generate import Generated

__all__ = ["ANY_CORE", "FLAGS", "Library", "compiled", "expected"]

ANY_CORE = Core("cortex-m0", ("portable",))

FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror")


def zig(*arguments: str) -> None:
    """Run the pinned compiler, or skip the test."""
    pytest.importorskip("ziglang", reason="zig compiles the generated code; install edgec[mcu]")
    command = [sys.executable, "-m", "ziglang", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Library:
    """Models of one library, by prefix."""

    def __init__(self, path: Path) -> None:
        self.dll = ctypes.CDLL(str(path))

    def _places(self, generated: Generated, word: str) -> list[int]:
        function = getattr(self.dll, f"{generated.prefix}_{word}")
        function.restype = ctypes.c_void_p
        count = len(generated.inputs if word == "input" else generated.outputs)
        if count == 1:
            return [function()]
        return [function(ctypes.c_size_t(k)) for k in range(count)]

    def run(self, generated: Generated, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs of one run."""
        for at, given in zip(self._places(generated, "input"), inputs, strict=True):
            ctypes.memmove(at, np.ascontiguousarray(given).tobytes(), given.nbytes)
        getattr(self.dll, f"{generated.prefix}_run")()
        results = []
        for at, place in zip(self._places(generated, "output"), generated.outputs, strict=True):
            raw = ctypes.string_at(at, place.tensor.size_bytes)
            array = np.frombuffer(raw, place.tensor.dtype.numpy)
            results.append(array.reshape(place.tensor.shape))
        return results


def compiled(generated: Iterable[Generated], folder: Path, *flags: str) -> Library:
    """Compile models into one library, without warnings."""
    sources = []
    for model in generated:
        for name, text in model.files.items():
            (folder / name).write_text(text)
            if name.endswith(".c"):
                sources.append(str(folder / name))
    library = folder / "models.so"
    zig("cc", *FLAGS, "-O1", *flags, "-shared", "-fPIC", "-o", str(library), *sources)
    return Library(library)


def expected(
    data: bytes, runs: Sequence[Sequence[Array]], outputs: int = 1
) -> list[list[Array]]:
    """Return what TFLite Micro computes, run after run."""
    pytest.importorskip("tflite_micro", reason="it is the oracle; install edgec[mcu]")
    runtime: Any = importlib.import_module("tflite_micro.python.tflite_micro.runtime")
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=2_000_000)
    results = []
    for inputs in runs:
        for k, given in enumerate(inputs):
            interpreter.set_input(given, k)
        interpreter.invoke()
        results.append([np.array(interpreter.get_output(k)) for k in range(outputs)])
    return results
