"""Kernels for cores with the DSP extension, layer by layer on an emulated Cortex-M4."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.program import Layer
from edgec.program.operators import Activation
from edgec.targets.microcontroller.kernels import Code
from edgec.targets.microcontroller.kernels.dsp import KERNELS
from tests.targets.microcontroller.cortex import M4, run
from tests.targets.microcontroller.dsp_layers import (
    Shape,
    conv_layer,
    dense_layer,
    expected,
    random_inputs,
)


def code_of(layer: Layer) -> Code:
    found = next((code for kernel in KERNELS if (code := kernel(layer, M4)) is not None), None)
    assert found is not None, "there is no kernel for this layer"
    for table in found.tables.values():
        assert sum(table.kinds.values()) == table.array.nbytes
        assert min(table.kinds.values()) >= 0
    return found


def check(layer: Layer) -> int:
    """Compare a layer with the exact result, apart and over its operand; count it."""
    code, xs = code_of(layer), random_inputs(layer)
    wanted = expected(layer, xs[0])
    apart = run(code, layer, xs)

    assert np.array_equal(apart.output, wanted)
    assert len(np.unique(wanted)) >= min(wanted.size // 4, 8), "this layer says too little"
    if 0 in code.slack:
        over = run(code, layer, xs, where=code.slack[0] // 8 * 8)
        assert np.array_equal(over.output, wanted), "the slack is not true"
    return apart.instructions


POINTWISE = [
    Shape(5, 5, 16, 8),  # six tiles of four and one of one
    Shape(3, 3, 8, 6, activation="none"),  # three of three
    Shape(2, 3, 36, 4),  # 18 words: two before the loop of eight steps
    Shape(1, 3, 64, 4),
    Shape(2, 1, 4, 2),
    Shape(4, 8, 8, 5),  # an odd number of filters
    Shape(6, 9, 8, 4, strides=(2, 2)),
    Shape(7, 7, 4, 4, strides=(3, 2), activation="none"),
    Shape(2, 2, 8, 4, least=-128),
    Shape(2, 2, 40, 4, least=-128, activation="none"),
    Shape(1, 1, 24, 10, activation="none"),  # one pixel: a matrix product
    Shape(4, 4, 8, 4, activation="relu6"),
]


@pytest.mark.parametrize("shape", POINTWISE, ids=str)
def test_pointwise(shape: Shape) -> None:
    check(conv_layer(shape))


@pytest.mark.parametrize(
    ("rows", "inputs", "filters", "activation"),
    [
        (1, 64, 16, "relu"),
        (1, 64, 8, "none"),
        (1, 8, 3, "none"),
        (1, 30, 10, "relu"),
        (1, 3, 1, "none"),
        (1, 17, 12, "relu"),
        (3, 20, 7, "none"),
    ],
)
def test_dense(rows: int, inputs: int, filters: int, activation: Activation) -> None:
    check(dense_layer(rows, inputs, filters, activation))


def test_weights_that_do_not_fit_the_raw_word_are_unpacked() -> None:
    layer = dense_layer(1, 16, 4, least=-128)
    data = layer.input(1).data
    assert data is not None
    data[0], data[1] = -1, -128
    names = {name for f in code_of(layer).functions for name in (n.name for n in f.needs)}

    assert any(name.endswith("_unpacked") for name in names)
    check(layer)


def test_an_instruction_a_multiply_accumulate() -> None:
    shape = Shape(6, 6, 64, 64)
    assert check(conv_layer(shape)) < 0.9 * 36 * 64 * 64
    assert check(dense_layer(1, 128, 64, "relu")) < 1.05 * 128 * 64


def test_equal_shapes_share_functions() -> None:
    codes = [code_of(conv_layer(Shape(4, 4, 16, 16), seed)) for seed in range(3)]
    assert len({code.functions for code in codes}) == 1
