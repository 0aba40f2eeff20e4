"""Fully connected layers: one row of inputs, eight filters at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.program import Layer
from edgec.program.operators import FullyConnected
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.kernels.base import Code, Function
from edgec.targets.microcontroller.kernels.dsp.assembly import Assembly, Output
from edgec.targets.microcontroller.kernels.dsp.expand import expand
from edgec.targets.microcontroller.kernels.dsp.gemm import fits_raw_words, interleaved
from edgec.targets.microcontroller.kernels.dsp.sums import Ints, Sums
from edgec.targets.microcontroller.kernels.dsp.tiling import layer_function, slack_of

__all__ = ["dense", "dense_code"]

_MOST = 8
_UNROLLED = 8


def dense(layer: Layer, core: Core) -> Code | None:
    """All inputs are expanded, then read once for every eight filters."""
    if "dsp" not in core.tiers or not isinstance(layer.op, FullyConnected):
        return None
    sums = Sums.of(layer)
    if sums is None or sums.weights.ndim != 2:
        return None
    depth = sums.weights.shape[1]
    if depth == 0 or layer.input(0).size % depth:
        return None
    return dense_code(sums, layer.input(0).size // depth)


@dataclass(frozen=True, slots=True)
class Group:
    """The function for groups of up to eight filters: ``(weights, columns, output, groups)``.

    Parameters
    ----------
    filters
        An even number.
    stored
        How many of them: all, or all but the last.
    depth
        Words of two inputs that a sum has; even.
    """

    filters: int
    stored: int
    depth: int
    output: Output
    raw: bool

    @property
    def name(self) -> str:
        """It says all that the code depends on."""
        raw = "" if self.raw else "_unpacked"
        return f"$dense_{self.stored}_k{2 * self.depth}_{self.output.label}{raw}"

    @property
    def words(self) -> int:
        """Of a group in the table."""
        return self.filters + self.depth * self.filters // 2 + self.filters * self.output.words

    def function(self) -> Function:
        """Return the code."""
        about = f"inputs with {self.filters} filters at a time, whose sums are r4 to r11"
        asm = Assembly(self.name, 16, about)
        # On the stack: output, end of the columns, columns, how many groups are left.
        asm("strd r2, r3, [sp]", "str r1, [sp, #8]", "mov r2, r1")
        asm.advance("r2", 4 * self.depth)
        asm("str r2, [sp, #12]")
        totals = [f"r{4 + k}" for k in range(self.filters)]
        asm("1:", f"ldm r0!, {{{', '.join(totals)}}}")
        steps = next(n for n in range(min(_UNROLLED, self.depth), 0, -1) if self.depth % n == 0)
        loops = steps < self.depth
        if loops:
            asm("2:")
        for _ in range(steps):
            self._step(asm, totals)
        if loops:
            asm("ldr r3, [sp, #12]", "cmp r1, r3", "bne 2b")
        asm("ldr r1, [sp]")
        for k, total in enumerate(totals):
            if k % 2 and self.raw:
                asm(f"sub {total}, {total}, {totals[k - 1]}")
        for k, total in enumerate(totals):
            group = k % 2 if self.raw else 0
            self.output.channel(asm, [total], group, ("r12", "lr", "r3"))
            if k < self.stored:
                asm(f"strb {total}, [r1], #1")
        asm("ldr r3, [sp, #4]", "str r1, [sp]", "ldr r1, [sp, #8]")
        asm("subs r3, r3, #1", "str r3, [sp, #4]", "bne 1b")
        return asm.function(
            f"void {self.name}(const uint32_t *weights, const uint32_t *columns,\n"
            "    int8_t *output, int32_t groups)"
        )

    def _step(self, asm: Assembly, totals: list[str]) -> None:
        asm("ldr r2, [r1], #4")
        for start in range(0, self.filters, 4):
            words = ["r12", "lr"][: (self.filters - start) // 2]
            load = "ldrd r12, lr" if len(words) == 2 else "ldr r12"
            asm(f"{load}, [r0], #{4 * len(words)}")
            for k, word in enumerate(words):
                first, second = totals[start + 2 * k], totals[start + 2 * k + 1]
                asm(f"sxtb16 r3, {word}", f"smlad {first}, r2, r3, {first}")
                if not self.raw:
                    asm(f"sxtb16 {word}, {word}, ror #8")
                asm(f"smlad {second}, r2, {word}, {second}")


def dense_code(sums: Sums, rows: int) -> Code | None:
    """Return the code for rows of inputs, each times all filters."""
    inputs = sums.weights.reshape(sums.filters, -1).shape[1]
    depth = -(-inputs // 4) * 2
    odd = sums.filters % 2
    weights = np.pad(
        sums.weights.reshape(sums.filters, -1), ((0, odd), (0, 2 * depth - inputs))
    )
    columns = interleaved(weights)
    raw = fits_raw_words(columns)
    rescaling = sums.rescaling((1, 256)) if raw else None
    if rescaling is None:
        raw, rescaling = False, sums.rescaling((1,))
    if rescaling is None:
        return None
    output = Output.of(rescaling)
    whole, rest = divmod(sums.filters, _MOST)
    groups = [(Group(_MOST, _MOST, depth, output, raw), whole)] if whole else []
    if rest:
        groups.append((Group(rest + rest % 2, rest, depth, output, raw), 1))
    biases = np.pad(sums.biases_with(rescaling), (0, odd))
    constants = np.array([*rescaling.words, *(rescaling.words[-1:] * odd)], np.int64)
    stream: list[Ints] = []
    start = 0
    for group, count in groups:
        for _ in range(count):
            part = slice(start, start + group.filters)
            stream.append(_stream(columns[part], biases[part], constants[part], raw=raw))
            start += group.filters
    driver = _driver(groups, inputs, rows, sums.filters)
    turns = [(inputs * row, sums.filters * row) for row in range(1, rows + 1)]
    return Code(
        f"{driver.name}({{x0}}, {{y0}}, {{weights}}, {{scratch}});",
        (driver,),
        {"weights": sums.table(np.concatenate(stream), rescaling)},
        scratch=4 * depth,
        # A row is read as a whole before its results are written.
        slack={0: slack_of(rows * inputs, turns)},
        macs=rows * inputs * sums.filters,
    )


def _stream(weights: Ints, biases: Ints, constants: Ints, *, raw: bool) -> Ints:
    """Return one group's biases, weights and constants."""
    first, second = weights[0::2], weights[1::2]
    starts = biases.copy()
    if raw:
        lanes = (256 * second + first) & 0xFFFF
        starts[1::2] = 256 * biases[1::2] + biases[0::2]
    else:
        lanes = (second & 0xFF) << 8 | (first & 0xFF)
    words = lanes[:, 0::2] | lanes[:, 1::2] << 16
    return np.concatenate([starts, words.T.ravel(), constants.ravel()])


