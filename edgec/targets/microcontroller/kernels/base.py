"""What a kernel gives the code generator for one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, Protocol

from edgec.ir import Array
from edgec.program import Layer
from edgec.targets.microcontroller.cores import Core

__all__ = ["Code", "Function", "Kernel", "Kind", "Table"]

Kind = Literal["weights", "biases", "requantization", "other"]
"""What constants are for, as flash is told by it."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that one or several layers call.

    In all texts ``$`` stands for the prefix of the model: ``$conv_1x1`` becomes
    ``kws_conv_1x1``. Functions with the same name have the same text; one is written for all.

    Parameters
    ----------
    name
        With its ``$``.
    prototype
        Its declaration in C, without the semicolon and without ``static``.
    body
        In C the block, braces included; assembly text as a whole if `assembly` is set: GNU
        syntax, unified, one instruction a line; it labels and exports `name` itself.
    needs
        Functions that this one calls; written before it.
    types
        Declarations of types that it needs, such as a ``typedef struct``; each is written once.
    apart
        Compilers are kept from putting it into its callers: its loop needs all registers.
    helium
        It is assembly text that needs the vector extension.
    """

    name: str
    prototype: str
    body: str
    assembly: bool = False
    needs: tuple[Function, ...] = ()
    types: tuple[str, ...] = ()
    apart: bool = False
    helium: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Constants of one layer, in flash.

    Parameters
    ----------
    array
        One axis; its dtype is that of the elements in C.
    kinds
        How many bytes of it are for what; they add up to its size.
    align
        In bytes.
    """

    array: Array = field(compare=False, repr=False)
    kinds: Mapping[Kind, int]
    align: int = 4


@dataclass(frozen=True, slots=True)
class Code:
    """How one layer is computed.

    Parameters
    ----------
    call
        One statement in C, or several. Written with ``str.format``: ``{x0}``, ``{x1}`` … are
        pointers to the operands (of the C type of their dtype), ``{y0}`` … to the results,
        ``{scratch}`` an ``int8_t *`` to what is at the layer's disposal, ``{weights}`` and the
        like pointers to the tables. An operand that is constant and named in the call is put in
        flash as it is. Braces of C are doubled.
    functions
        What the call calls.
    tables
        By name, as in the call.
    scratch
        Bytes that it needs while it runs, aligned to 8.
    slack
        By operand: the result may lie over it if it starts at most that many bytes behind
        where the operand starts (before it, if negative). It follows from the traversal: when
        the byte ``o`` of the result is written, every byte of the operand up to ``o + slack``
        has been read for the last time. 0 for what works in place; the size of the operand if
        all of it was read before anything is written. Operands that are not named must not be
        overwritten. Where two results are written, there is no slack.
    in_place
        Operands over which the result may lie if both start at the same byte, though they have
        no slack: channels are the outer loop, and no channel touches another's bytes.
    macs
        Multiply-accumulates.
    repeated
        Multiply-accumulates that are done again, to have their results where there is room.
    view
        The result is the first operand as it lies: there is nothing to be done. The call is a
        copy, for where they cannot be one (a constant, or what lives from run to run).
    """

    call: str
    functions: tuple[Function, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=lambda: MappingProxyType({}))
    scratch: int = 0
    slack: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    in_place: frozenset[int] = frozenset()
    macs: int = 0
    repeated: int = 0
    view: bool = False


class Kernel(Protocol):
    """Turns a layer into code; ``None`` if this is no layer for it on that core."""

    def __call__(self, layer: Layer, core: Core) -> Code | None:
        """Return the code for a layer."""
