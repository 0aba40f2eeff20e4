"""What a compilation may lose and what may be left of a model: whether that makes sense."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgec.errors import OptionError
from edgec.goals import bytes_of
from edgec.targets import Microcontroller, Tflite
from edgec.targets.microcontroller.target import Budget, refuse_interface

if TYPE_CHECKING:
    from edgec.options import CompileOptions

__all__ = ["TECHNIQUES", "budget_of", "check_budgets", "check_structure"]

TECHNIQUES = ("prune-channels", "factorize-separable", "factorize-low-rank")
"""What makes a model smaller towards a goal."""


def check_budgets(options: CompileOptions) -> None:
    """Raise ``OptionError`` if a limit of what is lost, left or taken makes no sense."""
    if options.max_drop is not None:
        _check_max_drop(options, options.max_drop)
    _check_goal(options)
    _check_device(options)


def budget_of(options: CompileOptions) -> Budget:
    """Return what the artifact of target "microcontroller" may take."""
    return Budget(
        bytes_of("--max-ram", options.max_ram), bytes_of("--max-flash", options.max_flash)
    )


def check_structure(options: CompileOptions) -> None:
    """Raise ``OptionError`` if something is said about structure, and all of it stays."""
    given = {
        "--technique": bool(options.techniques),
        "--channel-multiple": options.channel_multiple is not None,
    }
    for name, is_given in given.items():
        if is_given and options.goal is None:
            raise OptionError(f"{name} goes with one of the --target-… options only")


def _check_max_drop(options: CompileOptions, most: float) -> None:
    if not (math.isfinite(most) and most >= 0):
        raise OptionError(f"--max-drop is {most}, but must be 0 or more")
    if options.recipe is None and options.goal is None:
        raise OptionError("--max-drop goes with a recipe or one of the --target-… options only")
    if not options.prove:
        raise OptionError("--max-drop runs the artifacts, which --no-proof leaves out")
    if options.metric is not None and options.evaluation is None:
        raise OptionError("--metric judges samples: give --eval with --max-drop")


def _check_goal(options: CompileOptions) -> None:
    goal = options.goal
    for name in options.techniques:
        if name not in TECHNIQUES:
            known = ", ".join(TECHNIQUES)
            raise OptionError(f"there is no technique {name!r}; known: {known}")
    if goal is None:
        return
    if options.calibration is None:
        raise OptionError(f"--target-{goal.measure} needs samples: give --calibration")
    if goal.measure == "latency" and not options.prove:
        raise OptionError("--target-latency times the artifacts, which --no-proof leaves out")


def _check_device(options: CompileOptions) -> None:
    for name, given in (
        ("--max-ram", options.max_ram),
        ("--max-flash", options.max_flash),
        ("--project", options.project),
    ):
        if given is not None and Microcontroller.name not in options.targets:
            raise OptionError(f"{name} goes with target {Microcontroller.name} only")
        if given is not None and not options.prove:
            raise OptionError(f"{name} runs the artifact, which --no-proof leaves out")
    if Microcontroller.name in options.targets and Tflite.name not in options.targets:
        refuse_interface(options.io_dtype, options.io_layout)
