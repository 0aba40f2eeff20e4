"""Kernels for cores with the DSP extension, layer by layer on an emulated Cortex-M4."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgec.program import Layer
from edgec.program.operators import Activation, Add
from edgec.targets.microcontroller.kernels import Code, Function
from edgec.targets.microcontroller.kernels.dsp import KERNELS, tiling
from edgec.targets.microcontroller.kernels.dsp.addition import exact_sums
from edgec.targets.microcontroller.kernels.portable import KERNELS as PORTABLE
from edgec.targets.microcontroller.writing import all_functions
from tests.targets.microcontroller.cortex import M4, run
from tests.targets.microcontroller.dsp_layers import (
    Shape,
    add_layer,
    conv_layer,
    dense_layer,
    expected,
    random_inputs,
    sum_of,
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
    overs = [code.slack[0] // 8 * 8] if 0 in code.slack else []
    overs += [0] if 0 in code.in_place else []
    apart, *over = run(code, layer, xs, (None, *overs))

    assert np.array_equal(apart.output, wanted)
    assert len(np.unique(wanted)) >= min(wanted.size // 4, 8), "this layer says too little"
    for ran in over:
        assert np.array_equal(ran.output, wanted), "the result may not lie there"
    return apart.instructions


POINTWISE = [
    Shape(5, 5, 16, 8),  # six tiles of four and one of one
    Shape(3, 3, 8, 6, activation="none"),  # three of three
    Shape(2, 3, 36, 4),  # 18 words: two before the loop of eight steps
    Shape(5, 5, 32, 4),  # 16 words: the loop is entered behind its first step
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


SAME = ((1, 1), (1, 1))

ROWS = [
    Shape(6, 8, 4, 4, (3, 3), pads=SAME),
    Shape(5, 7, 8, 6, (3, 3), pads=SAME, activation="none"),  # tiles of four and of three
    Shape(6, 6, 4, 5, (3, 3)),  # no padding, odd filters
    Shape(8, 8, 8, 4, (3, 3), (2, 2), ((0, 1), (0, 1))),
    Shape(9, 7, 4, 4, (3, 3), (2, 2), SAME, activation="none"),
    Shape(7, 9, 12, 2, (5, 3), (1, 2), ((2, 2), (1, 0))),
    Shape(9, 4, 4, 4, (5, 1), pads=((2, 2), (0, 0))),
    Shape(4, 9, 4, 4, (1, 7), (1, 2), ((0, 0), (3, 3))),
    Shape(2, 2, 8, 4, (3, 3), pads=((2, 2), (2, 2))),  # rows wholly beside the picture
    Shape(6, 5, 16, 4, (2, 2), (2, 2), ((0, 0), (0, 1)), least=-128),
    Shape(5, 12, 4, 4, (3, 3), (1, 1), ((1, 1), (0, 0))),
]

FIRST = [
    Shape(8, 8, 3, 4, (3, 3), (2, 2), ((0, 1), (0, 1))),
    Shape(7, 8, 3, 4, (3, 3), (1, 1), SAME, activation="none"),
    Shape(13, 10, 1, 6, (10, 4), (2, 2), ((4, 4), (1, 1))),  # the picture as a whole
    Shape(9, 5, 1, 3, (3, 3), pads=SAME),
    Shape(6, 8, 1, 4, (5, 5), pads=((2, 2), (2, 2))),  # one byte left of each of five rows
    Shape(6, 8, 2, 4, (3, 3), pads=SAME),  # two bytes left
    Shape(5, 7, 5, 4, (2, 3), (1, 2)),  # three bytes left
    Shape(40, 30, 3, 2, (3, 3), (2, 2)),
    Shape(8, 4, 6, 4, (1, 1)),
]

GATHERED = [
    Shape(9, 9, 4, 4, (3, 3), pads=((2, 2), (2, 2)), dilations=(2, 2)),
    Shape(10, 11, 8, 3, (3, 3), (3, 3), ((1, 1), (0, 2))),
    Shape(8, 6, 3, 4, (3, 2), (1, 1), ((2, 2), (1, 1)), (2, 2), "none"),
    Shape(9, 5, 3, 4, (2, 2), (3, 2), ((0, 0), (0, 0))),
    Shape(5, 5, 4, 4, (1, 1), (1, 1), SAME),
    Shape(6, 1, 8, 4, (3, 1)),
]

DEPTHWISE = [
    Shape(6, 6, 4, 4, (3, 3), pads=SAME, depthwise=True),
    Shape(5, 5, 8, 8, (3, 3), pads=SAME, activation="none", depthwise=True),
    Shape(7, 4, 4, 4, (3, 3), pads=SAME, activation="relu6", depthwise=True),
    Shape(1, 1, 4, 4, (3, 3), pads=SAME, depthwise=True),
    Shape(3, 2, 8, 8, (3, 3), pads=SAME, depthwise=True),
    Shape(8, 8, 4, 4, (3, 3), (2, 2), ((0, 1), (0, 1)), depthwise=True),
    Shape(9, 7, 4, 4, (3, 3), (2, 2), SAME, activation="none", depthwise=True),
    Shape(6, 5, 4, 4, (3, 3), depthwise=True),
    Shape(4, 4, 260, 260, (3, 3), pads=SAME, depthwise=True),  # steps beyond offsets
    Shape(4, 20, 256, 256, (3, 3), (1, 1), ((1, 1), (1, 1)), depthwise=True),
    Shape(4, 6, 4, 4, (3, 3), (1, 1), ((2, 2), (2, 2)), depthwise=True),
    Shape(3, 130, 4, 4, (3, 3), pads=SAME, depthwise=True),  # planes further apart than LDRD
    Shape(6, 6, 4, 4, (3, 3), (2, 2), ((0, 0), (0, 0)), depthwise=True, least=-128),
]


TAPS = [
    Shape(6, 5, 8, 8, (5, 5), pads=((2, 2), (2, 2)), depthwise=True),
    Shape(9, 1, 12, 12, (3, 1), depthwise=True, activation="none"),
    Shape(9, 7, 4, 4, (3, 3), pads=((2, 2), (2, 2)), dilations=(2, 2), depthwise=True),
    Shape(8, 9, 4, 4, (2, 3), (1, 2), ((1, 0), (1, 1)), depthwise=True, activation="relu6"),
    Shape(7, 7, 4, 4, (7, 7), depthwise=True, least=-128),
    Shape(10, 10, 4, 4, (3, 3), (3, 3), depthwise=True),
]

MULTIPLE = [
    Shape(6, 6, 8, 16, (3, 3), pads=SAME, depthwise=True),
    Shape(12, 7, 4, 12, (3, 3), pads=SAME, activation="none", depthwise=True),
    Shape(11, 6, 16, 80, (3, 3), pads=SAME, depthwise=True),
    Shape(12, 5, 8, 24, (3, 3), (2, 2), ((0, 1), (0, 1)), depthwise=True),
    Shape(5, 6, 8, 16, (3, 3), (2, 2), ((1, 1), (1, 0)), activation="none", depthwise=True),
    Shape(6, 5, 5, 15, (3, 3), pads=SAME, activation="relu6", depthwise=True),  # four and one
    Shape(9, 4, 7, 14, (3, 3), (2, 2), SAME, activation="none", depthwise=True),
    Shape(5, 8, 3, 21, (3, 3), pads=SAME, depthwise=True),  # no four
    Shape(6, 7, 2, 10, (3, 3), (2, 2), ((0, 1), (0, 1)), depthwise=True, least=-128),
    Shape(4, 6, 4, 20, (3, 3), activation="none", depthwise=True),
    Shape(1, 1, 6, 12, (3, 3), pads=SAME, depthwise=True),
    Shape(2, 3, 5, 15, (3, 3), pads=((2, 2), (2, 2)), depthwise=True),
    Shape(2, 1, 3, 6, (3, 3), pads=((3, 0), (2, 2)), depthwise=True),  # rows beside the picture
    Shape(3, 30, 60, 180, (3, 3), pads=SAME, depthwise=True),  # rows beyond offsets of STRB
    Shape(3, 3, 4, 1028, (3, 3), pads=SAME, depthwise=True),
    Shape(3, 100, 4, 12, (3, 3), (2, 2), SAME, depthwise=True),
]

TAPS_MULTIPLE = [
    Shape(
        6, 5, 4, 8, (5, 5), pads=((2, 2), (2, 2)), depthwise=True
    ),  # 25 taps: pairs in memory
    Shape(9, 4, 3, 9, (3, 1), pads=((1, 1), (0, 0)), depthwise=True, activation="none"),
    Shape(3, 9, 5, 35, (1, 5), (1, 2), ((0, 0), (2, 2)), depthwise=True),
    Shape(7, 7, 2, 6, (3, 3), pads=((2, 2), (2, 2)), dilations=(2, 2), depthwise=True),
    Shape(8, 9, 4, 20, (3, 4), (1, 2), ((1, 0), (1, 1)), depthwise=True, activation="relu6"),
    Shape(6, 6, 6, 12, (4, 4), (2, 2), ((1, 1), (1, 1)), depthwise=True, activation="none"),
    Shape(8, 5, 3, 6, (3, 3), (2, 1), SAME, depthwise=True, least=-128),
    Shape(2, 260, 2, 4, (3, 3), pads=SAME, depthwise=True),  # rows too wide for planes
    Shape(3, 3, 6, 12, (1, 1), depthwise=True, activation="none"),
]


def kernel_of(layer: Layer) -> str:
    return next(str(getattr(k, "__name__", k)) for k in KERNELS if k(layer, M4) is not None)


@pytest.mark.parametrize("shape", POINTWISE, ids=str)
def test_pointwise(shape: Shape) -> None:
    assert kernel_of(conv_layer(shape)) == "pointwise"
    check(conv_layer(shape))


@pytest.mark.parametrize("shape", [*POINTWISE[:6], *FIRST[:3]], ids=str)
def test_tiles_of_one_layer(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that are large enough have tiles for their shape alone."""
    layer = conv_layer(shape)
    shared = {f.name for f in all_functions(code_of(layer).functions) if "tile" in f.name}
    monkeypatch.setattr(tiling, "_FEW", 0)
    monkeypatch.setattr(tiling, "_DEEP", 1000)
    own = {f.name for f in all_functions(code_of(layer).functions) if "tile" in f.name}

    assert not own & shared
    check(layer)


