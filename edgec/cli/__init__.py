"""The command line.

Modules of commands import nothing heavy at their top, so that ``edgec --help`` stays fast:
what a command needs is imported when it runs.
"""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
from typing_extensions import override

from edgec import __version__
from edgec.cli.boundary import guarded

__all__ = ["main"]

_COMMANDS = (
    "compile",
    "calibrate",
    "sensitivity",
    "debug",
    "inspect",
    "check",
    "diff",
    "profile",
    "gate",
    "demo",
    "targets",
    "passes",
    "operators",
)

_EPILOG = """\b
First steps:
  edgec demo
  edgec inspect model.onnx
  edgec compile model.onnx -t tflite -o out

\b
Exit codes:
  0   good
  1   the tool or the model failed
  2   wrong usage, or calibration data that do not fit
  3   the gate failed
  4   inconclusive: the gate misses a number
  5   the target does not support the model, or a goal is out of reach
  6   an artifact does not compute what the model computes
  70  a fault of edgec, with a dump that reproduces it
"""


class _Group(click.Group):
    """Commands by name, each imported when it is asked for."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"edgec.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None

    @override
    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        run = partial(super().main, prog_name=prog_name, complete_var=complete_var, **extra)
        if not standalone_mode:
            return run(args, standalone_mode=False)
        _start_lean()
        return guarded(run, args)


def _start_lean() -> None:
    """Spare a short process what only long ones profit from.

    numpy's threads multiply matrices, which edgec leaves to the runtimes. Modules and graphs
    are thousands of small objects that live to the end, and the collector of cycles looks
    through them again and again.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(100_000, 20, 20)


@click.group(
    cls=_Group, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="edgec", message="%(prog)s %(version)s")
def main() -> None:
    """Compile ONNX models for small devices."""
