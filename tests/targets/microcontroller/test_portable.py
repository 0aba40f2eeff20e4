"""Each operator in portable C equals TFLite Micro, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.program.reading import parse_program
from edgec.targets.microcontroller.generate import generate
from tests.targets.microcontroller.host import ANY_CORE, compiled, expected
from tests.targets.microcontroller.operator_files import FAMILIES, feeds

RUNS = 3


@pytest.mark.parametrize("family", FAMILIES)
def test_operators_equal_the_oracle(family: str, tmp_path: Path) -> None:
    files = FAMILIES[family]
    programs = [parse_program(data, f"case_{k}") for k, data in enumerate(files)]
    models = [generate(program, ANY_CORE) for program in programs]
    library = compiled(models, tmp_path)

    for k, (data, program, model) in enumerate(zip(files, programs, models, strict=True)):
        runs = [feeds(program, seed) for seed in range(RUNS)]
        wanted = expected(data, runs, len(program.outputs))
        for inputs, outputs in zip(runs, wanted, strict=True):
            for got, want in zip(library.run(model, inputs), outputs, strict=True):
                assert np.array_equal(got.ravel(), want.ravel()), f"{family} {k}"
