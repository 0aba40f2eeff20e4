"""Throw random graphs and damaged files at edgec, and see what becomes of them.

From the root of the checkout: ``python -m benchmarks.fuzz graphs --minutes 60``,
``python -m benchmarks.fuzz loader --mutants 20000``, ``python -m benchmarks.fuzz replay FILE``.
The exit code is 1 where something went wrong.
"""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def main() -> int:
    """Run the command named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz")
    commands = parser.add_subparsers(dest="command", required=True)
    graphs = commands.add_parser("graphs", help="random graphs through both targets")
    graphs.add_argument("--minutes", type=float, default=60)
    graphs.add_argument("--seed", type=int, default=0)
    graphs.add_argument("--workers", type=int, default=1)
    graphs.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    again = commands.add_parser("replay", help="judge a graph that was saved")
    again.add_argument("file", type=Path)
    loader = commands.add_parser("loader", help="damaged files through the readers")
    loader.add_argument("--mutants", type=int, default=20_000)
    loader.add_argument("--tflite", type=int, default=4_000)
    loader.add_argument("--seed", type=int, default=0)
    loader.add_argument("--memory", type=float, default=3.0, help="GiB of address space")
    loader.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    arguments = parser.parse_args()
    packages = ("onnx", "onnxruntime", "ai-edge-litert", "numpy", "hypothesis")
    print(
        f"Python {platform.python_version()}",
        *(f"{p} {version(p)}" for p in packages),
        sep=", ",
        flush=True,
    )
    if arguments.command == "loader":
        from benchmarks.fuzz.loader import report

        limit = int(arguments.memory * 2**30)
        found = report(
            arguments.mutants, arguments.tflite, arguments.seed, arguments.failures, limit
        )
        return int(found > 0)
    from benchmarks.fuzz import run

    if arguments.command == "replay":
        return run.replay(arguments.file)
    found = run.report(arguments.minutes, arguments.seed, arguments.failures, arguments.workers)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
