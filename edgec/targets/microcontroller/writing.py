"""Pieces of C: tables, functions, declarations."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from edgec.ir import Array
from edgec.program import Layer
from edgec.targets.microcontroller.kernels import Code, Function, Table

__all__ = [
    "C_TYPES",
    "all_functions",
    "assembly_text",
    "definition",
    "lines_of",
    "numbers",
    "table_declaration",
    "table_definition",
    "tables_of",
    "wrapped",
]

C_TYPES = {
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "float32": "float",
    "bool": "uint8_t",
}
"""By the name of a numpy dtype."""

_WIDTH = 96


def numbers(array: Array) -> Iterator[str]:
    """Yield the numbers of an array as C writes them."""
    kind = array.dtype.name
    if kind == "float32":
        yield from map(_float, array.tolist(), array)
        return
    least = {"int32": -(1 << 31), "int64": -(1 << 63)}.get(kind)
    suffix = {"int64": "ll", "uint32": "u"}.get(kind, "")
    for value in array.astype(np.int64).tolist() if kind == "bool" else array.tolist():
        # The least number has no literal of its own in C.
        yield f"({value + 1}{suffix} - 1)" if value == least else f"{value}{suffix}"


def _float(value: float, exact: np.float32) -> str:
    if np.isnan(exact):
        return "(0.0f / 0.0f)"
    if np.isinf(exact):
        return "(1.0f / 0.0f)" if exact > 0 else "(-1.0f / 0.0f)"
    text = np.format_float_scientific(exact, unique=True, trim="0")
    return f"{text}f" if "." in text else text.replace("e", ".0e") + "f"


def lines_of(words: Iterable[str], indent: str = "    ") -> str:
    """Return words with commas, filled into lines."""
    lines, line = [], indent
    for word in words:
        if len(line) + len(word) + 1 > _WIDTH and line != indent:
            lines.append(line.rstrip())
            line = indent
        line += f"{word}, "
    lines.append(line.rstrip())
    return "\n".join(lines)


def tables_of(layer: Layer, code: Code) -> dict[str, Table]:
    """Return the tables of a layer; constant operands that the call names are among them."""
    tables = dict(code.tables)
    fields = {name for _, name, _, _ in string.Formatter().parse(code.call) if name}
    for position, tensor in enumerate(layer.inputs):
        if tensor is not None and tensor.data is not None and f"x{position}" in fields:
            flat = tensor.data.reshape(-1)
            tables[f"x{position}"] = Table(flat, {"weights": flat.nbytes})
    return tables


def table_declaration(name: str, table: Table) -> str:
    """Return the declaration of a table, for those who read it."""
    return f"extern const {_c_type(table)} {name}[{_length(table)}];\n"


def table_definition(name: str, table: Table) -> str:
    """Return a table with its contents."""
    array = table.array if table.array.size else np.zeros(1, table.array.dtype)
    natural = table.array.dtype.itemsize
    align = f"$ALIGNED({table.align}) " if table.align > natural else ""
    return (
        f"{align}const {_c_type(table)} {name}[{_length(table)}] = {{\n"
        f"{lines_of(numbers(array))}\n}};\n"
    )


def _c_type(table: Table) -> str:
    return C_TYPES[table.array.dtype.name]


def _length(table: Table) -> int:
    return max(1, table.array.size)


def all_functions(roots: Iterable[Function]) -> tuple[Function, ...]:
    """Return functions and what they need, each once, callees first.

    Raises
    ------
    ValueError
        If two functions of the same name differ.
    """
    found: dict[str, Function] = {}

    def visit(function: Function) -> None:
        known = found.get(function.name)
        if known is not None:
            if known != function:
                raise ValueError(f"two functions are called {function.name}")
            return
        for need in function.needs:
            visit(need)
        found[function.name] = function

    for root in roots:
        visit(root)
    return tuple(found.values())


def definition(function: Function) -> str:
    """Return a function as it stands in the file."""
    if function.assembly:
        return assembly_text(function.body)
    storage = "$APART" if function.apart else "static"
    return f"{storage} {function.prototype}\n{function.body.rstrip()}\n"


def assembly_text(body: str) -> str:
    """Return assembly text as a statement of C."""
    lines: Sequence[str] = [line.rstrip() for line in body.strip("\n").splitlines()]
    quoted = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines if line)
    return "__asm__(\n" + "\n".join(f'    "{line}\\n"' for line in quoted) + ");\n"


def wrapped(line: str) -> str:
    """Return a line of C, broken at commas where it is too long."""
    indent = len(line) - len(line.lstrip()) + 4
    done = ""
    while len(line) > _WIDTH:
        at = line.rfind(", ", indent, _WIDTH)
        if at < 0:
            at = line.find(", ", indent)
        if at < 0:
            break
        done += line[: at + 1] + "\n"
        line = " " * indent + line[at + 1 :].lstrip()
    return f"{done}{line}\n"
