"""Files of one operator each, by family, and what to feed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgec.ir import Array, DType, QuantParams
from edgec.program import Program
from tests.program.files import HALF, Sketch

__all__ = ["FAMILIES", "REAL_FAMILY", "feeds"]

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


FAMILIES: dict[str, list[bytes]] = {
    "conv": [
        conv((1, 7, 6, 3), (5, 3, 3, 3), (1, 7, 6, 5)),
        conv((1, 7, 6, 3), (4, 3, 3, 3), (1, 4, 3, 4), strides=(2, 2), activation=1),
        conv((1, 9, 8, 2), (3, 3, 2, 2), (1, 5, 6, 3), same=False, dilations=(2, 2)),
        conv((1, 5, 7, 2), (3, 2, 3, 2), (1, 5, 7, 3), dilations=(1, 2), activation=3),
        conv((1, 5, 5, 8), (6, 1, 1, 8), (1, 5, 5, 6), axis=None, bias=False),
        conv((1, 5, 5, 8), (6, 1, 1, 8), (1, 3, 3, 6), strides=(2, 2), activation=2),
        conv((1, 4, 5, 6), (4, 3, 3, 3), (1, 4, 5, 4)),
        conv((1, 1, 1, 16), (8, 1, 1, 16), (1, 1, 1, 8)),
        conv((1, 12, 1, 3), (4, 5, 1, 3), (1, 4, 1, 4), same=False, strides=(2, 1)),
        conv((1, 2, 2, 3), (4, 5, 5, 3), (1, 2, 2, 4)),
        conv((1, 7, 6, 3), (5, 3, 3, 3), (1, 7, 6, 5), activation=1, y=FROM_ZERO),
        conv((1, 5, 5, 8), (6, 1, 1, 8), (1, 5, 5, 6), activation=1, y=FROM_ZERO),
    ],
    "depthwise": [
        depthwise((1, 7, 6, 4), (1, 3, 3, 4), (1, 7, 6, 4), activation=1),
        depthwise((1, 7, 6, 4), (1, 3, 3, 4), (1, 4, 3, 4), strides=(2, 2)),
        depthwise((1, 7, 6, 2), (1, 3, 2, 6), (1, 5, 5, 6), same=False),
        depthwise((1, 9, 9, 3), (1, 3, 3, 3), (1, 9, 9, 3), dilations=(2, 3), activation=3),
        depthwise((1, 6, 6, 1), (1, 4, 4, 8), (1, 3, 3, 8), strides=(2, 2)),
        depthwise((1, 7, 6, 4), (1, 3, 3, 4), (1, 7, 6, 4), activation=1, y=FROM_ZERO),
        depthwise((1, 7, 6, 2), (1, 3, 2, 6), (1, 7, 6, 6), activation=1, y=FROM_ZERO),
    ],
    "dense": [
        dense((1, 10), 7),
        dense((3, 10), 4, axis=0),
        dense((1, 33), 1, bias=False),
        dense((2, 3, 5), 4),
    ],
    "arithmetic": [
        *(
            binary(code, (1, 4, 5, 3), (1, 4, 5, 3), activation=activation, dtype=dtype)
            for code in ("ADD", "SUB", "MUL")
            for activation, dtype in ((0, I8), (1, I8), (3, I8), (0, I16))
        ),
        *(
            binary(code, (2, 1, 4), (3, 1), scales=(0.2, 0.9, 0.5))
            for code in ("ADD", "SUB", "MUL")
        ),
        binary("ADD", (1, 4, 5, 3), (1, 1, 1, 3), constant=True),
        binary("MUL", (1, 4, 5, 3), (1, 1, 1, 1), constant=True, scales=(0.1, 0.01, 0.02)),
        binary("SUB", (3,), (2, 4, 3)),
        *(
            plain_binary(code, (2, 3, 4), (3, 1), activation, DType.INT32)
            for code, activation in (("ADD", 0), ("SUB", 1), ("MUL", 3), ("MUL", 0))
        ),
        binary("ADD", (1, 4, 5, 3), (1, 4, 5, 3), scales=(0.5, 0.3, 0.0007)),
    ],
    "pool": [
        pool("AVERAGE_POOL_2D", (1, 6, 7, 3), (1, 6, 7, 3), filterHeight=3, filterWidth=3),
        pool(
            "AVERAGE_POOL_2D",
            (1, 6, 7, 3),
            (1, 2, 3, 3),
            filterHeight=3,
            filterWidth=2,
            strideH=3,
            strideW=2,
            padding=1,
            fusedActivationFunction=1,
        ),
        pool("MAX_POOL_2D", (1, 6, 7, 3), (1, 6, 7, 3), filterHeight=2, filterWidth=3),
        pool(
            "MAX_POOL_2D",
            (1, 6, 7, 3),
            (1, 3, 4, 3),
            filterHeight=2,
            filterWidth=2,
            strideH=2,
            strideW=2,
            fusedActivationFunction=3,
        ),
        *(
            pool(code, (1, 5, 5, 2), (1, 5, 5, 2), filterHeight=2, filterWidth=3, dtype=I16)
            for code in ("AVERAGE_POOL_2D", "MAX_POOL_2D")
        ),
    ],
    "activations": [
        *(single("LOGISTIC", grid(s, z), UNIT) for s, z in ((0.05, 3), (0.5, -20), (0.004, 0))),
        *(
            single("TANH", grid(s, z), SIGNED_UNIT)
            for s, z in ((0.05, 3), (0.5, -20), (0.004, 0))
        ),
        *(
            single("HARD_SWISH", grid(s, z), grid(t, w))
            for s, z, t, w in ((0.05, 3, 0.04, -5), (0.3, -20, 0.2, 10), (0.01, 4, 0.01, -128))
        ),
        *(
            single(
                "LEAKY_RELU",
                grid(0.05, 3),
                grid(s, -7),
                table="LeakyRelu",
                options={"alpha": alpha},
            )
            for s, alpha in ((0.05, 0.1), (0.03, 0.3), (0.05, -0.5), (0.05, 1.5))
        ),
        single("RELU", grid(0.05, 3), grid(0.05, 3)),
        single("RELU", grid(0.05, 3), grid(0.03, -120)),
        single("RELU6", grid(0.05, 3), grid(0.05, 3)),
        *(
            one(code, (1, 500), (1, 500), x=grid(s), y=grid(t), dtypes=(I16, I16))
            for code, s, t in (
                ("LOGISTIC", 2**-12, 2**-15),
                ("LOGISTIC", 0.0007, 2**-15),
                ("TANH", 2**-12, 2**-15),
                ("TANH", 2**-11, 2**-15),
                ("TANH", 0.0003, 2**-15),
                ("RELU", 0.001, 0.0007),
            )
        ),
        one(
            "LEAKY_RELU",
            (1, 500),
            (1, 500),
            x=grid(0.001),
            y=grid(0.0007),
            dtypes=(I16, I16),
            table="LeakyRelu",
            options={"alpha": 0.2},
        ),
    ],
    "softmax": [
        *(
            one(
                "SOFTMAX",
                (4, n),
                (4, n),
                x=grid(s, 4),
                y=UNIT,
                table="Softmax",
                options={"beta": beta},
            )
            for n, s, beta in ((10, 0.2, 1.0), (2, 0.01, 1.0), (1000, 0.05, 1.0), (7, 0.6, 0.5))
        ),
    ],
    "grids": [
        single("QUANTIZE", grid(0.05, 3), grid(0.03, -7)),
        single("QUANTIZE", grid(0.05, 3), grid(0.2, 90)),
        single("QUANTIZE", grid(0.05, 3), grid(0.05, 131), dtypes=(I8, DType.UINT8)),
        single("QUANTIZE", grid(0.05, 130), grid(0.04, 1), dtypes=(DType.UINT8, I8)),
        single("QUANTIZE", grid(0.05, 3), grid(0.001), dtypes=(I8, I16)),
        single("QUANTIZE", grid(0.001), grid(0.2, 3), dtypes=(I16, I8)),
        single("QUANTIZE", grid(0.001), grid(0.0015), dtypes=(I16, I16)),
        single("DEQUANTIZE", grid(0.053, 3), None, dtypes=(I8, DType.FLOAT32)),
        single("DEQUANTIZE", grid(0.00053), None, dtypes=(I16, DType.FLOAT32)),
        single("QUANTIZE", None, grid(0.053, 3), dtypes=(DType.FLOAT32, I8)),
        single("QUANTIZE", None, grid(0.00053), dtypes=(DType.FLOAT32, I16)),
    ],
    "moves": [
        moved("RESHAPE", (1, 4, 6), (2, 12), ints(2, 12)),
        moved("TRANSPOSE", (1, 4, 5, 3), (1, 3, 4, 5), ints(0, 3, 1, 2)),
        moved("TRANSPOSE", (2, 3, 4), (3, 2, 4), ints(1, 0, 2)),
        moved("TRANSPOSE", (2, 3, 4, 5), (5, 4, 3, 2), ints(3, 2, 1, 0)),
        moved("TRANSPOSE", (1, 3, 4, 1), (1, 1, 3, 4), ints(0, 3, 1, 2)),
        moved("TRANSPOSE", (2, 3, 4), (4, 3, 2), ints(2, 1, 0), dtype=I16),
        moved("SLICE", (3, 8, 6), (2, 3, 6), ints(1, 2, 0), ints(2, 3, -1)),
        moved(
            "STRIDED_SLICE",
            (1, 8, 6),
            (1, 4, 2),
            ints(0, 0, -1),
            ints(1, 8, 1),
            ints(1, 2, -3),
            table="StridedSlice",
            options={"beginMask": 0, "endMask": 0},
        ),
        split((2, 6, 4), 1, (1, 2, 3)),
        split((2, 6, 4), 2, (1, 3)),
        split((6, 4), 0, (5, 1)),
        concatenated(1, (2, 3, 4), (2, 1, 4), (2, 2, 4)),
        concatenated(2, (2, 3, 4), (2, 3, 1)),
        concatenated(0, (1, 5), (1, 5), (2, 5)),
        concatenated(1, (2, 3), (2, 2), dtype=I16),
        moved("PAD", (1, 3, 4, 2), (1, 6, 5, 2), pairs((0, 0), (1, 2), (1, 0), (0, 0))),
        moved("PAD", (1, 3, 4, 2), (1, 3, 4, 5), pairs((0, 0), (0, 0), (0, 0), (1, 2))),
        moved("PAD", (2, 3), (3, 6), pairs((1, 0), (1, 2))),
        moved("PAD", (2, 3), (2, 5), pairs((0, 0), (0, 2)), dtype=I16),
    ],
    "mean": [
        *(
            one(
                "MEAN",
                (1, 4, 5, 6),
                result,
                x=grid(0.5, 9),
                y=grid(s, -4),
                more=constants(ints(*axes)),
                table="Reducer",
                options={"keepDims": len(result) == 4},
            )
            for s, axes, result in (
                (0.5, (1, 2), (1, 6)),
                (0.2, (2, 1), (1, 1, 1, 6)),
                (0.1, (3,), (1, 4, 5)),
                (0.3, (1,), (1, 5, 6)),
                (0.3, (1, 3), (1, 5)),
                (0.04, (0, 1, 2, 3), ()),
            )
        ),
        one(
            "MEAN",
            (1, 4, 5, 6),
            (1, 6),
            x=grid(0.5),
            y=grid(0.1),
            dtypes=(I16, I16),
            more=constants(ints(1, 2)),
            table="Reducer",
            options={"keepDims": False},
        ),
    ],
    "resize": [
        moved(
            f"RESIZE_{code}",
            (1, 4, 5, 3),
            (1, *size, 3),
            ints(*size),
            dtype=dtype,
            table=table,
            options={"alignCorners": corners, "halfPixelCenters": centers},
        )
        for code, table in (
            ("NEAREST_NEIGHBOR", "ResizeNearestNeighbor"),
            ("BILINEAR", "ResizeBilinear"),
        )
        for size in ((8, 10), (3, 7), (1, 1))
        for corners, centers in ((False, False), (True, False), (False, True))
        for dtype in ((I8, I16) if code[0] == "N" and size == (8, 10) else (I8,))
    ],
    "matmul": [
        product((2, 3, 4), (2, 4, 5), (2, 3, 5)),
        product((3, 4), (2, 4, 5), (2, 3, 5)),
        product((2, 1, 4, 3), (1, 3, 5, 4), (2, 3, 3, 5), adj=(True, True)),
        product((1, 4, 3), (1, 4, 5), (1, 3, 5), adj=(True, False)),
        product((1, 3, 4), (1, 5, 4), (1, 3, 5), adj=(False, True), dtype=I16),
    ],
    "recurrent": [
        svdf(1, 1, I16),
        svdf(2, 1, I8),
        svdf(3, 2, I16),
        lstm(False, 1),
        lstm(True, 2),
        lstm(False, 2, 0.5),
    ],
    "int16": [
        *several(I16, np.int64, np.int32, None),
        *(
            one(
                "SOFTMAX",
                (5, n),
                (5, n),
                x=grid(scale),
                y=grid(2**-15),
                dtypes=(I16, I16),
                table="Softmax",
                options={"beta": beta},
            )
            for n, scale, beta in ((10, 0.001, 1.0), (300, 0.0001, 1.0), (2, 0.0005, 0.5))
        ),
    ],
}

REAL_FAMILY: list[bytes] = [
    *several(DType.FLOAT32, np.float32, None),
    *(
        plain_binary(code, a, b, activation)
        for code in ("ADD", "SUB", "MUL")
        for a, b, activation in (
            ((1, 4, 5, 3), (1, 4, 5, 3), 1),
            ((2, 1, 4), (3, 1), 0),
            ((3,), (2, 3), 3),
        )
    ),
    *(
        real(
            f"{kind}_POOL_2D",
            (1, 6, 7, 3),
            (1, 3, 4, 3),
            table="Pool2D",
            options={
                "padding": 0,
                "strideH": 2,
                "strideW": 2,
                "filterHeight": 3,
                "filterWidth": 3,
            },
        )
        for kind in ("AVERAGE", "MAX")
    ),
    *(
        real(code, (1, 500), (1, 500))
        for code in ("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6")
    ),
    real("LEAKY_RELU", (1, 50), (1, 50), table="LeakyRelu", options={"alpha": 0.3}),
    real("SOFTMAX", (3, 12), (3, 12), table="Softmax", options={"beta": 0.7}),
    real(
        "MEAN",
        (1, 4, 5, 6),
        (1, 6),
        more=constants(ints(1, 2)),
        table="Reducer",
        options={"keepDims": False},
    ),
    moved("TRANSPOSE", (2, 3, 4), (4, 3, 2), ints(2, 1, 0), dtype=DType.FLOAT32),
    *(
        moved(
            "RESIZE_BILINEAR",
            (1, 4, 5, 3),
            (1, *size, 3),
            ints(*size),
            dtype=DType.FLOAT32,
            table="ResizeBilinear",
            options={"alignCorners": corners, "halfPixelCenters": centers},
        )
        for size in ((8, 10), (3, 7))
        for corners, centers in ((False, False), (True, False), (False, True))
    ),
    moved("PAD", (2, 3), (3, 6), pairs((1, 0), (1, 2)), dtype=DType.FLOAT32),
]
"""Layers of real numbers, which are equal but for the last digits."""


def feeds(program: Program, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    found: list[Array] = []
    for k in program.inputs:
        tensor = program.tensors[k]
        if tensor.dtype is DType.FLOAT32:
            found.append(rng.normal(0, 5, tensor.shape).astype(np.float32))
        elif tensor.dtype in (I8, DType.UINT8) and tensor.shape == (1, 256):
            every = np.arange(256).astype(np.uint8).view(tensor.dtype.numpy)
            found.append(every.reshape(1, 256))
        else:
            numbers = rng.integers(*tensor.dtype.limits, tensor.shape, endpoint=True)
            found.append(numbers.astype(tensor.dtype.numpy))
    return found
