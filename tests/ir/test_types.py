from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from edgec.ir import UNKNOWN, ContainerType, DType, QuantParams, TensorType


def f32(*shape: int | str) -> TensorType:
    return TensorType(DType.FLOAT32, shape)


@pytest.mark.parametrize("dtype", DType, ids=lambda d: d.name)
def test_element_types_are_those_of_onnx(dtype: DType) -> None:
    names = {"FLOAT32": "FLOAT", "FLOAT64": "DOUBLE"}
    name = names.get(dtype.name, dtype.name)
    assert onnx.TensorProto.DataType.Name(dtype.onnx).replace("_", "") == name.replace("_", "")
    assert DType.of_onnx(dtype.onnx) is dtype
    if dtype is not DType.UNDEFINED:
        assert dtype.numpy == onnx.helper.tensor_dtype_to_np_dtype(dtype.onnx)
        assert DType.of(dtype.numpy) is dtype


@pytest.mark.parametrize("dtype", [np.dtype("datetime64[s]"), np.dtype([("a", "f4")])])
def test_other_numpy_types_have_no_element_type(dtype: np.dtype[np.generic]) -> None:
    with pytest.raises(ValueError, match="there is no element type for numpy's"):
        DType.of(dtype)


def test_an_unknown_number_has_no_element_type() -> None:
    with pytest.raises(ValueError, match="ONNX's number 99"):
        DType.of_onnx(99)


def test_text_arrays_are_strings() -> None:
    assert DType.of(np.dtype("U3")) is DType.of(np.dtype(object)) is DType.STRING


def test_floats_of_any_width_are_floats() -> None:
    assert {d.value for d in DType if d.is_float} >= {"f16", "bf16", "f32", "f64", "f8e5m2"}
    assert not any(d.is_float for d in (DType.INT8, DType.COMPLEX64, DType.BOOL))


def test_types_print_as_in_the_textual_ir() -> None:
    assert str(f32(1, "N", UNKNOWN)) == "f32[1,N,?]"
    assert str(f32()) == "f32[]"
    assert str(TensorType(DType.INT8, None)) == "i8[...]"


def test_what_a_static_type_knows() -> None:
    t = TensorType(DType.FLOAT16, (2, 3, 4))

    assert (t.ints, t.rank, t.size, t.size_bytes, t.is_static) == ((2, 3, 4), 3, 24, 48, True)
    assert t.with_shape((6,)) == TensorType(DType.FLOAT16, (6,))


def test_what_an_open_type_refuses_to_tell() -> None:
    assert not f32("N").is_static
    with pytest.raises(ValueError, match="not known before the graph runs"):
        _ = f32("N", 3).size
    with pytest.raises(ValueError, match="the rank is not known"):
        _ = TensorType(DType.FLOAT32, None).rank


@pytest.mark.parametrize(
    ("a", "b", "refines"),
    [
        (f32(2, 3), f32(2, 3), True),
        (f32(2, 3), f32("N", 3), True),
        (f32(2, 3), TensorType(DType.FLOAT32, None), True),
        (TensorType(DType.FLOAT32, None), TensorType(DType.FLOAT32, None), True),
        (f32("N", 3), f32("M", 3), True),
        (f32("N", 3), f32(2, 3), False),
        (f32(2, 3), f32(2, 4), False),
        (f32(2, 3), f32(2, 3, 1), False),
        (TensorType(DType.FLOAT32, None), f32(2), False),
        (TensorType(DType.INT8, (2, 3)), f32(2, 3), False),
        (TensorType(DType.INT8, (2, 3)), TensorType(DType.FLOAT32, None), False),
    ],
    ids=str,
)
def test_which_types_refine_which(a: TensorType, b: TensorType, refines: bool) -> None:
    assert a.refines(b) is refines


@pytest.mark.parametrize(
    ("scale", "zero", "axis", "message"),
    [
        ((1.0, 2.0), (0,), 0, "2 scales but 1 zero points"),
        ((1.0, 2.0), (0, 0), None, "exactly one scale"),
        ((0.0,), (0,), None, "positive and finite"),
        ((-1.0,), (0,), None, "positive and finite"),
        ((math.inf,), (0,), None, "positive and finite"),
        ((math.nan,), (0,), None, "positive and finite"),
    ],
)
def test_quantization_parameters_are_checked(
    scale: tuple[float, ...], zero: tuple[int, ...], axis: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        QuantParams(scale, zero, axis)


def test_quantization_parameters_print_briefly() -> None:
    assert str(QuantParams((0.5,), (-3,))) == "(scale=0.5, zero_point=-3)"
    assert str(QuantParams((0.5, 1), (0, 0), 1)) == "per-channel(axis=1, n=2)"


def test_containers_print_what_is_in_them() -> None:
    x = TensorType(DType.FLOAT32, (2, "N"))
    rows = ContainerType.of("seq", ContainerType.of("map", x, DType.INT64))

    assert str(ContainerType.of("optional", x)) == "optional(f32[2,N])"
    assert str(rows) == "seq(map(i64, f32[2,N]))"


def test_a_container_is_a_tensor_of_unknown_rank_to_others() -> None:
    t = ContainerType.of("seq", f32(2, 3))

    assert (t.dtype, t.dims, t.is_static) == (DType.FLOAT32, None, False)
    with pytest.raises(ValueError, match=r"seq\(f32\[2,3\]\) has no shape"):
        t.with_shape((6,))


def test_a_container_refines_one_of_its_kind_only() -> None:
    known, open_ = ContainerType.of("seq", f32(2)), ContainerType.of("seq", f32("N"))

    assert known.refines(open_)
    assert not open_.refines(known)
    assert not known.refines(TensorType(DType.FLOAT32, None))
    assert not TensorType(DType.FLOAT32, None).refines(known)
    assert not known.refines(ContainerType.of("optional", f32("N")))
