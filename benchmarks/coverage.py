"""How much of ONNX goes in, and what comes out: one command for each line of figures.

From the root of the checkout: ``python -m benchmarks.coverage COMMAND ... [--cache FOLDER]``.
A line ends with FAIL, and the exit code is 1, where a bound does not hold.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

__all__ = ["main"]


def main() -> int:
    """Run the commands named on the command line, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("commands", nargs="+", choices=[*_COMMANDS, "all"])
    parser.add_argument("--cache", type=Path, help="folder for what takes long to make")
    parser.add_argument("--peer-python", help="interpreter with onnx2tf")
    parser.add_argument("--only", default="", help="pattern of the names to look at")
    arguments = parser.parse_args()
    names = list(_COMMANDS) if "all" in arguments.commands else arguments.commands
    packages = ("onnx", "onnxruntime", "ai-edge-litert", "numpy")
    print(
        f"Python {platform.python_version()}",
        *(f"{p} {version(p)}" for p in packages),
        sep=", ",
    )
    failures = sum(_COMMANDS[name](arguments) for name in names)
    print(f"{failures} bounds failed" if failures else "all bounds hold")
    return int(failures > 0)


def _ort_nodes(arguments: argparse.Namespace) -> int:
    from benchmarks import node_ort

    return node_ort.report(arguments.cache)


def _tflite_nodes(arguments: argparse.Namespace) -> int:
    from benchmarks import node_tflite

    return node_tflite.report(arguments.cache, arguments.only)


def _tflite_peer(arguments: argparse.Namespace) -> int:
    from benchmarks import node_tflite

    if arguments.cache is None:
        print("tflite-peer needs --cache, since the other tool is slow")
        return 0
    return node_tflite.compare(arguments.cache, arguments.peer_python)


def _convert(arguments: argparse.Namespace) -> int:
    from benchmarks import convert

    return convert.report(arguments.peer_python, arguments.only)


def _models(arguments: argparse.Namespace) -> int:
    from benchmarks import zoo

    return zoo.models(arguments.only)


def _architectures(arguments: argparse.Namespace) -> int:
    from benchmarks import zoo

    return zoo.architectures(arguments.cache, arguments.only)


def _memory(arguments: argparse.Namespace) -> int:
    from benchmarks import zoo

    return zoo.memory(arguments.cache)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "ort-nodes": _ort_nodes,
    "tflite-nodes": _tflite_nodes,
    "tflite-peer": _tflite_peer,
    "models": _models,
    "convert": _convert,
    "architectures": _architectures,
    "memory": _memory,
}


if __name__ == "__main__":
    raise SystemExit(main())
