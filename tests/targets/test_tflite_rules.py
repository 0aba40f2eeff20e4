"""Rules of the file, each broken once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgec.errors import InternalError
from edgec.ir import DType, QuantParams
from edgec.targets.tflite.model import Model, Operator, Tensor
from edgec.targets.tflite.rules import verify

I8, I32, F32 = DType.INT8, DType.INT32, DType.FLOAT32


def grid(*scale: float, zero: int = 0, axis: int | None = None) -> QuantParams:
    return QuantParams(scale, (zero,) * len(scale), axis)


def sound() -> Model:
    """Return a convolution of two channels, a pool and a softmax, all in order."""
    model = Model("m")
    model.tensors = [
        Tensor("x", I8, (1, 2, 2, 1), quant=grid(0.5, zero=3)),
        Tensor(
            "w", I8, (2, 1, 1, 1), np.ones((2, 1, 1, 1), np.int8), grid(0.25, 0.125, axis=0)
        ),
        Tensor("b", I32, (2,), np.ones(2, np.int32), grid(0.125, 0.0625, axis=0)),
        Tensor("y", I8, (1, 2, 2, 2), quant=grid(0.1)),
        Tensor("p", I8, (1, 1, 1, 2), quant=grid(0.1)),
        Tensor("s", I8, (1, 1, 1, 2), quant=grid(1 / 256, zero=-128)),
    ]
    model.operators = [
        Operator("CONV_2D", (0, 1, 2), (3,), layer="conv"),
        Operator("MAX_POOL_2D", (3,), (4,), layer="pool"),
        Operator("SOFTMAX", (4,), (5,), layer="softmax"),
    ]
    model.inputs, model.outputs = [("x", 0)], [("s", 5)]
    return model


def test_a_sound_model_is_silent() -> None:
    verify(sound())


Break = Callable[[Model], object]


def set_tensor(index: int, **fields: Any) -> Break:
    def change(model: Model) -> None:
        for name, value in fields.items():
            setattr(model.tensors[index], name, value)

    return change


def set_operator(index: int, **fields: Any) -> Break:
    def change(model: Model) -> None:
        for name, value in fields.items():
            setattr(model.operators[index], name, value)

    return change


def depthwise(model: Model) -> None:
    model.operators[0].code = "DEPTHWISE_CONV_2D"


def wide_sums(short: int, **bias: Any) -> Break:
    """Let the convolution read and give int16, and add up in 32 bits or not be told to."""

    def change(model: Model) -> None:
        for i in (0, 3, 4, 5):
            zero = model.tensors[i].quant
            assert zero is not None
            model.tensors[i].dtype = DType.INT16
            model.tensors[i].quant = grid(zero.scale[0] if i < 5 else 2.0**-15)
        if short:
            options = {"quantizedBiasType": I32}
            model.operators[0].options = ("Conv2D", options)
        set_tensor(2, **bias)(model)

    return change


def test_sums_of_32_bits_that_fit_are_silent() -> None:
    model = sound()
    wide_sums(1)(model)
    verify(model)


BROKEN: list[tuple[Break, str]] = [
    (set_tensor(3, quant=None), "conv: CONV_2D has 8-bit elements but no scale"),
    (set_tensor(0, quant=grid(0.5, zero=128)), "x: has a zero point outside of i8"),
    (set_tensor(0, dtype=DType.INT16), "x: has 16 bits and a zero point"),
    (wide_sums(0), "conv: the bias must be int64 with zero point 0"),
    (wide_sums(1, dtype=DType.INT64), "conv: the bias must be int32 with zero point 0"),
    (
        wide_sums(1, data=np.full(2, 2**31 - 2**15, np.int32)),
        "conv: sums of 32 bits may overflow",
    ),
    (
        set_tensor(2, dtype=DType.INT64),
        "conv: the bias must be int32 with zero point 0",
    ),
    (set_tensor(0, quant=grid(0.5, zero=-129)), "x: has a zero point outside of i8"),
    (set_tensor(2, quant=grid(0.125, 0.0625, axis=3)), "b: is quantized along axis 3 of 1"),
    (set_tensor(1, quant=grid(0.25, axis=0)), "w: has 1 scales for 2"),
    (set_tensor(1, shape=(2, 1, 1)), "w: holds (2, 1, 1, 1), declared (2, 1, 1)"),
    (lambda m: m.operators.reverse(), "softmax: reads p before it is written"),
    (set_operator(1, outputs=(3,)), "pool: writes y again"),
    (set_operator(0, inputs=(0, 1)), "conv: CONV_2D has no bias"),
    (
        set_tensor(1, dtype=F32, quant=None),
        "conv: CONV_2D has weights that are no int8 constant",
    ),
    (set_tensor(1, data=None), "conv: CONV_2D has weights that are no int8 constant"),
    (
        set_tensor(1, data=np.full((2, 1, 1, 1), -128, np.int8)),
        "conv: weights must be symmetric, in [-127, 127]",
    ),
    (
        set_tensor(1, quant=grid(0.25, 0.125, zero=1, axis=0)),
        "conv: weights must be symmetric, in [-127, 127]",
    ),
    (depthwise, "conv: weights are per channel of axis 0"),
    (set_tensor(2, dtype=DType.INT64), "conv: the bias must be int32 with zero point 0"),
    (set_tensor(2, quant=None), "conv: the bias must be int32 with zero point 0"),
    (
        set_tensor(2, quant=grid(0.125, 0.0625, zero=1, axis=0)),
        "conv: the bias must be int32 with zero point 0",
    ),
    (set_tensor(2, quant=grid(0.125)), "conv: 1 bias scales, 2 of weights"),
    (
        set_tensor(2, quant=grid(0.125, 0.0626, axis=0)),
        "conv: the bias scale is not input scale times weight scale",
    ),
    (set_tensor(4, quant=grid(0.2)), "pool: MAX_POOL_2D has different grids before and after"),
    (
        set_tensor(5, quant=grid(1 / 256)),
        "softmax: SOFTMAX must have scale 0.00390625 and zero point -128",
    ),
    (
        set_tensor(5, quant=grid(1 / 255, zero=-128)),
        "softmax: SOFTMAX must have scale 0.00390625 and zero point -128",
    ),
    (set_tensor(5, dtype=F32, quant=None), "softmax: SOFTMAX mixes ['f32', 'i8']"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_a_broken_rule_names_the_layer(change: Break, message: str) -> None:
    model = sound()
    change(model)

    with pytest.raises(InternalError) as caught:
        verify(model)

    assert caught.value.summary == "the TFLite model is not valid"
    assert message in [str(d) for d in caught.value.diagnostics]


@pytest.mark.parametrize("code", ["LOGISTIC", "TANH"])
def test_functions_have_the_grids_their_kernels_prescribe(code: str) -> None:
    model = sound()
    model.operators[2].code = code
    scale, zero = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}[code]
    model.tensors[5].quant = grid(scale, zero=zero)
    verify(model)
    model.tensors[5].quant = grid(scale, zero=zero + 1)

    with pytest.raises(InternalError, match=f"{code} must have scale"):
        verify(model)


@pytest.mark.parametrize("code", ["CONCATENATION", "RESHAPE", "PAD", "TRANSPOSE", "PADV2",
                                  "AVERAGE_POOL_2D", "STRIDED_SLICE"])  # fmt: skip
def test_operators_that_move_values_keep_the_grid(code: str) -> None:
    model = sound()
    model.operators[1].code = code
    verify(model)
    model.tensors[3].quant = grid(0.2)

    with pytest.raises(InternalError, match=f"{code} has different grids"):
        verify(model)


def test_every_operand_of_a_concatenation_is_on_the_grid() -> None:
    model = sound()
    model.operators[1] = Operator("CONCATENATION", (3, 0), (4,), layer="cat")

    with pytest.raises(InternalError, match="cat: CONCATENATION has different grids"):
        verify(model)
