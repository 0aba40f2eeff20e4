"""Kernels for cores with Helium, layer by layer on a Cortex-M55 that QEMU emulates."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from edgec.ir import DType, QuantParams
from edgec.program import Layer, Tensor
from edgec.program.operators import Activation, Add, AveragePool, MaxPool, Pads, Pair
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.emulation.toolchain import COMPILERS, compiler
from edgec.targets.microcontroller.kernels import Code
from edgec.targets.microcontroller.kernels.dsp import KERNELS as DSP
from edgec.targets.microcontroller.kernels.dsp.addition import exact_sums
from edgec.targets.microcontroller.kernels.mve import KERNELS
from edgec.targets.microcontroller.kernels.requantization import output_range
from edgec.targets.microcontroller.writing import all_functions, definition
from tests.targets.microcontroller.cortex import M4, run
from tests.targets.microcontroller.dsp_layers import (
    Int8,
    Shape,
    add_layer,
    conv_layer,
    dense_layer,
    expected,
    random_inputs,
    sum_of,
)

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed"
)

M55 = load_core("cortex-m55")
SAME = ((1, 1), (1, 1))


def code_of(layer: Layer) -> tuple[Code, str]:
    """Return the code, and the name of the kernel that gave it."""
    for kernel in KERNELS:
        code = kernel(layer, M55)
        if code is None:
            continue
        for table in code.tables.values():
            assert sum(table.kinds.values()) == table.array.nbytes
            assert min(table.kinds.values()) >= 0
        assert kernel(layer, M4) is None, "no core without Helium gets this"
        return code, str(getattr(kernel, "__name__", kernel))
    raise AssertionError("there is no kernel for this layer")


def check(layer: Layer, by: str) -> int:
    """Compare a layer with the exact result, apart and over its operand; count it."""
    code, name = code_of(layer)
    assert name == by
    xs = random_inputs(layer)
    wanted = expected(layer, xs[0])
    overs = [code.slack[0] // 8 * 8] if 0 in code.slack else []
    overs += [0] if 0 in code.in_place else []
    apart, *over = run(code, layer, xs, (None, *overs), M55)

    assert np.array_equal(apart.output, wanted)
    assert len(np.unique(wanted)) >= min(wanted.size // 4, 8), "this layer says too little"
    for ran in over:
        assert np.array_equal(ran.output, wanted), "the result may not lie there"
    return apart.instructions


POINTWISE = [
    Shape(3, 3, 16, 8),
    Shape(3, 3, 8, 6, activation="none"),  # half a vector, and two filters left
    Shape(2, 3, 37, 5),  # two vectors and five more
    Shape(1, 3, 128, 4, activation="none"),  # as many steps as there are without a loop
    Shape(1, 3, 144, 4, activation="none"),
    Shape(1, 2, 213, 7, activation="none"),  # a loop, and a part after it
    Shape(2, 1, 3, 1),
    Shape(8, 1, 20, 64),  # pairs of places in different rows
    Shape(6, 9, 20, 4, strides=(2, 2)),
    Shape(7, 7, 4, 3, strides=(3, 2), activation="none"),
    Shape(2, 2, 40, 4, least=-128, activation="none"),
    Shape(4, 4, 8, 4, activation="relu6"),
]


@pytest.mark.parametrize("shape", POINTWISE, ids=str)
def test_pointwise(shape: Shape) -> None:
    check(conv_layer(shape), "pointwise")


CONV = [
    Shape(6, 8, 16, 4, (3, 3), pads=SAME),  # pieces, one after the other, in a loop
    Shape(5, 7, 9, 6, (3, 3), pads=SAME, activation="none"),
    Shape(7, 6, 4, 5, (2, 4), strides=(1, 2), activation="none"),
    Shape(8, 8, 3, 16, (3, 3), (2, 2), ((0, 1), (0, 1))),
    Shape(6, 6, 32, 4, (3, 3), pads=SAME, activation="none"),  # pieces of six steps
    Shape(5, 5, 80, 4, (3, 3), pads=SAME),  # pieces too long for one loop
    Shape(13, 10, 1, 6, (10, 4), (2, 2), ((4, 4), (1, 1))),
    Shape(9, 9, 4, 4, (3, 3), pads=((2, 2), (2, 2)), dilations=(2, 2)),
    Shape(2, 2, 8, 4, (3, 3), pads=((2, 2), (2, 2))),  # no window lies inside
    Shape(1, 9, 16, 4, (1, 7), (1, 2), ((0, 0), (3, 3))),
    Shape(9, 4, 20, 4, (5, 1), pads=((2, 2), (0, 0)), activation="relu6"),
    Shape(5, 5, 4, 4, (1, 1), (1, 1), SAME),
    Shape(10, 11, 16, 3, (3, 3), (3, 3), ((1, 1), (0, 2)), least=-128),
]


@pytest.mark.parametrize("shape", CONV, ids=str)
def test_conv(shape: Shape) -> None:
    check(conv_layer(shape), "conv")


DEPTHWISE = [
    Shape(6, 6, 4, 4, (3, 3), pads=SAME, depthwise=True),
    Shape(5, 5, 8, 8, (3, 3), pads=SAME, activation="none", depthwise=True),  # half squares
    Shape(7, 4, 4, 4, (3, 3), pads=SAME, activation="relu6", depthwise=True),
    Shape(1, 1, 4, 4, (3, 3), pads=SAME, depthwise=True),
    Shape(3, 4, 12, 12, (2, 3), depthwise=True),
    Shape(8, 10, 4, 4, (3, 3), (2, 2), ((0, 1), (0, 1)), depthwise=True),
    Shape(9, 7, 8, 8, (3, 3), (2, 2), SAME, activation="none", depthwise=True),
    Shape(4, 6, 4, 4, (3, 3), (1, 1), ((2, 2), (2, 2)), depthwise=True, least=-128),
    Shape(9, 1, 12, 12, (3, 1), depthwise=True, activation="none"),
    Shape(7, 9, 4, 4, (4, 4), (1, 3), ((1, 2), (2, 1)), depthwise=True),
    Shape(3, 17, 64, 64, (1, 2), depthwise=True, activation="none"),
    Shape(13, 3, 8, 8, (3, 3), pads=SAME, depthwise=True),  # columns are the outer loop
    Shape(14, 2, 8, 8, (3, 2), depthwise=True, activation="none"),
    Shape(14, 1, 8, 8, (5, 1), depthwise=True),
    Shape(30, 2, 4, 4, (15, 3), (2, 1), ((7, 6), (1, 1)), depthwise=True, activation="none"),
    Shape(3, 20, 4, 4, (1, 16), depthwise=True),
]


@pytest.mark.parametrize("shape", DEPTHWISE, ids=str)
def test_depthwise(shape: Shape) -> None:
    check(conv_layer(shape), "depthwise")


def test_several_filters_a_channel_are_left_to_kernels_without_helium() -> None:
    layer = conv_layer(replace(DEPTHWISE[0], filters=12))
    assert all(kernel(layer, M55) is None for kernel in KERNELS)
    code = next(code for kernel in DSP if (code := kernel(layer, M55)) is not None)
    xs = random_inputs(layer)
    assert np.array_equal(run(code, layer, xs, on=M55)[0].output, expected(layer, xs[0]))


@pytest.mark.parametrize(
    "shape",
    [
        Shape(9, 7, 1, 7, (5, 4), (2, 2), ((2, 2), (1, 1)), depthwise=True),
        Shape(5, 5, 1, 1, (3, 3), pads=SAME, activation="none", depthwise=True),
    ],
    ids=str,
)
def test_depthwise_of_one_channel(shape: Shape) -> None:
    check(conv_layer(shape), "conv_of_one_channel")


@pytest.mark.parametrize(
    ("rows", "inputs", "filters", "activation"),
    [
        (1, 64, 16, "relu"),
        (1, 30, 10, "none"),
        (1, 3, 1, "none"),
        (1, 300, 12, "relu"),
        (3, 20, 7, "none"),
        (4, 17, 30, "none"),
    ],
)
def test_dense(rows: int, inputs: int, filters: int, activation: Activation) -> None:
    check(dense_layer(rows, inputs, filters, activation), "dense")


@pytest.mark.parametrize("scale", [2.0**-31, 3e-7, 1e-3, 0.9, 2.0, 40.0])
def test_every_shift_is_rounded_right(scale: float) -> None:
    """Without a shift, to the left, far to the right, and of factor 0."""
    layer = dense_layer(2, 24, 9)
    weights, y = layer.input(1), layer.output
    scales = tuple(float(np.float32(scale * 2.0 ** (k % 5))) for k in range(9))
    # Few small weights, so that not all is at the ends of int8.
    data = (np.arange(9 * 24) % 24 == 3).astype(np.int8).reshape(9, 24)
    weights = replace(weights, grid=QuantParams(scales, (0,) * 9, 0), data=data)
    bias = replace(layer.input(2), data=np.arange(-14, -5, dtype=np.int32))
    y = replace(y, grid=QuantParams((0.02,), (-7,)))
    layer = replace(layer, inputs=(layer.inputs[0], weights, bias), outputs=(y,))
    code, _ = code_of(layer)
    xs = random_inputs(layer)
    xs[0] = xs[0] % 32
    (ran,) = run(code, layer, xs, (None,), M55)

    assert np.array_equal(ran.output, expected(layer, xs[0]))


def test_halves_are_rounded_away_from_zero() -> None:
    """Sums on the very edges, of both signs: the step is 2, 4 and 8."""
    for shift in (1, 2, 3):
        layer = dense_layer(1, 4, 64)
        bias = np.arange(-32, 32, dtype=np.int32)
        unit = QuantParams((1.0,) * 64, (0,) * 64, 0)
        zeros = np.zeros((64, 4), np.int8)
        weights = replace(layer.input(1), grid=unit, data=zeros)
        x = replace(layer.input(0), grid=QuantParams((0.5**shift,), (0,)))
        y = replace(layer.output, grid=QuantParams((1.0,), (3,)))
        biases = replace(layer.input(2), data=bias)
        layer = replace(layer, inputs=(x, weights, biases), outputs=(y,))
        code, _ = code_of(layer)
        xs = random_inputs(layer)
        (ran,) = run(code, layer, xs, (None,), M55)
        wanted = expected(layer, xs[0])

        assert np.array_equal(ran.output, wanted)
        # -3 is half a step of 2: to -2, and not to -1.
        assert shift != 2 or wanted.ravel()[32 - 6] == 3 - 2


@pytest.mark.parametrize(
    "layer",
    [
        add_layer(261),
        add_layer(3),
        add_layer(67, (0.05, 0.09, 0.07), (3, -4, 11), "relu"),
        add_layer(64, (0.05, 0.09, 0.07), (3, -4, 11), "none"),
    ],
    ids=["left over", "short", "clamped", "linear"],
)
def test_add(layer: Layer) -> None:
    code, name = code_of(layer)
    xs = random_inputs(layer)
    pairs = zip(*(x.ravel().tolist() for x in xs), strict=True)
    wanted = np.array([sum_of(layer, a, b) for a, b in pairs]).reshape(layer.output.shape)

    assert name == "add"
    for ran in run(code, layer, xs, (None, 0), M55):
        assert np.array_equal(ran.output, wanted)


def test_add_of_all_pairs_is_hardly_over_two_instructions_an_element() -> None:
    layer = add_layer(65_536)
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    xs = [x.astype(np.int8).reshape(layer.output.shape) for x in (a, b)]
    (ran,) = run(code_of(layer)[0], layer, xs, (None,), M55)
    every = exact_sums(layer, layer.op) if isinstance(layer.op, Add) else None

    assert every is not None
    assert np.array_equal(ran.output.reshape(256, 256), every.T)
    assert ran.instructions < 2.1 * 65_536


def pool_layer(op: AveragePool | MaxPool, shape: tuple[int, int, int]) -> Layer:
    grid = QuantParams((0.1,), (-9,))
    sizes = zip(shape, op.pads, op.window, op.strides, strict=False)
    places = [(size + sum(pads) - k) // stride + 1 for size, pads, k, stride in sizes]
    x = Tensor("x", DType.INT8, (2, *shape), grid)
    return Layer(op, (x,), (Tensor("y", DType.INT8, (2, *places, shape[2]), grid),), "layer")


def pooled(layer: Layer, op: AveragePool | MaxPool, x: Int8) -> Int8:
    """Return the exact result."""
    found = np.zeros(layer.output.shape, np.int8)
    low, high = output_range(op.activation, layer.output)
    for n, row, column, c in np.ndindex(*layer.output.shape):
        top, left = row * op.strides[0] - op.pads[0][0], column * op.strides[1] - op.pads[1][0]
        rows = slice(max(top, 0), max(top + op.window[0], 0))
        columns = slice(max(left, 0), max(left + op.window[1], 0))
        part = x[n, rows, columns, c].astype(np.int64)
        if isinstance(op, MaxPool):
            value = int(part.max())
        else:
            total, count = int(part.sum()), part.size
            value = (abs(total) + count // 2) // count * (1 if total > 0 else -1)
        found[n, row, column, c] = min(max(value, low), high)
    return found


@pytest.mark.parametrize("kind", [AveragePool, MaxPool])
@pytest.mark.parametrize(
    ("shape", "window", "strides", "pads", "activation"),
    [
        ((4, 6, 16), (2, 2), (2, 2), ((0, 0), (0, 0)), "none"),
        ((5, 5, 21), (3, 3), (2, 2), ((1, 1), (1, 1)), "relu"),
        ((25, 5, 8), (25, 5), (1, 1), ((0, 0), (0, 0)), "none"),
        ((3, 7, 3), (2, 3), (1, 2), ((1, 0), (2, 1)), "relu6"),
    ],
)
def test_pool(
    kind: type[AveragePool | MaxPool],
    shape: tuple[int, int, int],
    window: Pair,
    strides: Pair,
    pads: Pads,
    activation: Activation,
) -> None:
    op = kind(window=window, strides=strides, pads=pads, activation=activation)
    layer = pool_layer(op, shape)
    code, name = code_of(layer)
    xs = random_inputs(layer)
    wanted = pooled(layer, op, xs[0])

    assert name == "pool"
    for ran in run(code, layer, xs, (None, code.slack[0] // 8 * 8), M55):
        assert np.array_equal(ran.output, wanted)


def test_sums_of_more_than_16_bits_are_added_elsewhere() -> None:
    op = AveragePool(window=(16, 16), strides=(1, 1), pads=((0, 0), (0, 0)), activation="none")
    layer = pool_layer(op, (16, 16, 4))

    assert all(kernel(layer, M55) is None for kernel in KERNELS)


def test_a_sixth_of_an_instruction_a_multiply_accumulate() -> None:
    assert check(conv_layer(Shape(6, 6, 64, 64)), "pointwise") < 36 * 64 * 64 / 6
    assert check(dense_layer(1, 128, 64, "relu"), "dense") < 128 * 64 / 5


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="GCC is not installed")
def test_assemblers_make_the_same_of_it() -> None:
    """Assemblers have had faults in instructions of this extension."""
    layers = [conv_layer(shape) for shape in (*POINTWISE, *CONV, *DEPTHWISE)]
    pools = (kind(window=(2, 2)) for kind in (AveragePool, MaxPool))
    layers += [pool_layer(op, (6, 6, 8)) for op in pools]
    layers += [add_layer(9), add_layer(67, (0.05, 0.09, 0.07), (3, -4, 11), "relu")]
    codes = [code_of(layer)[0] for layer in layers]
    functions = all_functions(f for code in codes for f in code.functions)
    texts = [definition(f) for f in functions if f.assembly]
    names = [f.name.replace("$", "m_") for f in functions if f.assembly]
    found = []
    for name in COMPILERS:
        file = {"a.c": "\n".join(texts).replace("$", "m_")}
        image = compiler(name).build(file, M55, keep=names).image
        (flash,) = (s for s in image.segments if s.address == 0)
        places = [image.symbol(n) for n in names]
        found.append([flash.contents[p.address : p.address + p.size].hex() for p in places])

    assert len(names) > 20
    for name, first, second in zip(names, *found, strict=True):
        assert first == second, name
