"""The lowest version of a builtin that takes given types: older runtimes read lower ones.

Source: tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgec.ir import DType
from edgec.targets.tflite.model import Tensor, is_wide

__all__ = ["least_version"]

_INT8: Mapping[DType, int] = {DType.INT8: 2}
_PAD: Mapping[DType, int] = {DType.INT8: 2, DType.INT16: 3, DType.BOOL: 5}
_EXTREME: Mapping[DType, int] = {DType.INT8: 2, DType.INT16: 4}
_ORDER: Mapping[DType, int] = {DType.INT8: 2, DType.INT16: 3}

_BY_TYPE: Mapping[str, Mapping[DType, int]] = {
    "ABS": {DType.INT8: 2, DType.UINT8: 2, DType.INT16: 4, DType.INT32: 5},
    "ADD": {DType.INT8: 2, DType.INT64: 4, DType.INT16: 5},
    "ARG_MAX": {DType.INT8: 2, DType.BOOL: 3},
    "ARG_MIN": {DType.INT8: 2, DType.BOOL: 3},
    "BROADCAST_TO": dict.fromkeys(DType, 2) | {DType.INT8: 3, DType.INT16: 3},
    "CAST": {
        DType.UINT32: 2,
        DType.INT8: 3,
        DType.UINT16: 4,
        DType.FLOAT16: 5,
        DType.FLOAT64: 5,
        DType.BFLOAT16: 7,
    },
    "CONCATENATION": {DType.INT8: 2, DType.INT16: 3},
    "DEPTH_TO_SPACE": _INT8,
    "DYNAMIC_UPDATE_SLICE": {DType.INT16: 4},
    "EQUAL": {DType.INT8: 2, DType.INT16: 5},
    "EXP": {DType.INT8: 2, DType.INT16: 2},
    "FILL": {DType.INT8: 3, DType.INT16: 3, DType.BOOL: 2},
    "FLOOR_DIV": {DType.FLOAT32: 2, DType.INT8: 3, DType.INT16: 3},
    "FLOOR_MOD": {DType.INT8: 2, DType.INT16: 2},
    "GATHER": {DType.INT8: 2, DType.BOOL: 3, DType.INT16: 4},
    "GATHER_ND": {DType.INT16: 3, DType.BOOL: 5},
    "GREATER": _INT8,
    "GREATER_EQUAL": _ORDER,
    "LESS": _ORDER,
    "LESS_EQUAL": _INT8,
    "LOG": {DType.INT8: 2, DType.INT16: 2},
    "LOGISTIC": _ORDER,
    "MAXIMUM": _EXTREME,
    "MEAN": _ORDER,
    "MINIMUM": _EXTREME,
    "MIRROR_PAD": {DType.INT8: 2, DType.INT16: 3},
    "MUL": {DType.INT8: 2, DType.INT64: 5, DType.INT16: 7, DType.UINT32: 7},
    "NOT_EQUAL": {DType.INT8: 2, DType.INT16: 4},
    "PACK": {DType.INT8: 2, DType.INT16: 3},
    "PAD": _PAD,
    "PADV2": _PAD,
    "RANGE": {DType.INT64: 2},
    "REDUCE_MAX": {DType.INT8: 2, DType.INT16: 3},
    "REDUCE_MIN": {DType.INT8: 2, DType.INT16: 3},
    "REDUCE_PROD": {DType.INT8: 2, DType.INT16: 2},
    "RELU": {DType.INT8: 2, DType.UINT8: 2, DType.INT16: 3},
    "RELU6": _ORDER,
    "REVERSE_V2": {DType.BOOL: 2, DType.INT8: 3},
    "RSQRT": _ORDER,
    "SIGN": {DType.INT32: 2},
    "SLICE": {DType.INT8: 2, DType.INT16: 4},
    "SOFTMAX": _ORDER,
    "SPACE_TO_DEPTH": _INT8,
    "SPLIT": {DType.INT8: 2, DType.INT32: 3, DType.INT16: 4},
    "SQRT": {DType.INT8: 2, DType.INT16: 2},
    "SQUARED_DIFFERENCE": _INT8,
    "STRIDED_SLICE": {DType.INT8: 2, DType.BOOL: 3},
    "SUB": {DType.INT8: 2, DType.INT64: 4, DType.INT16: 5},
    "SUM": _INT8,
    "TANH": _ORDER,
    "TILE": {DType.INT8: 3},
    "TOPK_V2": {DType.INT8: 2, DType.INT16: 3},
    "TRANSPOSE": {DType.INT8: 2, DType.BOOL: 3, DType.INT16: 5},
    "UNPACK": {DType.INT8: 2, DType.UINT8: 2, DType.BOOL: 3, DType.INT16: 4},
}

_SIXTEEN: Mapping[str, int] = {
    "ADD": 3,
    "AVERAGE_POOL_2D": 3,
    "BATCH_MATMUL": 3,
    "CONV_2D": 4,
    "DEPTHWISE_CONV_2D": 5,
    "DEQUANTIZE": 3,
    "FULLY_CONNECTED": 7,
    "LEAKY_RELU": 2,
    "MAX_POOL_2D": 3,
    "MUL": 4,
    "QUANTIZE": 2,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "SUB": 5,
}
"""For int16 with a scale, where that is not the version for int16 as such."""

_BY_RANK: Mapping[str, Mapping[int, int]] = {
    "PAD": {5: 4},
    "PADV2": {5: 4},
    "SLICE": {5: 5},
    "STRIDED_SLICE": {5: 4},
    "TRANSPOSE": {5: 4, 6: 6},
}
"""From this many axes on."""

_DEEP_BROADCAST = {"DIV": 2, "MAXIMUM": 3, "MINIMUM": 3, "SUB": 3}
"""What a builtin needs to broadcast more than 4 axes."""

_DATA = {"SPLIT": 1, "FILL": 1}
"""Which input says the type, where it is not the first."""


def least_version(code: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
    """Return the lowest version of a builtin for operands of these types and ranks."""
    data = inputs[_DATA.get(code, 0)]
    ranks = _BY_RANK.get(code, {})
    seen = [_for_type(code, t) for t in (data, *outputs)]
    seen += [version for rank, version in ranks.items() if len(data.shape) >= rank]
    shapes = {t.shape for t in inputs}
    if len(shapes) > 1 and any(len(shape) > 4 for shape in shapes):
        seen.append(_DEEP_BROADCAST.get(code, 1))
    return max([1, *seen])


def _for_type(code: str, tensor: Tensor) -> int:
    if is_wide(tensor) and code in _SIXTEEN:
        return _SIXTEEN[code]
    return _BY_TYPE.get(code, {}).get(tensor.dtype, 1)
