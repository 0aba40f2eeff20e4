"""Damaged files are read as programs that make sense, or refused: no crash, no long wait."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.microcontrollers.mutations import mutations
from edgec.errors import ModelError, UnsupportedError
from edgec.program.checking import faults_of
from edgec.program.reading import parse_program
from tests.program.files import FILES, MODELS, Sketch

SMALL = [path for path in FILES if path.stat().st_size < 100_000]
needs_data = pytest.mark.skipif(not FILES, reason=f"no .tflite in {MODELS}; set EDGEC_DATA")


def fates(data: bytes, seed: int, count: int) -> Counter[str]:
    """What becomes of damaged forms of a file."""
    found: Counter[str] = Counter()
    for changed in mutations(data, seed, count):
        start = time.process_time()
        try:
            program = parse_program(changed, "net")
        except (ModelError, UnsupportedError) as error:
            told = bool(error.diagnostics) or "is not a TFLite file" in error.summary
            found["silent"] += not told
            found["refused"] += 1
        else:
            assert faults_of(program) == ([], True)
            found["read"] += 1
        assert time.process_time() - start < 5  # it is some milliseconds
    assert not found["silent"]
    return found


@needs_data
@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_damaged_real_files(path: Path) -> None:
    found = fates(path.read_bytes(), seed=1, count=80)

    assert found["refused"] > 20
    assert found["read"] > 5


def test_damaged_small_files() -> None:
    s = Sketch()
    x, y, z = s.input(1, 6, 6, 3), s.value(1, 6, 6, 4), s.value(1, 2, 2, 4)
    w, b, one = s.weights(4, 3, 3, 3, axis=0), s.bias(4), {"strideH": 1, "strideW": 1}
    dilated = {**one, "dilationHFactor": 1, "dilationWFactor": 1}
    s.op("CONV_2D", [x, w, b], [y], "Conv2D", dilated)
    size = {"strideH": 3, "strideW": 3, "filterHeight": 3, "filterWidth": 3}
    s.op("AVERAGE_POOL_2D", [y], [z], "Pool2D", size)

    found = fates(s.data(z), seed=2, count=300)

    assert found["refused"] > 100
    assert found["read"] > 5


def test_the_same_seed_damages_alike() -> None:
    s = Sketch()
    x, y = s.input(1, 6), s.value(1, 6)
    s.op("RELU", [x], [y])
    data = s.data(y)

    first, second = (list(mutations(data, 3, 40)) for _ in range(2))

    assert first == second
    assert len(set(first)) > 30
    assert first != list(mutations(data, 4, 40))


@pytest.mark.parametrize("axes", [7, 200])
def test_many_axes_are_refused(axes: int) -> None:
    s = Sketch()
    x, y = s.input(*[1] * axes), s.value(*[1] * axes)
    s.op("RELU", [x], [y])

    with pytest.raises(ModelError, match=f"has {axes} axes"):
        parse_program(s.data(y), "net")


def test_more_numbers_than_memory_are_refused() -> None:
    s = Sketch()
    x, y = s.input(2**31 - 1, 2**31 - 1), s.value(2**31 - 1, 2**31 - 1)
    s.op("RELU", [x], [y])

    with pytest.raises(ModelError, match="which nothing holds"):
        parse_program(s.data(y), "net")
