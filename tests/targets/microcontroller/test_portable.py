"""Each operator in portable C equals TFLite Micro, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgec.ir import Array
from edgec.program.reading import parse_program
from edgec.targets.microcontroller import Core
from edgec.targets.microcontroller.generate import generate
from tests.targets.microcontroller.host import ANY_CORE, FLAGS, compiled, expected, zig
from tests.targets.microcontroller.operator_files import FAMILIES, REAL_FAMILY, feeds

RUNS = 3


SMALL = ("-D__ARM_ARCH_6M__=1",)
"""What compilers for the smallest cores define: they lack long products."""


def results(
    files: list[bytes], folder: Path, core: Core = ANY_CORE, flags: Sequence[str] = ()
) -> Iterator[tuple[str, Array, Array]]:
    """Yield a place in the list, what the generated code computes, and what the oracle does."""
    programs = [parse_program(data, f"case_{k}") for k, data in enumerate(files)]
    models = [generate(program, core) for program in programs]
    library = compiled(models, folder, *flags)
    for data, program, model in zip(files, programs, models, strict=True):
        runs = [feeds(program, seed) for seed in range(RUNS)]
        wanted = expected(data, runs, len(program.outputs))
        for inputs, outputs in zip(runs, wanted, strict=True):
            for got, want in zip(library.run(model, inputs), outputs, strict=True):
                yield program.name, got.ravel(), want.ravel()


@pytest.mark.parametrize("family", FAMILIES)
def test_integers_equal_the_oracle(family: str, tmp_path: Path) -> None:
    for case, got, want in results(FAMILIES[family], tmp_path):
        assert np.array_equal(got, want), case


@pytest.mark.parametrize("family", ["conv", "depthwise", "dense"])
def test_other_loops_for_other_cores_equal_the_oracle(family: str, tmp_path: Path) -> None:
    core = Core("cortex-m3", ("portable",))
    for case, got, want in results(FAMILIES[family], tmp_path, core):
        assert np.array_equal(got, want), case


@pytest.mark.parametrize("family", ["conv", "depthwise", "dense"])
def test_products_of_halves_equal_the_oracle(family: str, tmp_path: Path) -> None:
    for case, got, want in results(FAMILIES[family], tmp_path, flags=SMALL):
        assert np.array_equal(got, want), case


def test_real_numbers_equal_the_oracle_but_for_the_last_digits(tmp_path: Path) -> None:
    for case, got, want in results(REAL_FAMILY, tmp_path):
        assert np.allclose(got, want, rtol=2e-6, atol=2e-6), case


def test_all_kernels_are_plain_c_that_is_cpp_too(tmp_path: Path) -> None:
    families = {**FAMILIES, "real": REAL_FAMILY}
    together = []
    for family, files in families.items():
        for k, data in enumerate(files):
            model = generate(parse_program(data, f"{family}_{k}"), ANY_CORE)
            for name, text in model.files.items():
                (tmp_path / name).write_text(text)
                if name.endswith(".c"):
                    together.append(f'#include "{name}"')
                headers = set(re.findall(r"#include (\S+)", text))
                assert headers <= {"<stdint.h>", "<stddef.h>", f'"{model.prefix}.h"'}
    (tmp_path / "all.cc").write_text("\n".join(together) + "\n")

    out = str(tmp_path / "out.o")
    zig("c++", *FLAGS[1:], "-O0", "-c", str(tmp_path / "all.cc"), "-o", out)
