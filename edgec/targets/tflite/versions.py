"""The lowest version of a builtin that takes given types: older runtimes read lower ones.

Source: tensorflow/compiler/mlir/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgec.ir import DType
from edgec.targets.tflite.model import Tensor

__all__ = ["least_version"]

_INT8: Mapping[DType, int] = {DType.INT8: 2}
_PAD: Mapping[DType, int] = {DType.INT8: 2, DType.INT16: 3, DType.BOOL: 5}
_EXTREME: Mapping[DType, int] = {DType.INT8: 2, DType.INT16: 4}
_ORDER: Mapping[DType, int] = {DType.INT8: 2, DType.INT16: 3}

_BY_TYPE: Mapping[str, Mapping[DType, int]] = {
    "BROADCAST_TO": dict.fromkeys(DType, 2) | {DType.INT8: 3, DType.INT16: 3},
    "CAST": {DType.INT8: 3},
    "CONCATENATION": {DType.INT8: 2, DType.INT16: 3},
    "DEPTH_TO_SPACE": _INT8,
    "DYNAMIC_UPDATE_SLICE": {DType.INT16: 4},
    "EQUAL": {DType.INT8: 2, DType.INT16: 5},
    "FILL": {DType.INT8: 3, DType.INT16: 3, DType.BOOL: 2},
    "FLOOR_MOD": {DType.INT8: 2, DType.INT16: 2},
    "GATHER": {DType.INT8: 2, DType.BOOL: 3, DType.INT16: 4},
    "GATHER_ND": {DType.INT16: 3, DType.BOOL: 5},
    "GREATER": _INT8,
    "GREATER_EQUAL": _ORDER,
    "LESS": _ORDER,
    "LESS_EQUAL": _INT8,
    "MAXIMUM": _EXTREME,
    "MINIMUM": _EXTREME,
    "MIRROR_PAD": {DType.INT8: 2, DType.INT16: 3},
    "NOT_EQUAL": {DType.INT8: 2, DType.INT16: 4},
    "PACK": {DType.INT8: 2, DType.INT16: 3},
    "PAD": _PAD,
    "PADV2": _PAD,
    "RANGE": {DType.INT64: 2},
    "REDUCE_MAX": {DType.INT8: 2, DType.INT16: 3},
    "REDUCE_MIN": {DType.INT8: 2, DType.INT16: 3},
    "REVERSE_V2": {DType.BOOL: 2, DType.INT8: 3},
    "SLICE": {DType.INT8: 2, DType.INT16: 4},
    "SPACE_TO_DEPTH": _INT8,
    "SPLIT": {DType.INT8: 2, DType.INT32: 3, DType.INT16: 4},
    "SPLIT_V": _INT8,
    "STRIDED_SLICE": {DType.INT8: 2, DType.BOOL: 3},
    "SUM": _INT8,
    "TILE": {DType.INT8: 3},
    "TOPK_V2": {DType.INT8: 2, DType.INT16: 3},
    "TRANSPOSE": {DType.INT8: 2, DType.BOOL: 3, DType.INT16: 5},
    "UNPACK": {DType.INT8: 2, DType.UINT8: 2, DType.BOOL: 3, DType.INT16: 4},
}

_BY_RANK: Mapping[str, Mapping[int, int]] = {
    "PAD": {5: 4},
    "PADV2": {5: 4},
    "SLICE": {5: 5},
    "STRIDED_SLICE": {5: 4},
    "TRANSPOSE": {5: 4, 6: 6},
}
"""From this many axes on."""

_DATA = {"SPLIT": 1, "FILL": 1}
"""Which input says the type, where it is not the first."""


def least_version(code: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
    """Return the lowest version of a builtin for operands of these types and ranks."""
    data = inputs[_DATA.get(code, 0)]
    types, ranks = _BY_TYPE.get(code, {}), _BY_RANK.get(code, {})
    seen = [types.get(t.dtype, 1) for t in (data, *outputs)]
    seen += [version for rank, version in ranks.items() if len(data.shape) >= rank]
    return max([1, *seen])
