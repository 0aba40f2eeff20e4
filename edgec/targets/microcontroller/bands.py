"""Layers one after the other for a few rows at a time: less RAM, and some rows twice.

Of a chain of convolutions and pools a band of rows of the last result is computed at a time:
each layer computes the rows that the next one needs, into scratch that every band uses again.
Rows that two bands need are computed in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import indent
from typing import ClassVar

from edgec.ir import DType
from edgec.program import Layer, Program, Step, Tensor
from edgec.program.operators import AveragePool, Conv, DepthwiseConv, MaxPool, Operator
from edgec.targets.microcontroller.cores import Tier
from edgec.targets.microcontroller.kernels import Code, Table
from edgec.targets.microcontroller.memory import Buffer, Overlay, place
from edgec.targets.microcontroller.writing import tables_of

__all__ = [
    "Bands",
    "Chooser",
    "Span",
    "bands_code",
    "fits_bands",
    "rows_done",
    "schedule",
    "with_bands",
]

Chooser = Callable[[Layer], "tuple[Code, Tier] | None"]
"""Gives the code of a layer, and of which tier it is."""


@dataclass(frozen=True, slots=True)
class Bands(Operator):
    """A chain of layers, computed band by band.

    Parameters
    ----------
    layers
        In their order; each has one result, which the next one reads and nobody else.
    rows
        Of the last result that are computed at a time.
    """

    code: ClassVar[str] = "BANDS"
    layers: tuple[Layer, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Span:
    """What one layer does in one band.

    Parameters
    ----------
    first, last
        The rows of the operand that are read: from `first` up to, not including, `last`.
    above, beneath
        Rows beside the picture that the windows reach.
    begin, end
        The rows of the result that are computed.
    """

    first: int
    last: int
    above: int
    beneath: int
    begin: int
    end: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What the code depends on: rows read, beside the picture, and written."""
        return self.last - self.first, self.above, self.beneath, self.end - self.begin


def fits_bands(layer: Layer) -> bool:
    """Return whether a layer can be one of a chain."""
    if not isinstance(layer.op, Conv | DepthwiseConv | AveragePool | MaxPool):
        return False
    x, y = layer.input(0), layer.output
    return (
        x.dtype is y.dtype is DType.INT8
        and len(x.shape) == len(y.shape) == 4
        and x.shape[0] == 1
        and x.data is None
    )


def _reach(layer: Layer) -> int:
    """Return how many rows a window spans."""
    op = layer.op
    if isinstance(op, AveragePool | MaxPool):
        return op.window[0]
    assert isinstance(op, Conv | DepthwiseConv)
    return (layer.input(1).shape[1] - 1) * op.dilations[0] + 1


def schedule(layers: Sequence[Layer], rows: int) -> tuple[tuple[Span, ...], ...] | None:
    """Return what each layer does in each band; ``None`` where a window sees no picture."""
    bands = []
    height = layers[-1].output.shape[1]
    for at in range(0, height, rows):
        begin, end = at, min(at + rows, height)
        spans: list[Span] = []
        for layer in reversed(layers):
            op = layer.op
            assert isinstance(op, Conv | DepthwiseConv | AveragePool | MaxPool)
            top = begin * op.strides[0] - op.pads[0][0]
            bottom = (end - 1) * op.strides[0] - op.pads[0][0] + _reach(layer)
            first, last = max(top, 0), min(bottom, layer.input(0).shape[1])
            if first >= last:
                return None
            spans.append(Span(first, last, first - top, bottom - last, begin, end))
            begin, end = first, last
        bands.append(tuple(reversed(spans)))
    return tuple(bands)


def with_bands(program: Program, first: int, count: int, rows: int) -> Program:
    """Return the program with some steps as one, computed band by band."""
    steps = program.steps[first : first + count]
    layers = tuple(map(program.layer, steps))
    ends = [steps[k].layer.split(";")[0] for k in (0, -1)]  # layers that were fused in one
    name = " to ".join(ends)
    step = Step(Bands(layers, rows), steps[0].inputs[:1], steps[-1].outputs, name)
    return replace(
        program, steps=(*program.steps[:first], step, *program.steps[first + count :])
    )


def _part(layer: Layer, span: Span) -> Layer:
    """Return a layer of some rows."""
    x, y, op = layer.input(0), layer.output, layer.op
    assert isinstance(op, Conv | DepthwiseConv | AveragePool | MaxPool)
    rows, above, beneath, written = span.shape
    return Layer(
        replace(op, pads=((above, beneath), op.pads[1])),
        (_rows(x, rows), *layer.inputs[1:]),
        (_rows(y, written),),
        layer.name,
    )


def _rows(tensor: Tensor, rows: int) -> Tensor:
    return replace(tensor, shape=(1, rows, *tensor.shape[2:]))


def _row_bytes(tensor: Tensor) -> int:
    return tensor.size_bytes // tensor.shape[1]


