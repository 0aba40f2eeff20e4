"""Files of one operator each, by family, and what to feed them."""

from __future__ import annotations

import numpy as np

from edgec.ir import Array, DType
from edgec.program import Program
from tests.targets.microcontroller.operator_sketches import (
    FROM_ZERO,
    I8,
    I16,
    SIGNED_UNIT,
    UNIT,
    binary,
    concatenated,
    constants,
    conv,
    dense,
    depthwise,
    grid,
    ints,
    lstm,
    moved,
    one,
    pairs,
    plain_binary,
    pool,
    product,
    real,
    several,
    single,
    split,
    svdf,
)

__all__ = ["FAMILIES", "REAL_FAMILY", "feeds"]

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
        depthwise((1, 7, 6, 4), (1, 3, 3, 12), (1, 4, 3, 12), strides=(2, 2), activation=1),
        depthwise((1, 5, 6, 3), (1, 3, 3, 15), (1, 5, 6, 15)),
        depthwise((1, 9, 9, 3), (1, 3, 3, 6), (1, 9, 9, 6), dilations=(2, 3)),
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