@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_rows(shape: Shape) -> None:
    assert kernel_of(conv_layer(shape)) == "conv_rows"
    check(conv_layer(shape))


@pytest.mark.parametrize("shape", FIRST, ids=str)
def test_first(shape: Shape) -> None:
    assert kernel_of(conv_layer(shape)) == "conv_first"
    check(conv_layer(shape))


@pytest.mark.parametrize("shape", GATHERED, ids=str)
def test_gathered(shape: Shape) -> None:
    assert kernel_of(conv_layer(shape)) == "conv_gathered"
    check(conv_layer(shape))


@pytest.mark.parametrize("shape", TAPS, ids=str)
def test_depthwise_taps(shape: Shape) -> None:
    assert kernel_of(conv_layer(shape)) == "depthwise_taps"
    check(conv_layer(shape))


@pytest.mark.parametrize(
    "shape",
    [
        Shape(8, 8, 1, 8, (3, 3), (2, 2), ((0, 1), (0, 1)), depthwise=True),
        Shape(9, 7, 1, 3, (5, 4), (2, 2), ((2, 2), (1, 1)), depthwise=True),
        Shape(5, 5, 1, 1, (3, 3), pads=SAME, activation="none", depthwise=True),
    ],
    ids=str,
)
def test_depthwise_of_one_channel(shape: Shape) -> None:
    assert kernel_of(conv_layer(shape)) == "depthwise_of_one"
    check(conv_layer(shape))


