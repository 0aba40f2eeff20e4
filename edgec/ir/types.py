"""Types of values: element type and shape; parameters of quantization."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np
from typing_extensions import override

__all__ = ["UNKNOWN", "ContainerType", "DType", "Dim", "QuantParams", "TensorType"]

Dim = int | str
"""A length, or the name of one that is only known when the graph runs."""

UNKNOWN = "?"
"""A length that has not even a name; it equals nothing but prints and compares as itself."""


class DType(Enum):
    """Element types; the value is the short name used in the textual IR."""

    UNDEFINED = "undefined"
    FLOAT32 = "f32"
    UINT8 = "u8"
    INT8 = "i8"
    UINT16 = "u16"
    INT16 = "i16"
    INT32 = "i32"
    INT64 = "i64"
    STRING = "str"
    BOOL = "bool"
    FLOAT16 = "f16"
    FLOAT64 = "f64"
    UINT32 = "u32"
    UINT64 = "u64"
    COMPLEX64 = "c64"
    COMPLEX128 = "c128"
    BFLOAT16 = "bf16"
    FLOAT8_E4M3FN = "f8e4m3fn"
    FLOAT8_E4M3FNUZ = "f8e4m3fnuz"
    FLOAT8_E5M2 = "f8e5m2"
    FLOAT8_E5M2FNUZ = "f8e5m2fnuz"
    UINT4 = "u4"
    INT4 = "i4"
    FLOAT4_E2M1 = "f4e2m1"
    FLOAT8_E8M0 = "f8e8m0"
    UINT2 = "u2"
    INT2 = "i2"
    FLOAT6_E2M3 = "f6e2m3"
    FLOAT6_E3M2 = "f6e3m2"

    @property
    def onnx(self) -> int:
        """The number of this type in ONNX's ``TensorProto.DataType``."""
        return _ONNX_CODES[self]

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The numpy dtype with the same values; strings are objects."""
        if self is DType.STRING:
            return np.dtype(object)
        if self in _RARE:
            import ml_dtypes  # the import is not free

            rare: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, _RARE[self]))
            return rare
        return np.dtype(self.name.lower())

    @property
    def is_float(self) -> bool:
        """Whether values are floating-point numbers of any width."""
        return "FLOAT" in self.name

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest value of an integer type."""
        signed, bits = self.value[0] == "i", int(self.value[1:])
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    @classmethod
    def of(cls, dtype: np.dtype[np.generic]) -> DType:
        """Return the element type of a numpy dtype; raise ``ValueError`` if there is none."""
        if dtype.kind in "OSU":
            return cls.STRING
        return _of_name(dtype)

    @classmethod
    def of_onnx(cls, code: int) -> DType:
        """Return the element type with a number of ONNX, or raise ``ValueError``."""
        for dtype, number in _ONNX_CODES.items():
            if number == code:
                return dtype
        raise ValueError(f"there is no element type for ONNX's number {code}")


# The order of the members is that of ONNX's TensorProto.DataType, which has no gaps up to 28.
_ONNX_CODES = {dtype: number for number, dtype in enumerate(DType)}

# Types that numpy itself lacks, by their names in ml_dtypes.
_RARE = {
    DType.BFLOAT16: "bfloat16",
    DType.FLOAT8_E4M3FN: "float8_e4m3fn",
    DType.FLOAT8_E4M3FNUZ: "float8_e4m3fnuz",
    DType.FLOAT8_E5M2: "float8_e5m2",
    DType.FLOAT8_E5M2FNUZ: "float8_e5m2fnuz",
    DType.UINT4: "uint4",
    DType.INT4: "int4",
    DType.FLOAT4_E2M1: "float4_e2m1fn",
    DType.FLOAT8_E8M0: "float8_e8m0fnu",
    DType.UINT2: "uint2",
    DType.INT2: "int2",
    DType.FLOAT6_E2M3: "float6_e2m3fn",
    DType.FLOAT6_E3M2: "float6_e3m2fn",
}


@cache  # numpy works a dtype's name out anew each time
def _of_name(dtype: np.dtype[np.generic]) -> DType:
    for rare, numpy_name in _RARE.items():
        if numpy_name == dtype.name:
            return rare
    if dtype.name.upper() not in DType.__members__:
        raise ValueError(f"there is no element type for numpy's {dtype.name}")
    return DType[dtype.name.upper()]


