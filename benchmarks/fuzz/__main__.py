"""Throw random graphs and damaged files at edgec, and see what becomes of them.

From the root of the checkout: ``python -m benchmarks.fuzz graphs --minutes 60``,
``python -m benchmarks.fuzz replay FILE``. The exit code is 1 where something went wrong.
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
    arguments = parser.parse_args()
    packages = ("onnx", "onnxruntime", "ai-edge-litert", "numpy", "hypothesis")
    print(
        f"Python {platform.python_version()}",
        *(f"{p} {version(p)}" for p in packages),
        sep=", ",
        flush=True,
    )
    from benchmarks.fuzz import run

    if arguments.command == "replay":
        return run.replay(arguments.file)
    found = run.report(arguments.minutes, arguments.seed, arguments.failures, arguments.workers)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