@pytest.mark.parametrize("shape", DEPTHWISE, ids=str)
def test_depthwise(shape: Shape) -> None:
    assert kernel_of(conv_layer(shape)) == "depthwise"
    check(conv_layer(shape))


@pytest.mark.parametrize("shape", MULTIPLE, ids=str)
def test_depthwise_with_several_filters_a_channel(shape: Shape) -> None:
    assert kernel_of(conv_layer(shape)) == "depthwise_multiple"
    check(conv_layer(shape))


@pytest.mark.parametrize("shape", TAPS_MULTIPLE, ids=str)
def test_depthwise_taps_with_several_filters_a_channel(shape: Shape) -> None:
    assert kernel_of(conv_layer(shape)) == "depthwise_taps_multiple"
    check(conv_layer(shape))


def test_pixels_too_far_apart_for_offsets_are_left_to_the_other_kernel() -> None:
    shape = Shape(2, 2, 3, 3 * 1366, (3, 3), pads=SAME, depthwise=True)
    assert kernel_of(conv_layer(shape)) == "depthwise_taps_multiple"


def test_results_of_several_filters_saturate() -> None:
    layer = conv_layer(MULTIPLE[1])
    found = expected(layer, random_inputs(layer)[0])
    assert (found.min(), found.max()) == (-128, 127)


