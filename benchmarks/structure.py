"""What structural compression costs and gains: a command for each table of figures.

From the root of the checkout: ``python -m benchmarks.structure COMMAND [--cache FOLDER]``.
Nothing is trained unless a line says so, and no labels calibrate. A line ends with FAIL, and
the exit code is 1, where a bound does not hold.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.compression.bench import Bench
from benchmarks.compression.built import chain, cost, resume, speed
from benchmarks.compression.cases import CASES
from benchmarks.compression.channels import CRITERIA, channels
from benchmarks.compression.chooser import chooser
from benchmarks.compression.factors import low_rank, separable
from benchmarks.compression.latency import latency
from benchmarks.compression.sharing import sharing
from benchmarks.compression.weights import weights

__all__ = ["main"]


def main() -> int:
    """Run the commands named on the command line, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("commands", nargs="+", choices=[*_COMMANDS, "all"])
    parser.add_argument("--cache", type=Path, help="folder for what takes long to make")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--samples", type=int, help="test samples, at most")
    parser.add_argument(
        "--recover", action="store_true", help="train pruned models, too: takes hours"
    )
    parser.add_argument(
        "--criteria", nargs="+", choices=CRITERIA, default=list(CRITERIA),
        help="which rows of channels to print",
    )  # fmt: skip
    arguments = parser.parse_args()
    names = list(_COMMANDS) if "all" in arguments.commands else arguments.commands
    packages = ("onnx", "onnxruntime", "ai-edge-litert", "numpy", "torch")
    print(
        f"Python {platform.python_version()}",
        *(f"{p} {version(p)}" for p in packages),
        sep=", ",
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = arguments.cache or Path(folder)
        cache.mkdir(parents=True, exist_ok=True)
        bench = Bench(cache, arguments.samples, arguments.recover, tuple(arguments.criteria))
        failures = sum(_COMMANDS[name](bench, arguments.models) for name in names)
    print(f"{failures} bounds failed" if failures else "all bounds hold")
    return int(failures > 0)


_COMMANDS: dict[str, Callable[[Bench, Sequence[str]], int]] = {
    "channels": channels,
    "separable": separable,
    "low-rank": low_rank,
    "chooser": chooser,
    "speed": speed,
    "cost": cost,
    "resume": resume,
    "chain": chain,
    "latency": latency,
    "sharing": sharing,
    "weights": weights,
}
"""Each prints its lines for those of the models that it is about, and returns how many bounds
do not hold."""


if __name__ == "__main__":
    raise SystemExit(main())
