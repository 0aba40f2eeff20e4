"""C from a program: one function a layer, constants in flash, one arena of fixed places."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgec.errors import Diagnostic, UnsupportedError
from edgec.ir import DType
from edgec.program import Layer, Program
from edgec.targets.microcontroller.bands import Bands
from edgec.targets.microcontroller.budget import fitted, notes_of
from edgec.targets.microcontroller.choosing import Choosing
from edgec.targets.microcontroller.cores import Core, Tier
from edgec.targets.microcontroller.files import (
    Place,
    Texts,
    header_text,
    source_text,
    weights_text,
)
from edgec.targets.microcontroller.kernels import Code, Kind, Table
from edgec.targets.microcontroller.layout import Arena, arena_of
from edgec.targets.microcontroller.memory import needs
from edgec.targets.microcontroller.names import identifier, layer_word
from edgec.targets.microcontroller.writing import C_TYPES, all_functions, tables_of, wrapped

__all__ = ["Generated", "GeneratedLayer", "Options", "generate"]

_STACK = 256
"""Bytes of a budget that the arena leaves: runs measured need 160 or so."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the generated code should be like.

    Parameters
    ----------
    name
        Prefix of all names in C; ``""`` for the program's own.
    overlap
        Results may lie over operands that die.
    reentrant
        The caller gives the arena with every call.
    max_ram
        Bytes of RAM, a small stack among them, that the model should run in: where it would
        not, layers are computed band by band, if that helps. ``None`` for no limit.
    """

    name: str = ""
    overlap: bool = True
    reentrant: bool = False
    max_ram: int | None = None


@dataclass(frozen=True, slots=True)
class GeneratedLayer:
    """One layer, as it was generated.

    Parameters
    ----------
    name
        The user's.
    symbol
        Its function in C; ``""`` where nothing is to be done.
    operator
        Its name in TFLite's schema.
    tier
        Which kernels compute it.
    macs
        Multiply-accumulates, each counted once.
    repeated
        Multiply-accumulates that are done again, where layers are computed band by band.
    flash
        Bytes of its constants, by what they are for.
    scratch
        Bytes of RAM that it works in.
    """

    name: str
    symbol: str
    operator: str
    tier: Tier
    macs: int
    repeated: int
    flash: Mapping[Kind, int]
    scratch: int


@dataclass(frozen=True, slots=True)
class Generated:
    """C for a program.

    Parameters
    ----------
    prefix
        Of all names in C, and the name of the files.
    files
        Contents by name.
    inputs, outputs
        Where the user puts and finds numbers.
    reentrant
        The caller gives the arena with every call.
    keeps_state
        There is a function that resets what runs leave to those after them.
    program
        The steps as they run.
    notes
        What was done to fit a budget, by layer.
    """

    prefix: str
    files: Mapping[str, str]
    layers: tuple[GeneratedLayer, ...]
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    arena: Arena
    reentrant: bool
    keeps_state: bool
    program: Program
    notes: tuple[Diagnostic, ...] = ()


def generate(
    program: Program, core: Core, *, tier: Tier | None = None, options: Options | None = None
) -> Generated:
    """Return C for a program.

    Parameters
    ----------
    tier
        The best kernels that may be used; ``None`` for the best of the core.
    options
        If they limit the RAM and nothing fits, the smallest arena is made, and a note says so.

    Raises
    ------
    UnsupportedError
        If there is no kernel for a layer, with every such layer.
    """
    options = options or Options()
    prefix = identifier(options.name or program.name)
    chooser = Choosing(core, tier)
    program, notes = _within(program, chooser, options)
    chosen = chooser.all(program)
    codes = [code for code, _ in chosen]
    arena = arena_of(program, codes, overlap=options.overlap)
    layers, texts = [], []
    tables: dict[str, Table] = {}
    for k, (layer, (code, used)) in enumerate(zip(program.layers(), chosen, strict=True)):
        view = k in arena.views
        symbol = "" if view else f"$layer_{k:02d}_{layer_word(layer.name)}".rstrip("_")
        own = {} if view else tables_of(layer, code)
        tables |= {f"{symbol}_{key}": table for key, table in own.items()}
        if not view:
            text = _call(program, k, layer, code, arena, symbol, own)
            texts.append((symbol, layer, text))
        layers.append(
            GeneratedLayer(
                layer.name,
                symbol.replace("$", f"{prefix}_"),
                layer.op.code,
                used,
                code.macs,
                code.repeated,
                MappingProxyType(_flash(own)),
                0 if view else code.scratch,
            )
        )
    functions = all_functions(
        f for k, code in enumerate(codes) if k not in arena.views for f in code.functions
    )
    inputs = tuple(_place(program, i, arena) for i in program.inputs)
    outputs = tuple(_place(program, i, arena) for i in program.outputs)
    parts = Texts(
        program.name,
        options.reentrant,
        arena.plan.size,
        inputs,
        outputs,
        tuple(_place(program, i, arena) for i in program.variables),
        tuple(texts),
        functions,
        tables,
    )
    files = {
        f"{prefix}.h": header_text(parts),
        f"{prefix}.c": source_text(parts),
        f"{prefix}_weights.c": weights_text(parts),
    }
    files = {name: _named(text, prefix) for name, text in files.items()}
    return Generated(
        prefix,
        MappingProxyType(files),
        tuple(layers),
        inputs,
        outputs,
        arena,
        options.reentrant,
        bool(program.variables),
        program,
        notes,
    )


def _within(
    program: Program, chooser: Choosing, options: Options
) -> tuple[Program, tuple[Diagnostic, ...]]:
    """Return the program with layers in bands where a budget asks for it, and notes."""
    if options.max_ram is None:
        return program, ()
    most = max(0, options.max_ram - _STACK)

    def arena(changed: Program) -> Arena:
        codes = [code for code, _ in chooser.all(changed)]
        return arena_of(changed, codes, overlap=options.overlap)

    def size(changed: Program) -> int | None:
        try:
            return arena(changed).plan.size
        except UnsupportedError:  # there is no code for bands of that height
            return None

    before = arena(program)
    if before.plan.size <= most:
        return program, ()
    found = fitted(program, most, needs(before.buffers, before.overlays), size)
    repeated = {
        layer.name: code.repeated
        for layer, (code, _) in zip(
            found.program.layers(), chooser.all(found.program), strict=True
        )
        if isinstance(layer.op, Bands)
    }
    sizes = before.plan.size, arena(found.program).plan.size
    return found.program, notes_of(found.program, found.fits, most, sizes, repeated)


def _named(text: str, prefix: str) -> str:
    """Put the prefix where ``$`` stands: in capitals for macros, with ``_`` for the rest."""
    text = text.replace("$FILE", prefix)
    for capital in string.ascii_uppercase:
        text = text.replace(f"${capital}", f"{prefix.upper()}_{capital}")
    text = text.replace("$", f"{prefix}_")
    return "".join(f"{line}\n" if '"' in line else wrapped(line) for line in text.splitlines())


def _flash(tables: Mapping[str, Table]) -> dict[Kind, int]:
    found: dict[Kind, int] = {}
    for table in tables.values():
        for kind, size in table.kinds.items():
            found[kind] = found.get(kind, 0) + size
    return found


def _call(
    program: Program,
    k: int,
    layer: Layer,
    code: Code,
    arena: Arena,
    symbol: str,
    tables: Mapping[str, Table],
) -> str:
    """Return the statements that compute a layer, with all places filled in."""
    step = program.steps[k]
    fields = {name: f"{symbol}_{name}" for name in tables}
    for position, (number, tensor) in enumerate(zip(step.inputs, layer.inputs, strict=True)):
        if tensor is not None and tensor.data is None:
            qualifier = "" if number in program.variables else "const "
            place = _pointer(tensor.dtype, arena.places[number], qualifier)
            fields[f"x{position}"] = place
    for position, (number, tensor) in enumerate(zip(step.outputs, layer.outputs, strict=True)):
        fields[f"y{position}"] = _pointer(tensor.dtype, arena.places[number], "")
    if k in arena.scratch:
        fields["scratch"] = _at(arena.scratch[k])
    return code.call.format(**fields)


def _at(offset: int) -> str:
    return f"(arena + {offset})"


def _pointer(dtype: DType, offset: int, qualifier: str) -> str:
    ctype = C_TYPES[dtype.numpy.name]
    if ctype == "int8_t":
        return _at(offset)
    return f"(({qualifier}{ctype} *)(void *){_at(offset)})"


def _place(program: Program, number: int, arena: Arena) -> Place:
    tensor = program.tensors[number]
    if number not in arena.places:
        raise UnsupportedError(f"{tensor.name} is a constant, and an output of the model")
    return Place(tensor, arena.places[number])
