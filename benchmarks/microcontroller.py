"""What models take on emulated microcontrollers: a command for each table of figures.

From the root of the checkout: ``python -m benchmarks.microcontroller COMMAND``. A line ends
with FAIL, and the exit code is 1, where a bound does not hold.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version

from benchmarks.microcontrollers.cases import CASES
from benchmarks.microcontrollers.counts import counts, layers
from benchmarks.microcontrollers.damaged import arenas, damaged
from benchmarks.microcontrollers.exactness import boards, every_layer, exact, keywords
from benchmarks.microcontrollers.fits import fits
from benchmarks.microcontrollers.helium import helium
from benchmarks.microcontrollers.memory import memory
from benchmarks.microcontrollers.repeats import repeat, seconds
from edgec.targets.microcontroller.emulation.toolchain import (
    COMPILERS,
    CompilerName,
    compiler,
)

__all__ = ["main"]

_COMMANDS: dict[str, Callable[[Sequence[str], CompilerName], int]] = {
    "counts": counts,
    "layers": layers,
    "helium": helium,
    "ram": memory,
    "fits": fits,
    "repeat": repeat,
    "seconds": seconds,
    "exact": exact,
    "every-layer": every_layer,
    "boards": boards,
    "keywords": keywords,
    "damaged": damaged,
    "arenas": arenas,
}


def main() -> int:
    """Run the commands named on the command line, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("commands", nargs="+", choices=[*_COMMANDS, "all"])
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--compiler", choices=COMPILERS, default="zig")
    arguments = parser.parse_args()
    names = list(_COMMANDS) if "all" in arguments.commands else arguments.commands
    packages = ("unicorn", "tflite-micro", "numpy")
    print(
        f"Python {platform.python_version()}",
        compiler(arguments.compiler).version,
        *(f"{p} {version(p)}" for p in packages),
        sep=", ",
    )
    failures = sum(_COMMANDS[name](arguments.models, arguments.compiler) for name in names)
    print(f"{failures} bounds failed" if failures else "all bounds hold")
    return int(failures > 0)


if __name__ == "__main__":
    raise SystemExit(main())
