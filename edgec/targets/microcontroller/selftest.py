"""A program that runs a generated model on golden inputs, on the board or anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.errors import OptionError
from edgec.ir import Array
from edgec.targets.microcontroller.files import Place
from edgec.targets.microcontroller.generate import Generated
from edgec.targets.microcontroller.writing import lines_of, numbers

__all__ = ["Golden", "golden_text", "main_text"]


@dataclass(frozen=True, slots=True)
class Golden:
    """One run that is known to be right, from a state that was just reset."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


def golden_text(generated: Generated, golden: Golden) -> str:
    """Return a header with the golden run, and a function that repeats and compares it.

    Raises
    ------
    OptionError
        If the golden run is not of this model.
    """
    prefix = generated.prefix
    _check(generated.inputs, golden.inputs, "inputs")
    _check(generated.outputs, golden.outputs, "outputs")
    parts = [
        f"/* A run of {prefix} that is known to be right. This code is yours. */\n",
        f"#ifndef {prefix.upper()}_GOLDEN_H\n#define {prefix.upper()}_GOLDEN_H\n",
        f'#include "{prefix}.h"\n',
    ]
    for word, places, arrays in (
        ("input", generated.inputs, golden.inputs),
        ("output", generated.outputs, golden.outputs),
    ):
        for k, (place, array) in enumerate(zip(places, arrays, strict=True)):
            flat = np.ascontiguousarray(array).reshape(-1)
            parts.append(
                f"static const {place.ctype} {prefix}_golden_{word}_{k}[{flat.size}] = {{\n"
                f"{lines_of(numbers(flat))}\n}};\n"
            )
    if generated.reentrant:
        parts.append(
            f"static union {{\n    int8_t bytes[{prefix.upper()}_ARENA_BYTES];\n"
            f"    int64_t aligned;\n}} {prefix}_golden_arena;\n"
        )
    parts += [_test(generated), "#endif\n"]
    return "\n".join(parts)


def _check(places: Sequence[Place], arrays: Sequence[Array], what: str) -> None:
    given = [(a.size, a.dtype) for a in arrays]
    wanted = [(p.tensor.size, p.tensor.dtype.numpy) for p in places]
    if given != wanted:
        raise OptionError(f"the golden {what} are not those of the model")


def _test(generated: Generated) -> str:
    """Return the function that feeds, runs and compares."""
    prefix = generated.prefix
    arena = f"{prefix}_golden_arena.bytes" if generated.reentrant else ""

    def place(word: str, k: int, count: int) -> str:
        arguments = [arena] if arena else []
        if count > 1:
            arguments.append(str(k))
        return f"{prefix}_{word}({', '.join(arguments)})"

    lines: list[str] = []
    if generated.keeps_state:
        lines.append(f"{prefix}_reset({arena});")
    for k, given in enumerate(generated.inputs):
        at = place("input", k, len(generated.inputs))
        lines += [
            f"{given.ctype} *const input_{k} = ({given.ctype} *){at};",
            f"for (size_t i = 0; i < {given.tensor.size}; i++) {{",
            f"    input_{k}[i] = {prefix}_golden_input_{k}[i];",
            "}",
        ]
    lines.append(f"{prefix}_run({arena});")
    for k, result in enumerate(generated.outputs):
        at = place("output", k, len(generated.outputs))
        differs = f"output_{k}[i] != {prefix}_golden_output_{k}[i]"
        if result.ctype == "float":
            # Boards may fuse products and sums, which rounds once less.
            lines += [f"const float *const output_{k} = (const float *){at};"]
            lines += [
                f"for (size_t i = 0; i < {result.tensor.size}; i++) {{",
                f"    const float want = {prefix}_golden_output_{k}[i];",
                "    const float room = 1e-4f * (want < 0.0f ? 1.0f - want : 1.0f + want);",
                f"    const float off = output_{k}[i] - want;",
                "    wrong += off <= room && off >= -room ? 0 : 1;",
                "}",
            ]
            continue
        lines += [
            f"const {result.ctype} *const output_{k} = (const {result.ctype} *){at};",
            f"for (size_t i = 0; i < {result.tensor.size}; i++) {{",
            f"    wrong += {differs} ? 1 : 0;",
            "}",
        ]
    body = "\n".join(f"    {line}" for line in lines)
    return (
        "/* How many numbers of the output differ from the golden run. */\n"
        f"static int32_t {prefix}_selftest(void)\n{{\n    int32_t wrong = 0;\n{body}\n"
        "    return wrong;\n}\n"
    )


def main_text(generated: Generated) -> str:
    """Return ``main.c``, which needs no standard library: the exit code is 0 if all is right.

    What it found is told to a function that users may replace to print it.
    """
    prefix = generated.prefix
    return f"""\
/* The self-test of {prefix}: runs it on golden inputs. This code is yours. */

#include "{prefix}_golden.h"

#if defined(__GNUC__) || defined(__clang__)
#define WEAK __attribute__((weak))
#else
#define WEAK
#endif

#ifdef __cplusplus
extern "C" {{
#endif
void {prefix}_selftest_done(int32_t wrong);
#ifdef __cplusplus
}}
#endif

/* Define a function of this name elsewhere to print, blink, or stop here with a debugger:
   `wrong` is how many numbers of the output are not what they should be. */
WEAK void {prefix}_selftest_done(int32_t wrong)
{{
    (void)wrong;
}}

int main(void)
{{
    const int32_t wrong = {prefix}_selftest();
    {prefix}_selftest_done(wrong);
    return wrong == 0 ? 0 : 1;
}}
"""
