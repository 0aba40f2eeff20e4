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
from edgec.targets.microcontroller.emulation.machine import Machine
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


def source(code: Code, sizes: dict[str, int]) -> str:
    """Return C for one layer, whose buffers stand alone with guards around them."""
    functions = all_functions(code.functions)
    text = [
        "#include <stdint.h>",
        "#include <stddef.h>",
        "#define $ALIGNED(n) __attribute__((aligned(n)))",
        *(f"{f.prototype};" for f in functions if f.assembly),
        *(f"static {table_definition(f'$table_{k}', t)}" for k, t in code.tables.items()),
        *dict.fromkeys(t for f in functions for t in f.types),
        *(definition(function) for function in functions),
        *(f"int8_t {k}[{v + 2 * _GUARD}] $ALIGNED(8);" for k, v in sizes.items()),
    ]
    places = {name: f"({name} + {_GUARD})" for name in sizes}
    places |= {name: f"$table_{name}" for name in code.tables}
    text.append(f"void run(void);\nvoid run(void) {{ {code.call.format(**places)} }}")
    return "\n".join(text).replace("$", "m_").replace("static m_ALIGNED(4) ", "static ")


def run(
    code: Code, layer: Layer, inputs: list[Int8], *, where: int | None = None, on: Core = M4
) -> Ran:
    """Build and run one layer; what lies around its buffers must stay as it was.

    Parameters
    ----------
    where
        How far behind the start of the first operand the result starts; apart if ``None``.
    """
    sizes = {f"x{k}": x.size for k, x in enumerate(inputs)}
    shift = 0 if where is None else max(-where, 0)  # room in front of the operand
    if where is None:
        sizes["y0"] = layer.output.size
    else:
        sizes["x0"] = shift + max(inputs[0].size, where + layer.output.size)
    if code.scratch:
        sizes["scratch"] = code.scratch
    text = source(code, sizes | ({"y0": 0} if where is not None else {}))
    if where is not None:
        text = text.replace(f"(y0 + {_GUARD})", f"(x0 + {_GUARD + shift + where})")
        text = text.replace(f"(x0 + {_GUARD})", f"(x0 + {_GUARD + shift})", 1)
    built = compiler("zig").build({"layer.c": text}, on, keep=["run"])
    assert not built.warnings, built.warnings
    machine = Machine(built.image, on)
    rng = np.random.default_rng(0)
    before = {}
    for name, size in sizes.items():
        noise = rng.integers(-128, 128, size + 2 * _GUARD).astype(np.int8)
        if name.startswith("x"):
            data = inputs[int(name[1:])].ravel()
            start = _GUARD + (shift if name == "x0" else 0)
            noise[start : start + data.size] = data
        before[name] = noise.tobytes()
        machine.write(built.image.symbol(name).address, before[name])
    counts = machine.count("run")
    place = "y0" if where is None else "x0"
    for name, old in before.items():
        new = machine.read(built.image.symbol(name).address, len(old))
        assert new[:_GUARD] == old[:_GUARD], f"{name} was written before its start"
        assert new[-_GUARD:] == old[-_GUARD:], f"{name} was written behind its end"
        if name.startswith("x") and name != place:
            assert new == old, f"{name} was written"
    at = built.image.symbol(place).address + _GUARD + (0 if where is None else shift + where)
    raw = machine.read(at, layer.output.size)
    own = (s for s in built.image.symbols.values() if s.is_function)
    size = sum(s.size for s in own if not s.name.startswith("edgec_") and s.name != "main")
    output = np.frombuffer(raw, np.int8).reshape(layer.output.shape)
    return Ran(output, counts.total.instructions, size)