@dataclass(slots=True)
class _Chain:
    """The code of a chain while it is put together.

    Parameters
    ----------
    tables
        By their names in the call.
    """

    layers: tuple[Layer, ...]
    choose: Chooser
    tables: dict[str, Table]
    functions: list[Code]
    tier: Tier = "portable"
    scratch: int = 0

    def band(self, spans: Sequence[Span], x: str, y: str) -> str | None:
        """Return the statements of one kind of bands, as a format.

        Parameters
        ----------
        x, y
            Pointers to the first rows that are read and written.
        """
        codes = []
        for layer, span in zip(self.layers, spans, strict=True):
            found = self.choose(_part(layer, span))
            if found is None:
                return None
            code, tier = found
            self.tier = self.tier if tier == "portable" else tier
            codes.append(code)
        places, size = _places(self.layers, spans, codes)
        self.scratch = max(self.scratch, size)
        self.functions += codes
        text = ""
        for k, (layer, code) in enumerate(zip(self.layers, codes, strict=True)):
            fields = {"x0": places.get(f"rows {k - 1}", x), "y0": places.get(f"rows {k}", y)}
            fields["scratch"] = places.get(f"scratch {k}", "{scratch}")
            for key, table in tables_of(layer, code).items():
                fields[key] = f"{{{self._table(f'{k}_{key}', table)}}}"
            # Braces of C stay doubled: this is a format again.
            doubled = code.call.replace("{{", "{{{{").replace("}}", "}}}}")
            text += f"{{{{\n{indent(doubled.format(**fields), '    ')}\n}}}}\n"
        return text

    def _table(self, name: str, table: Table) -> str:
        """Return the name of a table, of another band's if that is the same."""
        turn = 0
        while known := self.tables.get(found := f"t{name}_{turn}" if turn else f"t{name}"):
            same = known.array.dtype == table.array.dtype and known.align == table.align
            if same and known.array.tobytes() == table.array.tobytes():
                return found
            turn += 1
        self.tables[found] = table
        return found


def _places(
    layers: Sequence[Layer], spans: Sequence[Span], codes: Sequence[Code]
) -> tuple[dict[str, str], int]:
    """Return pointers to what a band works in, and how many bytes that is."""
    buffers, overlays = [], []
    for k, (layer, span, code) in enumerate(zip(layers, spans, codes, strict=True)):
        if code.scratch:
            buffers.append(Buffer(f"scratch {k}", code.scratch, k, k))
        if k + 1 < len(layers):
            size = _row_bytes(layer.output) * (span.end - span.begin)
            buffers.append(Buffer(f"rows {k}", size, k, k + 1))
            if k > 0 and (0 in code.slack or 0 in code.in_place):
                exact = 0 not in code.slack
                slack = 0 if exact else code.slack[0]
                overlays.append(Overlay(f"rows {k}", f"rows {k - 1}", slack, exact))
    plan = place(buffers, overlays)
    return {name: f"({{scratch}} + {at})" for name, at in plan.offsets.items()}, plan.size


def bands_code(layer: Layer, choose: Chooser) -> tuple[Code, Tier] | None:
    """Return the code of a chain; ``None`` if there is none for some of its layers."""
    op = layer.op
    assert isinstance(op, Bands)
    bands = schedule(op.layers, op.rows)
    if bands is None:
        return None
    chain = _Chain(op.layers, choose, {}, [])
    read, written = _row_bytes(layer.input(0)), _row_bytes(layer.output)
    text = ""
    own = done = 0
    aligned = True
    for group in _groups(bands):
        spans, at = group[0], len(chain.functions)
        x, y = read * spans[0].first, written * spans[-1].begin
        step = op.rows * written
        stride = read * (group[1][0].first - spans[0].first) if len(group) > 1 else 0
        aligned &= x % 4 == y % 4 == stride % 4 == 0 and (len(group) == 1 or step % 4 == 0)
        by = [f" + {stride} * band", f" + {step} * band"] if len(group) > 1 else ["", ""]
        part = chain.band(spans, f"({{x0}} + {x}{by[0]})", f"({{y0}} + {y}{by[1]})")
        if part is None:
            return None
        for k, code in enumerate(chain.functions[at:]):
            done += code.macs * len(group)
            rows = spans[k].end - spans[k].begin
            # Every row is as much work as any other.
            own += code.macs // rows * op.layers[k].output.shape[1] if at == 0 else 0
        if len(group) > 1:
            head = f"for (int32_t band = 0; band < {len(group)}; band++) {{{{"
            part = f"{head}\n{indent(part, '    ')}}}}}\n"
        begin, end = spans[-1].begin, group[-1][-1].end
        text += f"/* Rows {begin} to {end - 1} of the result, {op.rows} at a time. */\n{part}"
    if not aligned and chain.tier != "portable":
        return None  # these kernels read words, and rows do not start at any
    code = Code(
        text.rstrip(),
        tuple(f for code in chain.functions for f in code.functions),
        chain.tables,
        scratch=chain.scratch,
        slack={0: _slack(bands, layer.input(0).size_bytes, read, written)},
        macs=own,
        repeated=done - own,
    )
    return code, chain.tier


def _groups(
    bands: Sequence[tuple[Span, ...]],
) -> Iterator[list[tuple[Span, ...]]]:
    """Yield runs of bands that differ only in where they are.

    They are at equal distances: what of a window lies beside the picture is the same.
    """
    group: list[tuple[Span, ...]] = []
    for band in bands:
        same = bool(group) and [s.shape for s in band] == [s.shape for s in group[0]]
        if group and not same:
            yield group
            group = []
        group.append(band)
    if group:
        yield group


def _slack(bands: Sequence[tuple[Span, ...]], size: int, read: int, written: int) -> int:
    """Return how far behind its operand's start the result of a chain may start.

    The first layer has read its rows of a band before the last one writes; what later bands
    read has to be there still.
    """
    least = size
    needed = size
    for before, band in zip(bands[-2::-1], bands[:0:-1], strict=True):
        needed = min(needed, band[0].first * read)
        least = min(least, needed - before[-1].end * written)
    return least


def rows_done(layers: Sequence[Layer], bands: Sequence[Sequence[Span]]) -> Mapping[int, int]:
    """Return how many rows of each layer's result are computed, those done again included."""
    return {k: sum(band[k].end - band[k].begin for band in bands) for k in range(len(layers))}