def _driver(groups: list[tuple[Group, int]], inputs: int, rows: int, filters: int) -> Function:
    whole, rest = inputs // 4 * 4, inputs % 4
    lines = ["uint32_t *columns = (uint32_t *)(void *)scratch;"]
    body = []
    if whole:
        body.append(f"$expand_1(input, 0, columns, {whole});")
    if rest:
        body += [
            "int8_t last[4] = {0};",
            *(f"last[{k}] = input[{whole + k}];" for k in range(rest)),
            f"$expand_1(last, 0, columns + {whole // 2}, 4);",
        ]
    done, stored = 0, 0
    for group, count in groups:
        at = f"weights + {done}" if done else "weights"
        to = f"output + {stored}" if stored else "output"
        body.append(f"{group.name}({at}, columns, {to}, {count});")
        done, stored = done + group.words * count, stored + group.stored * count
    if rows > 1:
        body += [f"input += {inputs};", f"output += {filters};"]
        inner = "\n".join(f"    {line}" for line in body)
        lines.append(f"for (int32_t row = 0; row < {rows}; row++) {{\n{inner}\n}}")
    else:
        lines += body
    label = "_".join(group.name.removeprefix("$dense_") for group, _ in groups)
    name = f"$matrix_{rows}x{inputs}x{filters}_{label}"
    text = "\n".join(lines)
    return layer_function(
        name,
        "Inputs are expanded once, then multiplied with all filters.",
        text,
        (expand(1), *(group.function() for group, _ in groups)),
    )