def test_several_filters_a_channel_cost_little_more_than_one() -> None:
    shape = Shape(16, 16, 16, 80, (3, 3), pads=SAME, depthwise=True)
    assert check(conv_layer(shape)) < 1.45 * 16 * 16 * 80 * 9
    half = Shape(32, 32, 16, 80, (3, 3), (2, 2), ((0, 1), (0, 1)), depthwise=True)
    assert check(conv_layer(half)) < 2.2 * 16 * 16 * 80 * 9
    apart = Shape(8, 8, 4, 20, (3, 3), pads=((2, 2), (2, 2)), dilations=(2, 2), depthwise=True)
    assert check(conv_layer(apart)) < 3.5 * 8 * 8 * 20 * 9


def test_several_filters_a_channel_in_portable_code() -> None:
    layer = conv_layer(Shape(9, 9, 8, 40, (3, 3), pads=SAME, depthwise=True))
    code = next(code for kernel in PORTABLE if (code := kernel(layer, M4)) is not None)
    xs = random_inputs(layer)
    apart, over = run(code, layer, xs, (None, code.slack[0] // 8 * 8))

    for ran in (apart, over):
        assert np.array_equal(ran.output, expected(layer, xs[0]))
        assert ran.instructions < 8 * code.macs


def test_the_result_of_several_filters_lies_over_its_operand() -> None:
    """The larger one begins before the smaller one, and ends little before it."""
    layer = conv_layer(Shape(16, 16, 16, 80, (3, 3), pads=SAME, depthwise=True))
    code = code_of(layer)
    assert code.scratch == 4 * 2 * 2 * 2 * 18  # channels, bytes, rows of a pair, pairs, columns
    assert code.scratch + layer.input(0).size - code.slack[0] < 1.1 * layer.output.size


def test_functions_of_the_same_name_are_equal() -> None:
    """A model may have layers that differ in little."""
    known: dict[str, Function] = {}
    for shape in (MULTIPLE[0], TAPS_MULTIPLE[0]):
        for channels, filters in ((8, 16), (8, 24), (12, 24), (24, 24), (4, 24), (6, 24)):
            other = replace(shape, channels=channels, filters=filters)
            for function in all_functions(code_of(conv_layer(other)).functions):
                assert known.setdefault(function.name, function) == function


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


@pytest.mark.parametrize(
    ("layer", "tables"),
    [
        (add_layer(261), False),
        (add_layer(64, (0.05, 0.1, 0.1), (3, -9, 20), "none"), True),
        (add_layer(67, (0.021, 0.4, 0.3), (-128, 17, 5), "relu"), True),
        (add_layer(3), False),
    ],
    ids=["constants", "tables", "clamped", "short"],
)
def test_add(layer: Layer, tables: bool) -> None:
    code, xs = code_of(layer), random_inputs(layer)
    pairs = zip(*(x.ravel().tolist() for x in xs), strict=True)
    wanted = np.array([sum_of(layer, a, b) for a, b in pairs]).reshape(layer.output.shape)

    assert ("parts" in code.tables) == tables
    for ran in run(code, layer, xs, (None, 0)):
        assert np.array_equal(ran.output, wanted)


def test_add_of_all_pairs_is_seven_instructions_an_element() -> None:
    layer = add_layer(65_536)
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    xs = [x.astype(np.int8).reshape(layer.output.shape) for x in (a, b)]
    ran = run(code_of(layer), layer, xs)[0]
    every = exact_sums(layer, layer.op) if isinstance(layer.op, Add) else None

    assert every is not None
    assert np.array_equal(ran.output.reshape(256, 256), every.T)
    assert ran.instructions < 7 * 65_536
