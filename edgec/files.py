"""Files on disk: outputs written all or not at all, reports read with care."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edgec.contents import Contents
from edgec.errors import Diagnostic, OptionError, OutputError

__all__ = ["REPORT_SCHEMA", "check_outputs", "json_bytes", "read_report", "write_files"]

REPORT_SCHEMA = "edgec.report/1"
"""The version of ``report.json`` that this edgec writes and reads."""


def write_files(
    folder: Path, files: Mapping[str, Contents], *, protect: Sequence[Path] = ()
) -> None:
    """Write all of `files` into `folder`, or none of them.

    All are first written and synced under temporary names in `folder`, which is made if need
    be, then renamed. Whatever goes wrong, what was there before stays as it was.

    Parameters
    ----------
    files
        Contents by file name, which may begin with folders.
    protect
        Files that must not be overwritten, under this or any other name, and folders that
        nothing may be written into: the inputs.

    Raises
    ------
    OutputError
        If a file cannot be written, or is one of the protected ones.
    """
    _refuse(folder, list(files), protect)
    inner = dict.fromkeys(p for name in files for p in (folder / name).parents)
    folders = sorted({*inner, folder, *folder.parents}, key=lambda p: -len(p.parts))
    made = [p for p in folders if not p.exists()]
    written: dict[Path, Path] = {}
    place, complete = folder, False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            written[place] = _temporary(folder)
            _write(written[place], data)
        _rename(written)
        complete = True
    except OSError as error:
        # A failed rename tells which of the two names it could not give.
        raise _output_error(Path(error.filename2 or place), error) from error
    finally:
        for temporary in written.values():
            _quietly(temporary.unlink)
        for path in () if complete else made:
            _quietly(path.rmdir)
    _sync(folder)


def check_outputs(folder: Path, names: Sequence[str], protect: Sequence[Path] = ()) -> None:
    """Find out now what would stop :func:`write_files` later; leave nothing behind.

    Raises
    ------
    OutputError
        If `folder` cannot be written to, or a file is one of the protected ones.
    """
    _refuse(folder, names, protect)
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    probe = _temporary(nearest)
    try:
        _write(probe, b"")
    except OSError as error:
        raise _output_error(folder, error) from error
    finally:
        _quietly(probe.unlink)


def read_report(path: Path) -> dict[str, Any]:
    """Read a ``report.json`` that `edgec compile` wrote.

    Raises
    ------
    OptionError
        If there is no such file, or it is not a report of the version this edgec reads.
    """
    hint = "give the report.json that `edgec compile` wrote into its output folder"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise OptionError(
            f"cannot read {path}: {_reason(error)}", [Diagnostic(hint)]
        ) from error
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError(
            f"{path} is not JSON, or it is cut off: {error}", [Diagnostic(hint)]
        ) from error
    found = report.get("schema") if isinstance(report, dict) else None
    if not isinstance(report, dict) or not isinstance(found, str):
        raise OptionError(f"{path} is not a report of edgec", [Diagnostic(hint)])
    if found != REPORT_SCHEMA:
        raise OptionError(
            f"{path} is of version {found!r}, but this edgec reads {REPORT_SCHEMA!r}",
            [Diagnostic("compile the model again, or use the edgec that wrote the report")],
        )
    return report


def json_bytes(value: object) -> bytes:
    """Return `value` as JSON for people and programs: indented, one newline at the end."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # File names may hold bytes that are no text; their escapes are JSON too.
    return text.encode(errors="backslashreplace")


def _refuse(folder: Path, names: Sequence[str], protect: Sequence[Path]) -> None:
    """Raise if a file of these names in `folder` may not be written."""
    hint = [Diagnostic("give another folder with -o")]
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"cannot write into {folder}: it is a file, not a folder", hint)
        for guarded in protect:
            if guarded.is_dir() and _same(folder, guarded):
                raise OutputError(
                    f"would write into the input folder {guarded}, among the data", hint
                )
        for name in names:
            _refuse_file(folder / name, name, protect, hint)
    except OSError as error:
        raise _output_error(folder, error) from error


def _refuse_file(
    path: Path, name: str, protect: Sequence[Path], hint: Sequence[Diagnostic]
) -> None:
    parts = Path(name).parts
    if not parts or ".." in parts or Path(name).is_absolute() or "/".join(parts) != name:
        raise ValueError(f"{name!r} is no name of a file in a folder")
    for guarded in protect:
        if _same(path, guarded):
            raise OutputError(
                f"would overwrite the input {guarded} with the output {path}", hint
            )
    if path.is_dir():
        raise OutputError(f"cannot write {path}: there is a folder of that name", hint)


def _same(a: Path, b: Path) -> bool:
    """Whether two paths are one file, also through links of any kind."""
    try:
        return a.samefile(b)
    except OSError:  # one of them does not exist, so nothing can be lost
        return False


def _temporary(folder: Path) -> Path:
    return folder / f".edgec-{secrets.token_hex(8)}.tmp"


def _write(path: Path, data: Contents) -> None:
    """Write a new file and wait until it is on the disk."""
    # Not tempfile: its files are readable by their owner only, and these are to be kept.
    with path.open("xb") as file:
        for block in (data,) if isinstance(data, bytes) else data:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _rename(written: Mapping[Path, Path]) -> None:
    """Give all temporaries their names; if one cannot have it, take all back."""
    done: list[Path] = []
    with _backups(written) as backups:
        try:
            for path, temporary in written.items():
                temporary.replace(path)
                done.append(path)
        except OSError:
            for path in done:
                if path in backups:
                    _quietly(partial(backups[path].replace, path))
                else:
                    _quietly(path.unlink)
            raise


@contextlib.contextmanager
def _backups(paths: Mapping[Path, Path]) -> Iterator[dict[Path, Path]]:
    """Hold second names of the files that are about to be replaced."""
    backups: dict[Path, Path] = {}
    try:
        for path in paths:
            if path.is_symlink() or path.exists():
                backups[path] = _temporary(path.parent)
                _copy(path, backups[path])
        yield backups
    finally:
        for backup in backups.values():
            _quietly(backup.unlink)


def _copy(path: Path, backup: Path) -> None:
    if path.is_symlink():
        backup.symlink_to(path.readlink())
        return
    try:
        backup.hardlink_to(path)
    except OSError:  # not every file system has hard links
        shutil.copy2(path, backup)


def _sync(folder: Path) -> None:
    """Make the new names last; not every system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _quietly(action: Callable[[], object]) -> None:
    """Clean up as far as possible; the error that led here is the one to show."""
    with contextlib.suppress(OSError):
        action()


def _output_error(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write {path}: {_reason(error)}", [Diagnostic("nothing was written")]
    )


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
