"""Pixels of a row in tiles, and what reading and writing in turns allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from textwrap import dedent, indent

from edgec.targets.microcontroller.kernels.base import Function
from edgec.targets.microcontroller.kernels.dsp.gemm import Packed, Planes, Tile
from edgec.targets.microcontroller.kernels.dsp.sums import Window

__all__ = [
    "Tiling",
    "block",
    "layer_function",
    "slack_of",
    "turns_by_rows",
    "turns_within_rows",
]

_DEEP = 32
"""Words of a sum from which on sharing costs less than a hundredth."""

_FEW = 2000
"""Tiles times pairs of filters up to which a function of one's own is not worth its flash."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a layer's pixels are cut into tiles.

    Parameters
    ----------
    pixels
        In a row; tiles do not reach over its end.
    depth
        Words of two inputs that a sum has.
    filters
        As the layer has them, even or odd.
    rows
        How many rows there are.
    """

    pixels: int
    depth: int
    filters: int
    rows: int
    packed: Packed
    planes: Planes | None = None

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Sizes of tiles and how many of each, in their order."""
        if self.pixels in (3, 6, 9):
            return ((3, self.pixels // 3),)
        fours, rest = divmod(self.pixels, 4)
        runs = ((4, fours), (rest, 1))
        return tuple((size, count) for size, count in runs if size and count)

    @property
    def staged(self) -> bool:
        """Whether tiles write beside the result: with an odd number of filters they must."""
        return self.filters % 2 == 1

    @property
    def shared(self) -> bool:
        """Whether tiles of other layers may serve: it costs little, or the layer is small."""
        runs = self.rows * sum(count for _, count in self.runs) * self.packed.filters // 2
        return self.planes is None and (self.depth >= _DEEP or runs <= _FEW)

    def tile(self, pixels: int) -> Tile:
        """Return the tile of a number of pixels."""
        even, output, raw = self.packed.filters, self.packed.output, self.packed.raw
        return Tile(pixels, self.depth, even, even, output, raw, self.planes, self.shared)

    @property
    def possible(self) -> bool:
        """Whether tiles reach what they touch."""
        return all(self.tile(size).possible for size, _ in self.runs)

    @property
    def functions(self) -> tuple[Function, ...]:
        """The code of all tiles."""
        return tuple(self.tile(size).function() for size, _ in self.runs)

    @property
    def staging(self) -> int:
        """Bytes that tiles write to where they do not write to the result."""
        return 4 * self.packed.filters if self.staged else 0

    @property
    def label(self) -> str:
        """For the names of functions."""
        tile = self.tile(self.runs[0][0]).name.removeprefix("$tile_")
        return f"{2 * self.depth}_{self.filters}_{tile}" if self.shared else tile

    def run(self, pixels: int, columns: str) -> str:
        """Return statements in C that run a tile and move `output` on."""
        name = self.tile(pixels).name
        step = pixels * self.filters
        shape = f", shape_{pixels}" if self.shared else ""
        if not self.staged:
            return f"{name}(weights, {columns}, output{shape});\noutput += {step};"
        return dedent(f"""\
            {name}(weights, {columns}, staging{shape});
            for (int32_t p = 0; p < {pixels}; p++) {{
                for (int32_t c = 0; c < {self.filters}; c++) {{
                    output[p * {self.filters} + c] = staging[p * {self.packed.filters} + c];
                }}
            }}
            output += {step};""")

    @property
    def shapes(self) -> str:
        """What shared functions are told, as declarations in C."""
        if not self.shared:
            return ""
        return "".join(
            f"static const int32_t shape_{size}[4] = "
            f"{{{', '.join(map(str, self.tile(size).shape))}}};\n"
            for size, _ in self.runs
        )

    def across(self, columns: str, before: str = "", after: str = "") -> str:
        """Return statements in C that run all tiles of a row.

        Parameters
        ----------
        before, after
            Statements around each tile, where ``$pixels`` is replaced by its number of pixels.
        """
        parts = []
        for size, count in self.runs:
            inner = "\n".join(
                part
                for part in (
                    before.replace("$pixels", str(size)),
                    self.run(size, columns),
                    after.replace("$pixels", str(size)),
                )
                if part
            )
            if count > 1:
                inner = block(f"for (int32_t tile = 0; tile < {count}; tile++)", inner)
            parts.append(inner)
        return "\n".join(parts)


def block(head: str, body: str) -> str:
    """Return a statement in C with its block."""
    return f"{head} {{\n{indent(body, '    ')}\n}}"


def layer_function(name: str, about: str, text: str, needs: tuple[Function, ...]) -> Function:
    """Return the function in C that computes a layer.

    Parameters
    ----------
    about
        A comment.
    text
        Its statements; they see ``input``, ``output``, ``weights`` and ``scratch``.
    """
    prototype = (
        f"void {name}(const int8_t *input, int8_t *output, const uint32_t *weights,\n"
        "    int8_t *scratch)"
    )
    body = f"/* {about} */\n{text}"
    return Function(name, prototype, f"{{\n{indent(body, '    ')}\n}}\n", needs=needs)


def slack_of(size: int, turns: Iterable[tuple[int, int]]) -> int:
    """Return how far behind its operand's start a result may start.

    Parameters
    ----------
    size
        Bytes of the operand.
    turns
        In their order: the first byte of the operand that is still needed after some reading
        (`size` if none is), and the end of what is written before more is read.
    """
    return min((read - written for read, written in turns if read < size), default=size)


def turns_by_rows(window: Window) -> Iterator[tuple[int, int]]:
    """Yield turns for :func:`slack_of` of a layer that reads rows before it needs them.

    All rows that a row of the result needs were read when the first of it is written.
    """
    row = window.width * window.channels
    for y in range(window.rows):
        read = y * window.strides[0] - window.pads[0][0] + window.kernel[0]
        last = y + 1 == window.rows
        done = window.height if last else min(max(read, 0), window.height)
        yield done * row, (y + 1) * window.columns * window.filters


def turns_within_rows(window: Window) -> Iterator[tuple[int, int]]:
    """Yield turns of a layer that reads what a pixel of the result needs when it computes it.

    While a row is computed nothing from its topmost input row on may be overwritten.
    """
    row = window.width * window.channels
    for y in range(window.rows):
        needed = max(y * window.strides[0] - window.pads[0][0], 0)
        yield min(needed, window.height - 1) * row, (y + 1) * window.columns * window.filters
