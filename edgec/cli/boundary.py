"""Where errors become messages and exit codes."""

from __future__ import annotations

import errno
import io
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from edgec import __version__
from edgec.errors import Diagnostic, EdgecError, InternalError

__all__ = ["guarded", "print_json"]

# Of the machine and not of edgec, wherever they come up: no rights, no space, a broken disk.
_ENVIRONMENT = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.EIO),
)

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def guarded(main: Callable[..., Any], args: Sequence[str] | None = None) -> NoReturn:
    """Run click's `main` and leave the process with the right exit code.

    Whatever is raised ends here: errors raised on purpose as a message, all others as a
    fault of edgec with a dump.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    as_json = "--json" in arguments
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files and layers may hold what the terminal cannot show.
        sys.stdout.reconfigure(errors="replace")
    try:
        code = main(arguments, standalone_mode=False)
        sys.stdout.flush()  # so that a reader who left is noticed here, not at exit
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.Abort as error:
        code = _aborted(error, arguments, as_json)
    except click.ClickException as error:
        code = error.exit_code
        error.show()
        _to_stdout(as_json, error.format_message(), (), code)
    except InternalError as error:
        code = _fault(error, arguments, error.dump, as_json)
    except EdgecError as error:
        code = _message(error, as_json)
    except MemoryError:
        hint = Diagnostic("close other programs, or use a machine with more memory")
        code = _message(
            EdgecError("there is not enough memory for this model", [hint]), as_json
        )
    except OSError as error:
        code = _os_error(error, arguments, as_json)
    # The one place that catches everything: a user must never see a bare traceback, and what
    # went wrong must be in the dump whatever it was.
    except Exception as error:  # noqa: BLE001
        code = _fault(error, arguments, {}, as_json)
    sys.exit(code if isinstance(code, int) else 0)


def print_json(document: Mapping[str, Any], refused: EdgecError | None = None) -> None:
    """Print a result as JSON; if it is not good enough, say so in it and on standard error.

    Raises
    ------
    click.exceptions.Exit
        If `refused` says why it is not good enough, with the exit code of that. Raised as it
        is, it would become a second document.
    """
    from edgec.files import json_bytes

    if refused is None:
        click.echo(json_bytes(document), nl=False)
        return
    code = refused.exit_code
    entry = _entry(refused.summary, refused.diagnostics, code)
    click.echo(json_bytes({**document, **entry}), nl=False)
    _show(refused)
    raise click.exceptions.Exit(code)


def _message(error: EdgecError, as_json: bool) -> int:
    _show(error)
    _to_stdout(as_json, error.summary, error.diagnostics, error.exit_code)
    return error.exit_code


def _os_error(error: OSError, arguments: Sequence[str], as_json: bool) -> int:
    if error.errno == errno.EPIPE:
        return _reader_left()
    if error.errno in _ENVIRONMENT:
        place = f"{error.filename}: " if error.filename else ""
        return _message(EdgecError(f"{place}{error.strerror}"), as_json)
    return _fault(error, arguments, {}, as_json)


def _aborted(error: click.Abort, arguments: Sequence[str], as_json: bool) -> int:
    # click takes a file that ends early for a closed terminal; no command here asks anything.
    if isinstance(error.__cause__, EOFError):
        return _fault(error.__cause__, arguments, {}, as_json)
    click.echo("interrupted", err=True)
    return _INTERRUPTED


def _show(error: EdgecError) -> None:
    """Print an error for people, on standard error."""
    lines = [click.style("error: ", fg="red", bold=True) + error.summary]
    for d in error.diagnostics:
        place = f"{d.where}: " if d.where else ""
        lines.append(f"  {place}{d.message}")
        if d.hint:
            lines.append(f"    hint: {d.hint}")
    click.echo("\n".join(lines), err=True)


def _to_stdout(
    as_json: bool, summary: str, diagnostics: Sequence[Diagnostic], code: int, **more: str
) -> None:
    """Print an error for programs, if they asked for JSON."""
    if not as_json:
        return
    from edgec.files import json_bytes

    click.echo(json_bytes(_entry(summary, diagnostics, code, **more)), nl=False)


def _entry(
    summary: str, diagnostics: Sequence[Diagnostic], code: int, **more: str
) -> dict[str, Any]:
    listed = [{"where": d.where, "message": d.message, "hint": d.hint} for d in diagnostics]
    error = {"summary": summary, "diagnostics": listed, "exit_code": code, **more}
    return {"error": error}


def _fault(
    error: Exception, arguments: Sequence[str], dump: Mapping[str, bytes], as_json: bool
) -> int:
    """Say that edgec is at fault, and write down what reproduces it."""
    text = "".join(traceback.format_exception(error))
    files = {**dump, "traceback.txt": text.encode(errors="replace"), **_about(arguments)}
    if isinstance(error, EdgecError):
        summary, diagnostics = error.summary, error.diagnostics
    else:
        summary, diagnostics = f"{type(error).__name__}: {error}", ()
    folder = _write_dump(files)
    _show(InternalError(f"edgec has a fault: {summary}", diagnostics))
    if folder is None:
        click.echo(
            f"  The dump could not be written anywhere. What it would hold:\n{text}", err=True
        )
    else:
        click.echo(
            f"  {folder} holds what reproduces it. Please report the fault with this folder;\n"
            "  it may hold parts of your model.",
            err=True,
        )
    _to_stdout(as_json, summary, diagnostics, InternalError.exit_code, dump=str(folder or ""))
    return InternalError.exit_code


def _about(arguments: Sequence[str]) -> dict[str, bytes]:
    """Return the command line and the versions, as files."""
    from importlib import metadata

    versions = [
        f"edgec {__version__}",
        f"python {platform.python_version()}",
        platform.platform(),
    ]
    for package in ("numpy", "onnx", "onnxruntime", "ai-edge-litert"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} is not installed")
    command = shlex.join(["edgec", *arguments])
    return {
        "command.txt": f"{command}\n".encode(errors="surrogateescape"),
        "versions.txt": ("\n".join(versions) + "\n").encode(),
    }


def _write_dump(files: Mapping[str, bytes]) -> Path | None:
    """Write a dump under the current folder, or else where temporary files go."""
    import secrets  # it takes long to load

    name = f"edgec-dump-{secrets.token_hex(4)}"
    for parent in (Path(), Path(tempfile.gettempdir())):
        folder = parent / name
        try:
            folder.mkdir()
            for file, data in files.items():
                (folder / Path(file).name).write_bytes(data)
        except OSError:
            continue
        return folder
    return None


def _reader_left() -> int:
    """Leave quietly when whoever read standard output has gone, as with ``| head``."""
    # Python flushes standard output again at exit, and would complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return EdgecError.exit_code
