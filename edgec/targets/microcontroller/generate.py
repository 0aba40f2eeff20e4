"""C from a program: one function a layer, constants in flash, one arena of fixed places."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgec.errors import Diagnostic, UnsupportedError
from edgec.ir import DType
from edgec.program import Layer, Program
from edgec.targets.microcontroller.cores import Core, Tier
from edgec.targets.microcontroller.files import (
    Place,
    Texts,
    header_text,
    source_text,
    weights_text,
)
from edgec.targets.microcontroller.kernels import KERNELS, Code, Kind, Table
from edgec.targets.microcontroller.layout import Arena, arena_of
from edgec.targets.microcontroller.names import identifier, layer_word
from edgec.targets.microcontroller.writing import C_TYPES, all_functions, wrapped

__all__ = ["Generated", "GeneratedLayer", "Options", "generate"]


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
    """

    name: str = ""
    overlap: bool = True
    reentrant: bool = False


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
        Multiply-accumulates.
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
    """

    prefix: str
    files: Mapping[str, str]
    layers: tuple[GeneratedLayer, ...]
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    arena: Arena
    reentrant: bool
    keeps_state: bool


def generate(
    program: Program, core: Core, *, tier: Tier | None = None, options: Options | None = None
) -> Generated:
    """Return C for a program.

    Parameters
    ----------
    tier
        The best kernels that may be used; ``None`` for the best of the core.

    Raises
    ------
    UnsupportedError
        If there is no kernel for a layer, with every such layer.
    """
    options = options or Options()
    prefix = identifier(options.name or program.name)
    chosen = _kernels(program, core, tier)
    codes = [code for code, _ in chosen]
    arena = arena_of(program, codes, overlap=options.overlap)
    layers, texts = [], []
    tables: dict[str, Table] = {}
    for k, (layer, (code, used)) in enumerate(zip(program.layers(), chosen, strict=True)):
        view = k in arena.views
        symbol = "" if view else f"$layer_{k:02d}_{layer_word(layer.name)}".rstrip("_")
        own = {} if view else _tables(layer, code)
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
    )


def _named(text: str, prefix: str) -> str:
    """Put the prefix where ``$`` stands: in capitals for macros, with ``_`` for the rest."""
    text = text.replace("$FILE", prefix)
    for capital in string.ascii_uppercase:
        text = text.replace(f"${capital}", f"{prefix.upper()}_{capital}")
    text = text.replace("$", f"{prefix}_")
    return "".join(f"{line}\n" if '"' in line else wrapped(line) for line in text.splitlines())


def _kernels(program: Program, core: Core, tier: Tier | None) -> list[tuple[Code, Tier]]:
    tiers: Sequence[Tier] = core.tiers
    if tier is not None:
        if tier not in tiers:
            raise UnsupportedError(f"{core.name} does not run {tier} kernels")
        tiers = tiers[tiers.index(tier) :]
    found: list[tuple[Code, Tier]] = []
    missing: list[Diagnostic] = []
    for layer in program.layers():
        try:
            code = _code(layer, core, tiers)
        except (ValueError, OverflowError) as error:
            missing.append(
                Diagnostic(f"{layer.op.code} cannot be computed: {error}.", layer.name)
            )
            continue
        if code is not None:
            found.append(code)
            continue
        tensors = (*(t for t in layer.inputs if t is not None), *layer.outputs)
        types = ", ".join(t.dtype.value for t in tensors)
        missing.append(
            Diagnostic(f"There is no kernel for {layer.op.code} of {types}.", layer.name)
        )
    if missing:
        raise UnsupportedError("Some layers cannot be computed on microcontrollers", missing)
    return found


def _code(layer: Layer, core: Core, tiers: Sequence[Tier]) -> tuple[Code, Tier] | None:
    """Return the code of the first kernel that has some."""
    for tier in tiers:
        for kernel in KERNELS.get(tier, ()):
            code = kernel(layer, core)
            if code is not None:
                return code, tier
    return None


def _tables(layer: Layer, code: Code) -> dict[str, Table]:
    """Return the tables of a layer; constant operands that the call names are among them."""
    tables = dict(code.tables)
    fields = {name for _, name, _, _ in string.Formatter().parse(code.call) if name}
    for position, tensor in enumerate(layer.inputs):
        if tensor is not None and tensor.data is not None and f"x{position}" in fields:
            flat = tensor.data.reshape(-1)
            tables[f"x{position}"] = Table(flat, {"weights": flat.nbytes})
    return tables


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
