"""How files of one operator are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgec.ir import Array, DType, QuantParams
from tests.program.files import HALF, Sketch

__all__ = [
    "FROM_ZERO",
    "I8",
    "I16",
    "SIGNED_UNIT",
    "UNIT",
    "binary",
    "concatenated",
    "constants",
    "conv",
    "dense",
    "depthwise",
    "grid",
    "ints",
    "lstm",
    "moved",
    "one",
    "pairs",
    "plain_binary",
    "pool",
    "product",
    "real",
    "several",
    "single",
    "split",
    "svdf",
]

I8, I16 = DType.INT8, DType.INT16
FROM_ZERO = QuantParams((0.5,), (-128,))
"""Of results of ReLU, which are mostly scaled with one rounding."""
UNIT = QuantParams((1 / 256,), (-128,))
SIGNED_UNIT = QuantParams((1 / 128,), (0,))


def grid(scale: float, zero_point: int = 0) -> QuantParams:
    return QuantParams((float(np.float32(scale)),), (zero_point,))


def one(
    code: str,
    shape: Sequence[int],
    result: Sequence[int],
    *,
    x: QuantParams | None = HALF,
    y: QuantParams | None = HALF,
    dtypes: tuple[DType, DType] = (I8, I8),
    more: Callable[[Sketch], Sequence[int]] = lambda _: (),
    table: str = "",
    options: Mapping[str, Any] | None = None,
) -> bytes:
    """A file of one operator."""
    sketch = Sketch(1)
    given = sketch.value(*shape, dtype=dtypes[0], grid=x, name="x")
    sketch.model.inputs.append(("x", given))
    rest = list(more(sketch))
    wanted = sketch.value(*result, dtype=dtypes[1], grid=y, name="y")
    sketch.op(code, [given, *rest], [wanted], table, options)
    return sketch.data(wanted)


def conv(
    shape: Sequence[int],
    kernel: Sequence[int],
    result: Sequence[int],
    *,
    same: bool = True,
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    activation: int = 0,
    axis: int | None = 0,
    bias: bool = True,
    y: QuantParams = HALF,
) -> bytes:
    options = {
        "padding": 0 if same else 1,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": activation,
    }

    def more(s: Sketch) -> Sequence[int]:
        return [s.weights(*kernel, axis=axis), s.bias(kernel[0]) if bias else -1]

    return one("CONV_2D", shape, result, y=y, more=more, table="Conv2D", options=options)


def depthwise(
    shape: Sequence[int],
    kernel: Sequence[int],
    result: Sequence[int],
    *,
    same: bool = True,
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    activation: int = 0,
    y: QuantParams = HALF,
) -> bytes:
    options = {
        "padding": 0 if same else 1,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "depthMultiplier": kernel[3] // shape[3],
        "fusedActivationFunction": activation,
    }

    def more(s: Sketch) -> Sequence[int]:
        return [s.weights(*kernel, axis=3), s.bias(kernel[3])]

    return one(
        "DEPTHWISE_CONV_2D",
        shape,
        result,
        y=y,
        more=more,
        table="DepthwiseConv2D",
        options=options,
    )


def dense(
    rows: Sequence[int], count: int, *, axis: int | None = None, bias: bool = True
) -> bytes:
    def more(s: Sketch) -> Sequence[int]:
        weights = s.weights(count, rows[-1], axis=axis)
        if not bias:
            return [weights, -1]
        on = s.model.tensors[weights].quant
        assert on is not None
        scale = 0.5 * on.scale[0]
        numbers = s.rng.integers(-500, 500, count, dtype=np.int32)
        return [weights, s.constant(numbers, QuantParams((scale,), (0,)))]

    return one(
        "FULLY_CONNECTED",
        rows,
        [*rows[:-1], count],
        more=more,
        table="FullyConnected",
        options={"keepNumDims": len(rows) > 2},
    )


def binary(
    code: str,
    a: Sequence[int],
    b: Sequence[int],
    *,
    dtype: DType = I8,
    scales: tuple[float, float, float] = (0.5, 0.3, 0.7),
    activation: int = 0,
    constant: bool = False,
) -> bytes:
    zero = 0 if dtype is I16 else 5
    sketch = Sketch(2)
    grids = [grid(scale, -zero + 2 * zero * (k == 1)) for k, scale in enumerate(scales)]
    left = sketch.value(*a, dtype=dtype, grid=grids[0], name="a")
    sketch.model.inputs.append(("a", left))
    if constant:
        numbers = sketch.rng.integers(*dtype.limits, b, endpoint=True).astype(dtype.numpy)
        right = sketch.constant(numbers, grids[1])
    else:
        right = sketch.value(*b, dtype=dtype, grid=grids[1], name="b")
        sketch.model.inputs.append(("b", right))
    y = sketch.value(*np.broadcast_shapes(a, b), dtype=dtype, grid=grids[2], name="y")
    table = code.title()
    options = {"fusedActivationFunction": activation}
    sketch.op(code, [left, right], [y], table, options)
    return sketch.data(y)


def pool(code: str, shape: Sequence[int], result: Sequence[int], **more: Any) -> bytes:
    dtype = more.pop("dtype", I8)
    on = grid(0.5) if dtype is I16 else HALF
    options = {"padding": 0, "strideH": 1, "strideW": 1} | more
    return one(
        code, shape, result, x=on, y=on, dtypes=(dtype, dtype), table="Pool2D", options=options
    )


def single(code: str, x: QuantParams | None, y: QuantParams | None, **more: Any) -> bytes:
    """A function of every int8 number."""
    return one(code, (1, 256), (1, 256), x=x, y=y, **more)


def constants(*arrays: Array) -> Callable[[Sketch], Sequence[int]]:
    return lambda s: [s.constant(array) for array in arrays]


def pairs(*found: tuple[int, int]) -> Array:
    return np.array(found, np.int32)


def moved(
    code: str, shape: Sequence[int], result: Sequence[int], *arrays: Array, **more: Any
) -> bytes:
    """A file of an operator with constants that say what goes where."""
    dtype = more.pop("dtype", I8)
    on = {I8: HALF, I16: grid(0.5), DType.FLOAT32: None}[dtype]
    given = constants(*arrays)
    return one(code, shape, result, x=on, y=on, dtypes=(dtype, dtype), more=given, **more)


def split(shape: Sequence[int], axis: int, lengths: Sequence[int]) -> bytes:
    sketch = Sketch()
    x = sketch.input(*shape)
    parts = [sketch.value(*shape[:axis], n, *shape[axis + 1 :]) for n in lengths]
    given = [x, sketch.ints(*lengths), sketch.ints(axis)]
    sketch.op("SPLIT_V", given, parts, "SplitV", {"numSplits": len(lengths)})
    return sketch.data(*parts)


def concatenated(axis: int, *shapes: Sequence[int], dtype: DType = I8) -> bytes:
    sketch = Sketch()
    on = HALF if dtype is I8 else grid(0.5)
    given = [
        sketch.value(*shape, dtype=dtype, grid=on, name=f"x{k}")
        for k, shape in enumerate(shapes)
    ]
    sketch.model.inputs += [(f"x{k}", number) for k, number in enumerate(given)]
    result = list(shapes[0])
    result[axis] = sum(shape[axis] for shape in shapes)
    y = sketch.value(*result, dtype=dtype, grid=on)
    sketch.op("CONCATENATION", given, [y], "Concatenation", {"axis": axis})
    return sketch.data(y)


def product(
    a: Sequence[int],
    b: Sequence[int],
    y: Sequence[int],
    *,
    adj: tuple[bool, bool] = (False, False),
    dtype: DType = I8,
) -> bytes:
    sketch = Sketch()
    zeros = (0, 0, 0) if dtype is I16 else (3, -4, 5)
    on = [grid(scale, zero) for scale, zero in zip((0.1, 0.07, 1.1), zeros, strict=True)]
    left = sketch.value(*a, dtype=dtype, grid=on[0], name="a")
    right = sketch.value(*b, dtype=dtype, grid=on[1], name="b")
    sketch.model.inputs += [("a", left), ("b", right)]
    result = sketch.value(*y, dtype=dtype, grid=on[2])
    options = {"adjX": adj[0], "adjY": adj[1]}
    sketch.op("BATCH_MATMUL", [left, right], [result], "BatchMatMul", options)
    return sketch.data(result)


def svdf(rank: int, batch: int, state_dtype: DType) -> bytes:
    sketch, filters, memory = Sketch(5), 6, 4
    x = sketch.input(batch, 9)
    features = sketch.constant(
        sketch.rng.integers(-127, 128, (filters, 9), dtype=np.int8), grid(0.01)
    )
    numbers = sketch.rng.integers(-99, 100, (filters, memory)).astype(state_dtype.numpy)
    times = sketch.constant(numbers, grid(0.02))
    bias = sketch.constant(
        sketch.rng.integers(-300, 300, filters // rank, dtype=np.int32),
        grid(float(np.float32(0.02) * np.float32(0.03))),
    )
    state = sketch.value(
        batch, filters * memory, dtype=state_dtype, grid=grid(0.03), name="state"
    )
    sketch.variables.add(state)
    y = sketch.value(batch, filters // rank, grid=grid(0.2, -5))
    sketch.op(
        "SVDF",
        [x, features, times, bias, state],
        [y],
        "SVDF",
        {"rank": rank, "fusedActivationFunction": 1},
    )
    return sketch.data(y)


def lstm(time_major: bool, batch: int, clip: float = 0.0) -> bytes:
    sketch, inputs, units, steps = Sketch(6), 5, 4, 3
    shape = (steps, batch) if time_major else (batch, steps)
    x = sketch.value(*shape, inputs, grid=grid(0.05, -4), name="x")
    sketch.model.inputs.append(("x", x))

    def weights(count: int) -> int:
        numbers = sketch.rng.integers(-127, 128, (units, count), dtype=np.int8)
        return sketch.constant(numbers, grid(float(sketch.rng.uniform(0.005, 0.02))))

    operands = [x, *(weights(inputs) for _ in range(4)), *(weights(units) for _ in range(4))]
    operands += [-1] * 3
    for _ in range(4):
        numbers = sketch.rng.integers(-900, 900, units, dtype=np.int32)
        operands.append(sketch.constant(numbers, grid(0.0005)))
    hidden = sketch.value(batch, units, grid=grid(0.007, 11), name="hidden")
    cell = sketch.value(batch, units, dtype=I16, grid=grid(2**-11), name="cell")
    sketch.variables |= {hidden, cell}
    operands += [-1, -1, hidden, cell, *[-1] * 4]
    y = sketch.value(*shape, units, grid=grid(0.007, 11))
    options = {"fusedActivationFunction": 4, "timeMajor": time_major, "cellClip": clip}
    sketch.op(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", operands, [y], "UnidirectionalSequenceLSTM", options
    )
    return sketch.data(y)


def ints(*numbers: int) -> Array:
    return np.array(numbers, np.int32)


WIDE_GRID = grid(0.001)


def weighted(
    code: str,
    shape: Sequence[int],
    kernel: Sequence[int],
    result: Sequence[int],
    *,
    dtype: DType,
    bias: type[np.generic] | None = None,
    axis: int | None = 0,
    **options: int,
) -> bytes:
    """A file of a convolution or a dense layer on other numbers than int8."""
    real = dtype is DType.FLOAT32
    channels = result[-1]

    def more(s: Sketch) -> Sequence[int]:
        if real:
            numbers = s.rng.normal(0, 0.5, kernel).astype(np.float32)
            found = [s.constant(numbers)]
            if bias is not None:
                found.append(s.constant(s.rng.normal(0, 1, channels).astype(np.float32)))
            return found
        found = [s.weights(*kernel, axis=axis)]
        if bias is not None:
            on = s.model.tensors[found[0]].quant
            assert on is not None
            numbers = s.rng.integers(-99999, 99999, channels).astype(bias)
            found.append(s.constant(numbers, grid(WIDE_GRID.scale[0] * on.scale[0])))
        return found

    on = None if real else WIDE_GRID
    table = {
        "CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
        "FULLY_CONNECTED": "FullyConnected",
    }[code]  # fmt: skip
    window = {
        "padding": 0,
        "strideH": 1,
        "strideW": 1,
        "dilationHFactor": 1,
        "dilationWFactor": 1,
    }
    if code == "FULLY_CONNECTED":
        window = {}
    elif code == "DEPTHWISE_CONV_2D":
        window["depthMultiplier"] = channels // shape[-1]
    return one(
        code, shape, result, x=on, y=on, dtypes=(dtype, dtype), more=more, table=table,
        options=window | options,
    )  # fmt: skip


def several(dtype: DType, *biases: type[np.generic] | None) -> list[bytes]:
    """Files of all weighted layers."""
    files = []
    for bias in biases:
        files += [
            weighted(
                "CONV_2D", (1, 7, 6, 3), (5, 3, 3, 3), (1, 7, 6, 5), dtype=dtype, bias=bias
            ),
            weighted(
                "CONV_2D",
                (1, 7, 6, 4),
                (6, 3, 2, 2),
                (1, 4, 3, 6),
                dtype=dtype,
                bias=bias,
                strideH=2,
                strideW=2,
                fusedActivationFunction=1,
            ),
            weighted(
                "FULLY_CONNECTED",
                (3, 20),
                (7, 20),
                (3, 7),
                dtype=dtype,
                bias=bias,
                axis=None,
                fusedActivationFunction=3,
            ),
        ]
        if bias is not np.int32:
            files += [
                weighted(
                    "DEPTHWISE_CONV_2D",
                    (1, 7, 6, 3),
                    (1, 3, 3, 6),
                    (1, 7, 6, 6),
                    dtype=dtype,
                    bias=bias,
                    axis=3,
                ),
                weighted(
                    "DEPTHWISE_CONV_2D",
                    (1, 9, 9, 3),
                    (1, 3, 3, 3),
                    (1, 9, 9, 3),
                    dtype=dtype,
                    bias=bias,
                    axis=3,
                    dilationHFactor=2,
                    dilationWFactor=2,
                ),
            ]
    return files


REAL = (DType.FLOAT32, DType.FLOAT32)


def real(code: str, shape: Sequence[int], result: Sequence[int], **more: Any) -> bytes:
    return one(code, shape, result, x=None, y=None, dtypes=REAL, **more)


def plain_binary(
    code: str,
    a: Sequence[int],
    b: Sequence[int],
    activation: int,
    dtype: DType = DType.FLOAT32,
) -> bytes:
    sketch = Sketch(2)
    given = [
        sketch.value(*shape, dtype=dtype, grid=None, name=name)
        for shape, name in ((a, "a"), (b, "b"))
    ]
    sketch.model.inputs += [("a", given[0]), ("b", given[1])]
    y = sketch.value(*np.broadcast_shapes(a, b), dtype=dtype, grid=None)
    sketch.op(code, given, [y], code.title(), {"fusedActivationFunction": activation})
    return sketch.data(y)
