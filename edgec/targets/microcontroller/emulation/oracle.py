"""What TFLite Micro computes, layer by layer: the reference of everything that is generated.

The package ``tflite-micro`` runs TFLite Micro's reference kernels on the host. It trusts its
files: a damaged one, or one that only other runtimes know, may end the process. So it runs in
a process of its own, and what becomes of that one is an error here.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgec.errors import Diagnostic, NumericsError, OptionError
from edgec.ir import Array
from edgec.targets.microcontroller.emulation.oracle_worker import REFUSED

__all__ = ["OracleRun", "RefusedError", "oracle", "oracle_runs", "require_oracle", "run_worker"]

_SECONDS = 300.0
_WORKER = "oracle_worker.py"


class RefusedError(NumericsError):
    """TFLite Micro says that it does not run a model; there is nothing to compare with."""


@dataclass(frozen=True, slots=True)
class OracleRun:
    """What one run computed.

    Parameters
    ----------
    tensors
        Contents of all that operators wrote, by the number of the tensor in the file; empty if
        they were not asked for.
    """

    outputs: tuple[Array, ...]
    tensors: Mapping[int, Array] = field(default_factory=lambda: MappingProxyType({}))


def require_oracle() -> None:
    """Raise ``OptionError``, with what to install, if there is no TFLite Micro."""
    if find_spec("tflite_micro") is None:
        raise OptionError(
            "comparisons need TFLite Micro, which is not installed: pip install 'edgec[mcu]'"
        )


def oracle(data: bytes, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Return the outputs of a ``.tflite`` file for one set of inputs, in its order.

    Raises
    ------
    NumericsError
        If TFLite Micro refuses the file, or crashes on it.
    OptionError
        If TFLite Micro is not installed.
    """
    (run,) = oracle_runs(data, [inputs])
    return run.outputs


def oracle_runs(
    data: bytes,
    samples: Sequence[Sequence[Array]],
    *,
    layers: bool = False,
    keep_state: bool = False,
    seconds: float = _SECONDS,
) -> list[OracleRun]:
    """Return what a ``.tflite`` file computes for several sets of inputs.

    Parameters
    ----------
    layers
        Whether to return what every operator wrote, too.
    keep_state
        Whether variables go on from one set of inputs to the next, as in a stream.
    seconds
        After how long all of it has failed.
    """
    require_oracle()
    with tempfile.TemporaryDirectory(prefix="edgec-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(data)
        arrays = {f"{i}-{k}": a for i, s in enumerate(samples) for k, a in enumerate(s)}
        np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
        flags = [str(len(samples)), str(int(layers)), str(int(keep_state))]
        _run(folder, flags, seconds)
        with np.load(folder / "results.npz") as results:
            return [_collected(results, i) for i in range(len(samples))]


def run_worker(
    script: str, arguments: Sequence[str], seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run a file of this folder in a process of its own, and return what became of it.

    As a script it loads nothing of edgec, which would take longer than most models.

    Raises
    ------
    NumericsError
        If it takes longer than so many seconds.
    """
    try:
        return subprocess.run(
            # -P: a numpy.py in the current folder is not ours.
            [sys.executable, "-P", str(Path(__file__).with_name(script)), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise NumericsError(f"TFLite Micro ran for more than {seconds:g} s") from error


def _run(folder: Path, flags: Sequence[str], seconds: float) -> None:
    done = run_worker(_WORKER, [str(folder), *flags], seconds)
    if done.returncode == 0 and (folder / "results.npz").exists():
        return
    how = f"ended with exit code {done.returncode}"
    if done.returncode < 0:
        how = f"crashed ({_signal(-done.returncode)})"
    said = [line for line in done.stderr.splitlines() if line.strip()]
    kind = RefusedError if done.returncode == REFUSED else NumericsError
    raise kind(
        f"TFLite Micro {how} where it was to run the model",
        [Diagnostic(line.strip()) for line in said[-4:]],
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _collected(results: Mapping[str, Array], sample: int) -> OracleRun:
    outputs: dict[int, Array] = {}
    tensors: dict[int, Array] = {}
    for key in results:
        which, kind, k = key.split("-")
        if int(which) == sample:
            (outputs if kind == "y" else tensors)[int(k)] = results[key]
    return OracleRun(
        tuple(outputs[k] for k in sorted(outputs)),
        MappingProxyType(dict(sorted(tensors.items()))),
    )
