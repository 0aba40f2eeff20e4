"""Read a ``.tflite`` file, ours or anybody's, into a program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgec.errors import Diagnostic, ModelError, UnsupportedError
from edgec.program.checking import faults_of
from edgec.program.faults import Fault
from edgec.program.program import Program, Step
from edgec.program.resolving import RESOLVERS, resolve
from edgec.program.tables import Entry, Tables, read_tables

__all__ = ["parse_program", "read_program"]

_AGAIN = "convert the model again; if that does not help, the converter is at fault"


def read_program(path: Path) -> Program:
    """Return the program in a file; its constants are views of the file's contents.

    Raises
    ------
    ModelError
        If the file cannot be read, is no TFLite file or a damaged one.
    UnsupportedError
        If it holds what no microcontroller runs.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return parse_program(data, path.stem, str(path))


def parse_program(data: bytes, name: str, called: str = "the file") -> Program:
    """Return the program in the contents of a file, as :func:`read_program` does.

    Parameters
    ----------
    name
        What the program is called.
    called
        What the file is called in messages.
    """
    tables = read_tables(data, called)
    _refuse_unknown(tables.entries, called)
    tensors, steps = list(tables.tensors), []
    found: list[Diagnostic] = []
    valid = True
    for entry in tables.entries:
        try:
            _refuse_sparse(entry, tables)
            steps += resolve(entry, tensors)
        except Fault as fault:
            found.append(Diagnostic(str(fault), entry.layer, fault.hint))
            valid &= fault.valid
    if not found:
        program = Program(
            name,
            tuple(tensors),
            tuple(steps),
            tables.inputs,
            tables.outputs,
            _variables(tables, steps),
        )
        found, valid = faults_of(program)
    if not found:
        return program
    if valid:
        raise UnsupportedError(f"microcontrollers do not run {called} as it is", found)
    told = [d if d.hint else replace(d, hint=_AGAIN) for d in found]
    raise ModelError(f"{called} makes no sense", told)


def _refuse_unknown(entries: Iterable[Entry], called: str) -> None:
    layers: dict[str, list[str]] = {}
    for entry in entries:
        if entry.code not in RESOLVERS:
            layers.setdefault(entry.code, []).append(entry.layer)
    if not layers:
        return
    hint = "leave it out of the model, or run it on the host before or after"
    raise UnsupportedError(
        f"microcontrollers do not run {len(layers)} of the operators of {called}",
        [
            Diagnostic(f"{code} is not known ({len(names)} in the model)", names[0], hint)
            for code, names in sorted(layers.items())
        ],
    )


def _refuse_sparse(entry: Entry, tables: Tables) -> None:
    for k in entry.inputs:
        if k in tables.sparse:
            raise Fault(
                f"{tables.tensors[k].name} is stored without its zeros",
                "convert the model without sparse weights",
                valid=True,
            )


def _variables(tables: Tables, steps: Iterable[Step]) -> tuple[int, ...]:
    """Return the variables that anything reads."""
    read = {k for step in steps for k in step.inputs}
    written = {k for step in steps for k in step.outputs}
    return tuple(k for k in tables.variables if k in read and k not in written)
