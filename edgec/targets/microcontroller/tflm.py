"""A model packaged for those who run TFLite Micro: its bytes, its operators, its arena."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgec.errors import Diagnostic, UnsupportedError
from edgec.program.tables import read_tables
from edgec.targets.microcontroller.emulation.arena import smallest_arena
from edgec.targets.microcontroller.names import comment, identifier

__all__ = ["TflmPackage", "package_for_tflm"]

_WIDTH = 96

# Builtins that TFLite Micro's MicroMutableOpResolver can register.
# fmt: off
_BUILTINS = frozenset(
    (
        "ABS", "ADD", "ADD_N", "ARG_MAX", "ARG_MIN", "ASSIGN_VARIABLE", "AVERAGE_POOL_2D",
        "BATCH_MATMUL", "BATCH_TO_SPACE_ND", "BROADCAST_ARGS", "BROADCAST_TO", "CALL_ONCE",
        "CAST", "CEIL", "CONCATENATION", "CONV_2D", "COS", "CUMSUM", "DEPTHWISE_CONV_2D",
        "DEPTH_TO_SPACE", "DEQUANTIZE", "DIV", "DYNAMIC_UPDATE_SLICE", "ELU",
        "EMBEDDING_LOOKUP", "EQUAL", "EXP", "EXPAND_DIMS", "FILL", "FLOOR", "FLOOR_DIV",
        "FLOOR_MOD", "FULLY_CONNECTED", "GATHER", "GATHER_ND", "GREATER", "GREATER_EQUAL",
        "HARD_SWISH", "IF", "L2_NORMALIZATION", "L2_POOL_2D", "LEAKY_RELU", "LESS",
        "LESS_EQUAL", "LOG", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "LOGISTIC",
        "LOG_SOFTMAX", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL",
        "NEG", "NOT_EQUAL", "PACK", "PAD", "PADV2", "PRELU", "QUANTIZE", "READ_VARIABLE",
        "REDUCE_ALL", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RESHAPE",
        "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "ROUND", "RSQRT",
        "SELECT_V2", "SHAPE", "SIN", "SLICE", "SOFTMAX", "SPACE_TO_BATCH_ND",
        "SPACE_TO_DEPTH", "SPLIT", "SPLIT_V", "SQRT", "SQUARE", "SQUARED_DIFFERENCE",
        "SQUEEZE", "STRIDED_SLICE", "SUB", "SUM", "SVDF", "TANH", "TRANSPOSE",
        "TRANSPOSE_CONV", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK", "VAR_HANDLE", "WHILE",
        "ZEROS_LIKE",
    )
)
# fmt: on

# Where the method is called otherwise than the builtin in camel case.
_METHODS: Mapping[str, str] = MappingProxyType(
    {
        "BATCH_MATMUL": "AddBatchMatMul",
        "CUMSUM": "AddCumSum",
        "PADV2": "AddPadV2",
        "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
    }
)


@dataclass(frozen=True, slots=True)
class TflmPackage:
    """What a user of TFLite Micro adds to a project.

    Parameters
    ----------
    files
        Contents by name.
    operators
        Names of the builtins in the model.
    arena_bytes
        Size of the arena.
    """

    prefix: str
    files: Mapping[str, str]
    operators: tuple[str, ...]
    arena_bytes: int


def package_for_tflm(data: bytes, name: str, called: str = "the file") -> TflmPackage:
    """Return a ``.tflite`` file as sources for TFLite Micro.

    The arena is the smallest that the host's TFLite Micro runs the model in, found by trying.

    Raises
    ------
    ModelError
        If it is no TFLite file, or a damaged one.
    UnsupportedError
        If TFLite Micro has not all of its operators.
    NumericsError
        If TFLite Micro does not run it.
    OptionError
        If TFLite Micro is not installed.
    """
    entries = read_tables(data, called).entries
    codes = tuple(dict.fromkeys(sorted(entry.code for entry in entries)))
    _refuse_unknown(codes, called)
    prefix = identifier(name)
    arena = smallest_arena(data)
    files = {
        f"{prefix}_tflm_model.h": _fill(_MODEL_HEADER, prefix, name),
        f"{prefix}_tflm_model.c": _fill(_MODEL, prefix, name, bytes=_array(data)),
        f"{prefix}_tflm.h": _fill(
            _RESOLVER,
            prefix,
            name,
            arena=str(arena),
            count=str(len(codes)),
            adds="\n".join(f"  if (resolver.{_method(c)}() != kTfLiteOk) return kTfLiteError;"
                           for c in codes),
        ),
    }  # fmt: skip
    return TflmPackage(prefix, MappingProxyType(files), codes, arena)


def _refuse_unknown(codes: Sequence[str], called: str) -> None:
    unknown = [code for code in codes if code not in _BUILTINS]
    if unknown:
        raise UnsupportedError(
            f"TFLite Micro does not run {called}",
            [Diagnostic(f"it has no operator {code}") for code in unknown],
        )


def _method(code: str) -> str:
    if code in _METHODS:
        return _METHODS[code]
    words = "".join(word.capitalize() for word in code.split("_"))
    return "Add" + re.sub(r"2d$", "2D", words)


def _array(data: bytes) -> str:
    return "\n".join(_lines(f"{byte}," for byte in data))


def _lines(words: Iterable[str]) -> list[str]:
    return textwrap.wrap(
        " ".join(words), _WIDTH, initial_indent="    ", subsequent_indent="    "
    )


def _fill(text: str, prefix: str, name: str, **parts: str) -> str:
    parts = {"model": comment(name), **parts}
    for key, value in parts.items():
        text = text.replace(f"<{key}>", value)
    return text.replace("$A", prefix.upper()).replace("$", prefix)


_MODEL_HEADER = """\
/* The model "<model>" for TFLite Micro. Written by edgec; this file is yours. */