@dataclass(frozen=True, slots=True)
class QuantParams:
    """Affine quantization: ``real = scale * (stored - zero_point)``.

    Tuples, not arrays, so that they stay hashable and compare with ``==``.

    Parameters
    ----------
    scale, zero_point
        One entry, or one per index of `axis`. Scales are exactly representable in float32.
    axis
        The axis the entries run along; ``None`` for one entry for the whole tensor.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.zero_point):
            raise ValueError(f"{len(self.scale)} scales but {len(self.zero_point)} zero points")
        if self.axis is None and len(self.scale) != 1:
            raise ValueError("per-tensor quantization has exactly one scale")
        if not all(s > 0 and math.isfinite(s) for s in self.scale):
            raise ValueError("scales are positive and finite")

    def __str__(self) -> str:
        if self.axis is not None:
            return f"per-channel(axis={self.axis}, n={len(self.scale)})"
        return f"(scale={self.scale[0]:.6g}, zero_point={self.zero_point[0]})"


@dataclass(frozen=True, slots=True)
class TensorType:
    """What is known of a value before it is computed.

    Parameters
    ----------
    dtype
        Element type.
    dims
        One length an axis, or ``None`` where not even the rank is known.
    """

    dtype: DType
    dims: tuple[Dim, ...] | None

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Lengths of all axes; raise ``ValueError`` if the rank is not known."""
        if self.dims is None:
            raise ValueError("the rank is not known")
        return self.dims

    @property
    def ints(self) -> tuple[int, ...]:
        """Lengths of all axes; raise ``ValueError`` if one is not a known number."""
        found = tuple(d for d in self.shape if isinstance(d, int))
        if len(found) != len(self.shape):
            raise ValueError(f"the shape {self} is not known before the graph runs")
        return found

    @property
    def is_static(self) -> bool:
        """Whether all lengths are known numbers."""
        return self.dims is not None and all(isinstance(d, int) for d in self.dims)

    @property
    def rank(self) -> int:
        """Number of axes; raise ``ValueError`` if it is not known."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements; raise ``ValueError`` if it is not known."""
        return math.prod(self.ints)

    @property
    def size_bytes(self) -> int:
        """Bytes of the dense, unpadded tensor; raise ``ValueError`` if not known."""
        return self.size * self.dtype.numpy.itemsize

    def bound(self) -> TensorType:
        """Return the type for a batch of one: every length that has a name is 1."""
        if self.dims is None:
            return self
        named = (1 if isinstance(d, str) and d != UNKNOWN else d for d in self.dims)
        return TensorType(self.dtype, tuple(named))

    def with_shape(self, shape: tuple[Dim, ...]) -> TensorType:
        """Return the type with the same elements in another shape."""
        return TensorType(self.dtype, shape)

    def refines(self, other: TensorType) -> bool:
        """Whether every value of this type is one of `other`, which may know fewer lengths."""
        if self.dtype != other.dtype or isinstance(other, ContainerType):
            return False
        if other.dims is None:
            return True
        if self.dims is None or len(self.dims) != len(other.dims):
            return False
        return all(
            a == b or isinstance(b, str) for a, b in zip(self.dims, other.dims, strict=True)
        )

    def __str__(self) -> str:
        dims = "..." if self.dims is None else ",".join(map(str, self.dims))
        return f"{self.dtype.value}[{dims}]"


@dataclass(frozen=True, slots=True)
class ContainerType(TensorType):
    """A sequence, an optional or a map of what `element` says.

    To whoever looks for a tensor it is one of unknown rank: every pass leaves it alone, and
    only opaque operators take it. ONNX Runtime artifacts pass it through.

    Parameters
    ----------
    kind
        "seq", "optional" or "map".
    element
        What is in it; another container, perhaps.
    key
        Element type of a map's keys.
    """

    kind: str
    element: TensorType
    key: DType = DType.UNDEFINED

    @classmethod
    def of(cls, kind: str, element: TensorType, key: DType = DType.UNDEFINED) -> ContainerType:
        """Return the container of `element`, which lends it its element type."""
        return cls(element.dtype, None, kind, element, key)

    @override
    def with_shape(self, shape: tuple[Dim, ...]) -> TensorType:
        raise ValueError(f"{self} has no shape")

    @override
    def refines(self, other: TensorType) -> bool:
        return (
            isinstance(other, ContainerType)
            and (self.kind, self.key) == (other.kind, other.key)
            and self.element.refines(other.element)
        )

    def __str__(self) -> str:
        key = "" if self.key is DType.UNDEFINED else f"{self.key.value}, "
        return f"{self.kind}({key}{self.element})"
