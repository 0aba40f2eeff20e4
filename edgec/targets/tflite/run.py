"""Run TFLite files in LiteRT."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from typing_extensions import override

from edgec.errors import Diagnostic, NumericsError
from edgec.ir import Array
from edgec.targets.base import Artifact, Port, Runner

__all__ = ["LiteRtRunner", "interpreter"]


def interpreter(data: bytes, *, threads: int = 1) -> Any:
    """Return a LiteRT interpreter with its default delegate, XNNPACK, ready to run.

    Raises
    ------
    NumericsError
        If LiteRT refuses the file, with what it printed.
    """
    from ai_edge_litert.interpreter import Interpreter

    with _captured_stderr() as log:
        try:
            made = Interpreter(model_content=data, num_threads=threads)
            made.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            log.seek(0)
            said = " ".join(str(error).split())
            printed = [
                Diagnostic(line) for line in log.read().splitlines() if "INFO" not in line
            ]
            raise NumericsError(f"LiteRT refuses the file: {said}", printed) from error
    return made


@contextmanager
def _captured_stderr() -> Iterator[IO[str]]:
    """Keep what native code prints from the terminal: LiteRT greets on every start."""
    sys.stderr.flush()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        saved = os.dup(2)
        try:
            os.dup2(log.fileno(), 2)
            yield log
        finally:
            os.dup2(saved, 2)
            os.close(saved)


class LiteRtRunner(Runner):
    """A TFLite artifact in LiteRT."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._interpreter = interpreter(artifact.data)
        self._inputs = [d["index"] for d in self._interpreter.get_input_details()]
        self._outputs = [d["index"] for d in self._interpreter.get_output_details()]

    @override
    def raw(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        for port, index in zip(self.artifact.inputs, self._inputs, strict=True):
            self._interpreter.set_tensor(index, feeds[port.name])
        self._interpreter.invoke()
        pairs = zip(self.artifact.outputs, self._outputs, strict=True)
        shapes = [d["shape"] for d in self._interpreter.get_output_details()]
        return {
            port.name: self._output(port, index, tuple(map(int, shape)))
            for (port, index), shape in zip(pairs, shapes, strict=True)
        }

    def _output(self, port: Port, index: int, shape: tuple[int, ...]) -> Array:
        if 0 in shape:  # it has no memory to read
            return np.zeros(shape, port.dtype.numpy)
        found: Array = self._interpreter.get_tensor(index)
        return found
