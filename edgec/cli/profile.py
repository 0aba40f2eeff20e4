"""``edgec profile``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edgec.cli.options import json_option

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
_GIVEN = ParameterSource.COMMANDLINE


@click.command("profile")
@click.argument("file", type=_PATH)
@click.option(
    "--num-threads",
    "threads",
    type=int,
    default=1,
    show_default=True,
    help="Threads of the runtime.",
)
@click.option(
    "--num-runs", "runs", type=int, default=50, show_default=True, help="Timed runs, at least."
)
@click.option(
    "--warmup-runs", "warmup", type=int, default=5, show_default=True, help="Runs before those."
)
@click.option(
    "--min-secs",
    "min_seconds",
    type=float,
    default=1.0,
    show_default=True,
    help="Keep running at least that long.",
)
@click.option(
    "--max-secs",
    "max_seconds",
    type=float,
    default=20.0,
    show_default=True,
    help="Stop after that long, even with fewer runs.",
)
@click.option(
    "--inputs",
    type=_PATH,
    metavar="NPZ",
    help="What to run on, such as the .golden.npz that edgec compile writes; random numbers of "
    "a fixed seed if not given.",
)
@click.option(
    "--report",
    type=_PATH,
    metavar="JSON",
    help="A report.json that the numbers are added to, for `edgec gate`.",
)
@click.option(
    "--device",
    metavar="CORE",
    help="Measure on an emulated microcontroller, such as cortex-m4, instead of this machine: "
    "exact instructions, flash and RAM. Takes .tflite files.",
)
@click.option(
    "--board",
    metavar="NAME",
    help="Estimate the time on that board, such as nucleo-l4r5zi; implies its core.",
)
@click.option(
    "--fit",
    metavar="BOARD",
    help="Tell whether it fits that board, and what would make it fit; implies --board. Exit "
    "code 5 if it does not.",
)
@click.option(
    "--tier",
    type=click.Choice(["portable", "dsp", "mve"]),
    help="The best kernels that may be used; those of the core if not given.",
)
@click.option(
    "--compiler",
    type=click.Choice(["zig", "gcc"]),
    default="zig",
    show_default=True,
    help="What compiles for a microcontroller.",
)
@click.option(
    "--opt-level",
    "level",
    type=click.Choice(["O2", "O3", "Os"]),
    default="O2",
    show_default=True,
    help="Of the compiler for a microcontroller: Os gives smaller code.",
)
@click.option(
    "--as-is",
    is_flag=True,
    help="For a microcontroller, compute what the file says to the letter: do not leave out "
    "channels that are the same for every input.",
)
@click.option(
    "--max-ram",
    "max_ram",
    metavar="SIZE",
    help="The most RAM of a microcontroller, such as 48k: layers are computed band by band "
    "where that helps. Fails if it takes more.",
)
@click.option(
    "--memory-svg",
    "svg",
    type=_PATH,
    metavar="FILE",
    help="Draw the RAM of a microcontroller over the layers of the model.",
)
@json_option("the numbers")
def command(
    file: Path,
    report: Path | None,
    as_json: bool,
    device: str | None,
    board: str | None,
    fit: str | None,
    tier: Any,
    compiler: Any,
    level: str,
    svg: Path | None,
    as_is: bool,
    max_ram: str | None,
    **settings: Any,
) -> None:
    """Measure FILE, a .onnx or .tflite file, on this machine.

    With --device, --board or --fit, on an emulated microcontroller.
    """
    from edgec.files import json_bytes
    from edgec.profiling import profile_file

    emulated = (device, board, fit)
    _refuse_others(click.get_current_context(), emulated=any(emulated))
    if any(emulated):
        from edgec.cli.emulation import emulate
        from edgec.goals import bytes_of
        from edgec.targets.microcontroller.emulation.measure import Settings
        from edgec.targets.microcontroller.generate import Options

        options = Options(max_ram=bytes_of("--max-ram", max_ram))
        made = Settings(tier=tier, options=options, compiler=compiler, level=f"-{level}")
        emulate(file, settings["inputs"], emulated, made, svg, as_is=as_is, as_json=as_json)
        return
    # The report is read first, so that nobody waits for numbers that have nowhere to go.
    target = None if report is None else _target(report, file)
    profile = profile_file(file, **settings)
    if report is not None and target is not None:
        _merge(report, target, profile.to_dict())
    if as_json:
        click.echo(json_bytes(profile.to_dict()), nl=False)
        return
    from edgec.cli.render_profile import print_profile

    print_profile(file, profile)
    if report is not None:
        click.echo(f"added to {report} as run.profile.{target}")


_HERE = ("threads", "runs", "warmup", "min_seconds", "max_seconds", "report")
_EMULATED = ("tier", "compiler", "level", "as_is", "max_ram", "svg")


def _refuse_others(context: click.Context, *, emulated: bool) -> None:
    """Raise for options of one way to measure that are given with the other."""
    from edgec.errors import OptionError

    others = _HERE if emulated else _EMULATED
    for option in context.command.params:
        name = option.name or ""
        if name not in others or context.get_parameter_source(name) is not _GIVEN:
            continue
        if emulated:
            raise OptionError(
                f"{option.opts[0]} is about times of this machine: leave out --device, --board "
                "and --fit"
            )
        raise OptionError(f"{option.opts[0]} is about microcontrollers: give a --device, too")


def _target(report: Path, file: Path) -> str:
    """Return the target of the artifact that `file` is, by its digest."""
    from edgec.errors import Diagnostic, ModelError, OptionError
    from edgec.files import read_report

    listed = read_report(report).get("artifacts")
    artifacts = [a for a in listed if isinstance(a, dict)] if isinstance(listed, list) else []
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror}") from error
    for artifact in artifacts:
        if artifact.get("sha256") == digest:
            return str(artifact.get("target"))
    known = ", ".join(str(a.get("file")) for a in artifacts) or "nothing"
    raise OptionError(
        f"{file} is no artifact of {report}",
        [
            Diagnostic(
                f"the report is about {known}, and the digest of {file.name} fits none of it",
                hint="profile the file that was written together with the report, unchanged",
            )
        ],
    )


def _merge(report: Path, target: str, profile: dict[str, Any]) -> None:
    """Add the numbers to the report; nothing else in it changes."""
    from edgec.errors import OptionError
    from edgec.files import json_bytes, read_report, write_files

    data = read_report(report)  # again: it may have changed in the meantime
    run = data.setdefault("run", {})
    profiles = run.setdefault("profile", {}) if isinstance(run, dict) else None
    if not isinstance(profiles, dict):
        raise OptionError(f"{report} is not a report of edgec: its 'run' is no object")
    profiles[target] = profile
    write_files(report.parent, {report.name: json_bytes(data)})
