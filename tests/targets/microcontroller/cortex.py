"""One layer's code on an emulated core: build it, feed it, read what it wrote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("ziglang", reason="there is no compiler for microcontrollers")
pytest.importorskip("unicorn", reason="there is no emulator")
pytest.importorskip("elftools", reason="there is no reader of ELF files")

from edgec.program import Layer
from edgec.targets.microcontroller import Core
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.emulated_board import EmulatedBoard
from edgec.targets.microcontroller.emulation.image import Image
from edgec.targets.microcontroller.emulation.machine import Machine
from edgec.targets.microcontroller.emulation.model import emulated, memory_for
from edgec.targets.microcontroller.emulation.toolchain import compiler
from edgec.targets.microcontroller.kernels import Code
from edgec.targets.microcontroller.writing import all_functions, definition, table_definition

Int8 = npt.NDArray[np.int8]

M4 = load_core("cortex-m4")

_GUARD = 64


@dataclass(frozen=True)
class Ran:
    """What a run gave."""

    output: Int8
    instructions: int
    code_size: int


def source(code: Code, entries: dict[str, dict[str, str]], sizes: dict[str, int]) -> str:
    """Return C for one layer.

    Parameters
    ----------
    entries
        Functions to write, each with the places of what the call names.
    sizes
        Of the buffers, which stand alone with guards around them.
    """
    functions = all_functions(code.functions)
    text = [
        "#include <stdint.h>",
        "#include <stddef.h>",
        "#define $ALIGNED(n) __attribute__((aligned(n)))",
        "#define $APART static __attribute__((noinline))",
        *dict.fromkeys(t for f in functions for t in f.types),
        *(f"{f.prototype};" for f in functions if f.assembly),
        *(f"static {table_definition(f'$table_{k}', t)}" for k, t in code.tables.items()),
        *(definition(function) for function in functions),
        *(f"int8_t {k}[{v + 2 * _GUARD}] $ALIGNED(8);" for k, v in sizes.items()),
    ]
    tables = {name: f"$table_{name}" for name in code.tables}
    for name, places in entries.items():
        call = code.call.format(**places, **tables)
        text.append(f"void {name}(void);\nvoid {name}(void) {{ {call} }}")
    return "\n".join(text).replace("$", "m_").replace("static m_ALIGNED(4) ", "static ")


def run(
    code: Code,
    layer: Layer,
    inputs: list[Int8],
    wheres: tuple[int | None, ...] = (None,),
    on: Core = M4,
) -> list[Ran]:
    """Build one layer and run it; what lies around its buffers must stay as it was.

    Parameters
    ----------
    wheres
        How far behind the start of the first operand the result starts, run by run; apart from
        it if ``None``.
    """
    shift = max(-min((w for w in wheres if w is not None), default=0), 0)
    ends = [w + layer.output.size for w in wheres if w is not None]
    sizes = {f"x{k}": x.size for k, x in enumerate(inputs)}
    sizes["x0"] = shift + max(inputs[0].size, *ends, 0)
    sizes["y0"] = layer.output.size
    if code.scratch:
        sizes["scratch"] = code.scratch
    base = {name: f"({name} + {_GUARD})" for name in sizes}
    base["x0"] = f"(x0 + {_GUARD + shift})"
    entries = {
        f"run_{k}": base if where is None else base | {"y0": f"(x0 + {_GUARD + shift + where})"}
        for k, where in enumerate(wheres)
    }
    text = source(code, entries, sizes)
    built = compiler("zig").build(
        {"layer.c": text}, on, keep=[*entries, *sizes], memory=memory_for(on)
    )
    assert not built.warnings, built.warnings
    machine = emulated(built, on)
    found = []
    for where, name in zip(wheres, entries, strict=True):
        place = "y0" if where is None else "x0"
        at = _GUARD + (0 if where is None else shift + where)
        counts, memory = _run(machine, name, inputs, sizes, shift, place)
        raw = memory[at : at + layer.output.size]
        output = np.frombuffer(raw, np.int8).reshape(layer.output.shape)
        found.append(Ran(output, counts, _code_size(built.image)))
    return found


def _code_size(image: Image) -> int:
    own = (s for s in image.symbols.values() if s.is_function)
    return sum(s.size for s in own if not s.name.startswith(("edgec_", "main", "run_")))


def _run(
    machine: Machine | EmulatedBoard,
    function: str,
    inputs: list[Int8],
    sizes: dict[str, int],
    shift: int,
    place: str,
) -> tuple[int, bytes]:
    """Return the instructions of a run, and what is then where the result is."""
    rng = np.random.default_rng(0)
    before = {}
    for name, size in sizes.items():
        noise = rng.integers(-128, 128, size + 2 * _GUARD).astype(np.int8)
        if name.startswith("x"):
            data = inputs[int(name[1:])].ravel()
            start = _GUARD + (shift if name == "x0" else 0)
            noise[start : start + data.size] = data
        before[name] = noise.tobytes()
        machine.write(machine.image.symbol(name).address, before[name])
    counts = machine.count(function)
    after = {
        name: machine.read(machine.image.symbol(name).address, len(old))
        for name, old in before.items()
    }
    for name, old in before.items():
        new = after[name]
        assert new[:_GUARD] == old[:_GUARD], f"{name} was written before its start"
        assert new[-_GUARD:] == old[-_GUARD:], f"{name} was written behind its end"
        if name.startswith("x") and name != place:
            assert new == old, f"{name} was written"
    return counts.total.instructions, after[place]
