"""Products of up to two columns of numbers with four filters at a time.

``vmladava.s8`` adds 16 products to a sum in a register for integers, whose number has to be
even. Two columns and four filters take all eight of those that there are, and for six vectors
loaded there are eight such instructions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgec.ir import Array
from edgec.targets.microcontroller.kernels.base import Function, Kind, Table
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums
from edgec.targets.microcontroller.kernels.mve.results import Rounding, rounding_of

__all__ = ["LANES", "SHAPE_TYPE", "Packed", "Tile", "packed"]

LANES = 16
FILTERS = 4

_STRAIGHT = 8
"""Steps that are written one after the other; where there are more there is a loop."""

_UNROLLED = 4
_DEEPEST = 12
"""Steps of a piece of a column that is one of several."""

_SUMS = (("r0", "r2", "r4", "r6"), ("r8", "r10", "r12", "lr"))
_COLUMNS = ("r1", "r3")

SHAPE_TYPE = """\
/* How columns and results of a layer lie, and what its results are put on. */
typedef struct {
    int32_t bytes;        /* of the weights and constants that a function works through */
    int32_t jump;         /* from the end of a piece of a column to the next */
    int32_t next_column;  /* from a column to the next */
    int32_t next_result;
    int32_t zero_point, least, most;
} $tiles;
"""


@dataclass(frozen=True, slots=True)
class Tile:
    """A function for all filters: ``(weights, column, output, tiles)``.

    Parameters
    ----------
    columns
        One or two.
    filters
        At a time, up to four; if fewer, there are no more.
    pieces, length
        A column is so many pieces of so many bytes.
    """

    columns: int
    filters: int
    pieces: int
    length: int
    rounding: Rounding

    @property
    def name(self) -> str:
        """It says all that the code depends on."""
        pieces = f"{self.pieces}x{self.length}" if self.pieces > 1 else str(self.length)
        return f"$tile_{self.columns}x{self.filters}_{pieces}_{self.rounding.label}"

    @property
    def steps(self) -> int:
        """Vectors in a piece, the last of which may not be full."""
        return -(-self.length // LANES)

    @property
    def possible(self) -> bool:
        """Whether a column of several pieces can be written so."""
        return self.pieces == 1 or self.steps <= _DEEPEST

    @property
    def sums(self) -> list[list[str]]:
        """Registers by column and filter."""
        return [list(_SUMS[c][: self.filters]) for c in range(self.columns)]

    def function(self) -> Function:
        """Return the code."""
        asm = Assembly(
            self.name,
            28,
            f"{self.columns} columns of {self.pieces * self.length} bytes, {self.filters} "
            "filters at a time",
        )
        tail = self.length % LANES
        # On the stack: how far the second result is, zero point, range; the columns; the end.
        asm("mov r5, r0", "mov r7, r2", "mov r8, r3")
        asm("ldr r0, [r8]", "add r0, r0, r5", "str r0, [sp, #24]")
        asm("ldrd r2, r4, [r8, #12]", "strd r2, r4, [sp]")
        if self.rounding.clamp:
            asm("ldrd r2, r4, [r8, #20]", "strd r2, r4, [sp, #8]")
        if self.columns == 2:
            asm("ldr r3, [r8, #8]", "add r3, r3, r1")
        if self._moves:
            asm("strd r1, r3, [sp, #16]")
        if self.pieces > 1:
            asm("ldr r9, [r8, #4]")
        if tail:
            asm(f"mov r11, #{tail}", "vctp.8 r11")
        asm("1:")
        self._multiply(asm)
        self._store(asm)
        if self.filters == FILTERS:
            asm("ldr r0, [sp, #24]", "cmp r5, r0", "bne 1b")
        made = asm.function(
            f"void {self.name}(const uint32_t *weights, const int8_t *column,\n"
            "    int8_t *output, const $tiles *tiles)"
        )
        return replace(made, helium=True, types=(SHAPE_TYPE,))

    # ---- products

    @property
    def _moves(self) -> bool:
        """Whether the pointers to the columns move while they are read."""
        return self.pieces > 1 or self.steps > _STRAIGHT

    def _multiply(self, asm: Assembly) -> None:
        if not self._moves:
            for step in range(self.steps):
                self._step(asm, step, fresh=step == 0, at=step * LANES)
            return
        if self.pieces == 1:
            self._long(asm)
        else:
            self._pieces(asm)
        registers = ("r1", "r3")[: self.columns]
        load = "ldrd r1, r3" if len(registers) == 2 else "ldr r1"
        asm(f"{load}, [sp, #16]")

    def _long(self, asm: Assembly) -> None:
        """A column of one piece, in a loop; a part that is not full comes last."""
        full = self.length // LANES
        first = (full - 1) % _UNROLLED + 1
        for step in range(first):
            self._step(asm, step, fresh=step == 0)
        asm(f"mov r11, #{(full - first) // _UNROLLED}", "2:")
        for step in range(_UNROLLED):
            self._step(asm, step)
        asm("subs r11, r11, #1", "bne 2b")
        if self.length % LANES:
            self._step(asm, self.steps - 1)

    def _pieces(self, asm: Assembly) -> None:
        """Piece after piece."""

        def piece(fresh: bool) -> None:
            for step in range(self.steps):
                self._step(asm, step, fresh=fresh and step == 0)
            asm(*(f"add {r}, {r}, r9" for r in _COLUMNS[: self.columns]))

        if self.pieces * self.steps <= _STRAIGHT:
            for k in range(self.pieces):
                piece(fresh=k == 0)
            return
        peeled = self.steps <= _UNROLLED
        if peeled:
            piece(fresh=True)
        else:
            asm(*(f"mov {total}, #0" for row in self.sums for total in row))
        asm(f"mov r11, #{self.pieces - int(peeled)}", "2:")
        piece(fresh=False)
        asm("subs r11, r11, #1", "bne 2b")

    def _step(
        self, asm: Assembly, step: int, *, fresh: bool = False, at: int | None = None
    ) -> None:
        """16 products for each sum, or what is left of a piece.

        Parameters
        ----------
        fresh
            The sums begin here.
        at
            Where, if the pointers do not move.
        """
        part = min(LANES, self.length - step * LANES)
        vectors = ("q0", "q1")[: self.columns]
        full = part == LANES
        loads = []
        for q, column in zip(vectors, _COLUMNS, strict=False):
            place = f"[{column}], #{part}" if at is None else f"[{column}, #{at}]"
            loads.append(f"{'vldrb.u8' if full else 'vldrbt.u8'} {q}, {place}")
        weights = ("q2", "q3")
        multiply = "vmladav.s8" if fresh else "vmladava.s8"
        products = [
            (f"{multiply} {self.sums[c][f]}, {vectors[c]}, {weights[f % 2]}", f)
            for f in range(self.filters)
            for c in range(self.columns)
        ]
        # What lies behind a part that is not full is multiplied with zeros.
        others = [f"vldrb.u8 {weights[f % 2]}, [r5], #{part}" for f in range(self.filters)]
        if not full:
            asm("vpst" if self.columns == 1 else "vpstt")
            asm(*loads, others[0])
        else:
            asm(loads[0], others[0], *loads[1:])
        for k, (product, f) in enumerate(products):
            asm(product)
            if k % self.columns == 0 and f + 1 < self.filters:
                asm(others[f + 1])

    # ---- results

    def _store(self, asm: Assembly) -> None:
        rows = []
        for q, row in zip(("q0", "q1"), self.sums, strict=False):
            four = [row[min(f, self.filters - 1)] for f in range(FILTERS)]
            asm(f"vmov {q}[2], {q}[0], {four[0]}, {four[2]}")
            asm(f"vmov {q}[3], {q}[1], {four[1]}, {four[3]}")
            rows.append(q)
        if odd := self.filters * self.pieces * self.length % 4:
            asm(f"add r5, r5, #{4 - odd}")
        asm("vldrw.u32 q2, [r5], #16", *(f"vadd.i32 {q}, {q}, q2" for q in rows))
        self.rounding.apply(asm, rows, ("q2", "q3"), "r5")
        asm("vqmovnb.s32 q0, q0")
        if self.columns == 2:
            asm("vqmovnt.s32 q0, q1")
        asm("ldrd r0, r2, [sp]")
        if self.rounding.clamp:
            asm("ldrd r4, r6, [sp, #8]")
        self.rounding.finish(asm, "q0", ("r2", "r4", "r6"), "q2")
        asm("vqmovnb.s16 q0, q0")
        store = "vstrb.32 q0"
        if self.filters < FILTERS:
            store = "vstrbt.32 q0"
            asm(f"mov r2, #{self.filters}", "vctp.32 r2")
        predicate = [] if self.filters == FILTERS else ["vpst"]
        if self.columns == 2:
            asm("add r0, r7, r0")
        asm(*predicate, f"{store}, [r7], #4")
        if self.columns == 2:
            asm("vshr.u32 q0, q0, #16", *predicate, f"{store}, [r0]")


@dataclass(frozen=True, slots=True)
class Packed:
    """The filters of a layer in the order in which tiles read them.

    Parameters
    ----------
    groups
        How many filters at a time, where in the words those begin, and how many words.
    """

    table: Table
    rounding: Rounding
    pieces: int
    length: int
    filters: int
    groups: tuple[tuple[int, int, int], ...]

    def tile(self, columns: int, filters: int) -> Tile:
        """Return the tile for so many columns."""
        return Tile(columns, filters, self.pieces, self.length, self.rounding)

    @property
    def possible(self) -> bool:
        """Whether there are such tiles."""
        return self.tile(2, 1).possible

    def functions(self, columns: int) -> tuple[Function, ...]:
        """Return the code for so many columns."""
        return tuple(self.tile(columns, filters).function() for filters, _, _ in self.groups)

    def calls(self, columns: int, column: str, output: str, shape: str) -> str:
        """Return statements in C that multiply columns with all filters.

        Parameters
        ----------
        shape
            The names of the shapes, without the number of the group.
        """
        lines = []
        for k, (filters, start, _) in enumerate(self.groups):
            at = f"weights + {start}" if start else "weights"
            to = f"{output} + {FILTERS * (self.filters // FILTERS)}" if k else output
            if len(self.groups) == 1 and filters < FILTERS:
                to = output
            name = self.tile(columns, filters).name
            lines.append(f"{name}({at}, {column}, {to}, &{shape}_{k});")
        return "\n".join(lines)

    def shapes(self, name: str, sums: Sums, jump: int, next_column: int) -> str:
        """Return declarations in C for :meth:`calls`."""
        how = sums.requantization
        rest = f"{how.zero_point}, {how.least}, {how.greatest}"
        return "".join(
            f"static const $tiles {name}_{k} = "
            f"{{{4 * words}, {jump}, {next_column}, {self.filters}, {rest}}};\n"
            for k, (_, _, words) in enumerate(self.groups)
        )


def packed(sums: Sums, weights: Ints, pieces: int) -> Packed | None:
    """Return filters packed for tiles; ``None`` if their sums cannot be rounded here.

    Parameters
    ----------
    weights
        One filter a row, in the order of the columns.
    pieces
        Of equal length, that columns come in.
    """
    found = rounding_of(sums)
    if found is None:
        return None
    rounding, constants = found
    count, depth = weights.shape
    length = depth // pieces
    biases = sums.biases - sums.zero * weights.sum(1)
    columns = np.concatenate([biases[None], constants])
    groups: list[tuple[int, int, int]] = []
    stream: list[bytes] = []
    words = 0
    for filters, start, end in _groups(count):
        begin = words
        for k in range(start, end, filters):
            part = weights[k : k + filters].astype(np.int8)
            body = b"".join(_in_steps(part, pieces, length))
            body += bytes(-len(body) % 4)
            four = np.zeros((len(columns), FILTERS), np.int64)
            four[:, :filters] = columns[:, k : k + filters]
            body += four.astype(np.int32).astype("<i4").tobytes()
            stream.append(body)
            words += len(body) // 4
        groups.append((filters, begin, words - begin))
    array = np.frombuffer(b"".join(stream), "<u4").astype(np.uint32)
    plain, own = weights.size, 4 * count
    scales = 4 * rounding.vectors * count
    kinds: dict[Kind, int] = {
        "weights": plain,
        "biases": own,
        "requantization": scales,
        "other": array.nbytes - plain - own - scales,
    }
    return Packed(Table(array, kinds, align=8), rounding, pieces, length, count, tuple(groups))


def _groups(count: int) -> Iterator[tuple[int, int, int]]:
    """Yield how many filters at a time, and which."""
    whole = count // FILTERS * FILTERS
    if whole:
        yield FILTERS, 0, whole
    if count > whole:
        yield count - whole, whole, count


def _in_steps(part: Array, pieces: int, length: int) -> Iterator[bytes]:
    for piece in range(pieces):
        for at in range(0, length, LANES):
            end = piece * length + min(at + LANES, length)
            yield part[:, piece * length + at : end].tobytes()
