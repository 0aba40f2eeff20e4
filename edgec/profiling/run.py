"""Profiling a file, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import edgec.errors
from edgec.errors import Diagnostic, EdgecError, InternalError, ModelError, OptionError
from edgec.profiling.profile import Profile

__all__ = ["Settings", "profile_file"]

_ENDINGS = (".onnx", ".tflite")


@dataclass(frozen=True, slots=True)
class Settings:
    """How long to measure; the names follow LiteRT's ``benchmark_model``.

    Parameters
    ----------
    runs, min_seconds
        Both are reached, unless `max_seconds` ends the measurement first.
    warmup
        Runs before the timed ones, besides the very first, which is the cold one.
    """

    runs: int = 50
    warmup: int = 5
    threads: int = 1
    min_seconds: float = 1.0
    max_seconds: float = 20.0

    def __post_init__(self) -> None:
        rules = {
            "runs": self.runs >= 1,
            "warmup": self.warmup >= 0,
            "threads": self.threads >= 1,
            "min_seconds": 0 <= self.min_seconds <= self.max_seconds,
            "max_seconds": 0 < self.max_seconds < float("inf"),
        }
        bad = [Diagnostic(f"is {getattr(self, n)}", n) for n, good in rules.items() if not good]
        if bad:
            raise OptionError("these settings make no measurement", bad)


def profile_file(
    path: Path,
    *,
    runs: int = 50,
    warmup: int = 5,
    threads: int = 1,
    min_seconds: float = 1.0,
    max_seconds: float = 20.0,
    inputs: Path | None = None,
) -> Profile:
    """Measure a model on this machine.

    Parameters
    ----------
    path
        ``.onnx`` runs in ONNX Runtime on the CPU, ``.tflite`` in LiteRT with XNNPACK.
    inputs
        A ``.npz`` file with one array for each input; random numbers of a fixed seed if it
        is not given.

    Raises
    ------
    OptionError
        If the settings make no sense, or there is no runtime for such a file.
    ModelError
        If the runtime does not take the model, or crashes on it.
    """
    settings = Settings(runs, warmup, threads, min_seconds, max_seconds)
    if path.suffix not in _ENDINGS:
        raise OptionError(
            f"cannot profile {path}: its name ends in {path.suffix or 'nothing'!r}",
            [Diagnostic(f"files that end in {' or '.join(_ENDINGS)} can be profiled")],
        )
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise ModelError(f"cannot read {path}: {what}")
    source = None if inputs is None else str(inputs)
    request = {"path": str(path), "inputs": source, **asdict(settings)}
    return Profile.from_dict(_ask(request, path))


def _ask(request: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the worker's answer, or raise what went wrong in it."""
    done = subprocess.run(
        # -P: a numpy.py in the current folder is not ours.
        [sys.executable, "-P", "-m", "edgec.profiling.worker"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        errors="replace",
        env=_environment(),
        check=False,
    )
    if done.returncode < 0:
        last = done.stderr.strip().splitlines()[-1:]
        raise ModelError(
            f"the runtime crashed on {path} ({_signal(-done.returncode)})",
            [Diagnostic(line) for line in last],
        )
    if done.returncode:
        raise InternalError(
            f"the measurement of {path} ended with exit code {done.returncode}",
            dump={
                "request.json": json.dumps(request).encode(),
                "stderr.txt": done.stderr.encode(),
            },
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise _error(answer["error"])
    profile: dict[str, Any] = answer["profile"]
    return profile


def _environment() -> dict[str, str]:
    """Return this process's environment, with this edgec first on the path."""
    root = str(Path(edgec.errors.__file__).parent.parent)
    paths = [root, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _error(answer: Mapping[str, Any]) -> EdgecError:
    kind: type[EdgecError] = getattr(edgec.errors, answer["type"], EdgecError)
    return kind(answer["summary"], [Diagnostic(*d) for d in answer["diagnostics"]])