#ifndef $A_TFLM_MODEL_H
#define $A_TFLM_MODEL_H

#ifdef __cplusplus
extern "C" {
#endif

extern const unsigned char $_tflm_model[];
extern const unsigned int $_tflm_model_size;

#ifdef __cplusplus
}
#endif

#endif
"""

_MODEL = """\
/* The model "<model>" for TFLite Micro. Written by edgec; this file is yours. */

#include "$_tflm_model.h"

/* TFLite Micro reads it in place, and wants it aligned. */
#if defined(__cplusplus)
#define $A_TFLM_ALIGNED alignas(16)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define $A_TFLM_ALIGNED _Alignas(16)
#else
#define $A_TFLM_ALIGNED __attribute__((aligned(16)))
#endif

$A_TFLM_ALIGNED const unsigned char $_tflm_model[] = {
<bytes>
};

const unsigned int $_tflm_model_size = sizeof($_tflm_model);
"""

_RESOLVER = """\
// The model "<model>" for TFLite Micro. Written by edgec; this file is yours.
//
//   alignas(16) static uint8_t arena[$A_TFLM_ARENA_BYTES];
//   static $_tflm_resolver resolver;
//   $_tflm_register(resolver);
//   static tflite::MicroInterpreter interpreter(
//       tflite::GetModel($_tflm_model), resolver, arena, sizeof(arena));
//   interpreter.AllocateTensors();

#ifndef $A_TFLM_H
#define $A_TFLM_H

#include "$_tflm_model.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

// The smallest arena that the model runs in on a host with 64-bit pointers, found by trying:
// 16 bytes less fail. Boards with 32-bit pointers need less; optimized kernels may need more.
#define $A_TFLM_ARENA_BYTES <arena>

// The operators of the model, and no others: the linker leaves out the rest.
typedef tflite::MicroMutableOpResolver<<count>> $_tflm_resolver;

inline TfLiteStatus $_tflm_register($_tflm_resolver& resolver) {
<adds>
  return kTfLiteOk;
}

#endif
"""
