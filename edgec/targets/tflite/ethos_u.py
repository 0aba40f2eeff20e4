"""What Arm's Ethos-U leaves of a TFLite file to the processor beside it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

from edgec.errors import Diagnostic, ModelError
from edgec.ir import DType
from edgec.targets.base import Artifact
from edgec.targets.tflite.devices import Npu
from edgec.targets.tflite.model import Model, Operator, Tensor
from edgec.targets.tflite.reader import read_tflite

__all__ = ["ethos_u_misfits", "has_compiler", "left_to_cpu", "misfits_by_rules"]


def has_compiler() -> bool:
    """Whether Arm's compiler is installed."""
    return importlib.util.find_spec("ethosu") is not None


def ethos_u_misfits(path: Path, model: Model, device: Npu) -> tuple[str, dict[int, str]]:
    """Return who says so, and the operators that a device does not run, with why.

    Parameters
    ----------
    path
        The file.
    model
        What it holds.

    Raises
    ------
    ModelError
        If Arm's compiler is installed and fails.
    """
    if not has_compiler():
        return "documented rules; ethos-u-vela is not installed", misfits_by_rules(
            model, device
        )
    return f"ethos-u-vela {metadata.version('ethos-u-vela')}", _compiled(path, model, device)


def left_to_cpu(artifact: Artifact, device: Npu) -> tuple[Diagnostic, ...]:
    """Return how much of an artifact a device runs, and each operator that it does not."""
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        path = Path(folder, f"model{artifact.suffix}")
        path.write_bytes(artifact.data)
        model = read_tflite(path)
        try:
            source, found = ethos_u_misfits(path, model, device)
        except ModelError as error:
            text = f"it is not known what {device.name} runs: {error.summary}"
            return (Diagnostic(text, device.name), *error.diagnostics)
    total = len(model.operators)
    head = (
        f"runs {total - len(found)} of {total} operators ({source}); what is proven here is "
        "the file in LiteRT"
    )
    return (
        Diagnostic(head, device.name),
        *(
            Diagnostic(f"{code} stays on the CPU beside {device.name}: {found[i]}", layer, hint)
            for i, ((code, layer), hint) in enumerate(
                zip(artifact.layers, _hints(model), strict=True)
            )
            if i in found
        ),
    )


def _hints(model: Model) -> Iterator[str]:
    """Yield a way out for each operator, where there is a plain one."""
    ends = {i for _, i in (*model.inputs, *model.outputs)}
    for op in model.operators:
        borders = op.code in ("QUANTIZE", "DEQUANTIZE") and ends.intersection(
            (*op.inputs, *op.outputs)
        )
        yield "--io-dtype int8 leaves it out" if borders else ""


def _compiled(path: Path, model: Model, device: Npu) -> dict[int, str]:
    """Return what the compiler says of the operators that it leaves out."""
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        command = [sys.executable, "-m", "ethosu.vela", str(path), "--output-dir", folder,
                   "--accelerator-config", device.accelerator]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise ModelError(
            f"ethos-u-vela fails on {path.name}", [Diagnostic(said[-1] if said else "no word")]
        )
    places = {model.tensors[op.outputs[0]].name: i for i, op in enumerate(model.operators)}
    found: dict[int, str] = {}
    for block in re.split(r"\n\s*\n", done.stdout):
        match = re.search(r"operator: \w+, ofm: '(.*)'\n\s*Reason: (.*)", block)
        if match and match[1] in places:
            found.setdefault(places[match[1]], match[2].strip())
    return found


# Source of the rules: the report that ethos-u-vela 5.2.0 writes of itself, with
# --supported-ops-report. Left out are limits that no small model reaches.
_LAYERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
_WIDE = {
    *("ADD", "EXPAND_DIMS", "MUL", "NEG", "QUANTIZE", "RESHAPE", "SQUEEZE", "SUB", "SUM"),
    "TRANSPOSE",
}
"""Operators that take 32 bits."""
_WITHOUT_GRID = {
    "ARG_MAX",
    "EXPAND_DIMS",
    "MIRROR_PAD",
    "PAD",
    "PADV2",
    "QUANTIZE",
    "TRANSPOSE",
}
_OPERATORS = {
    *_LAYERS, *_WIDE, *_WITHOUT_GRID,
    *("ABS", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "ELU", "EXP", "GELU"),
    *("HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN"),
    *("MINIMUM", "PACK", "PRELU", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RELU_0_TO_1"),
    *("RELU_N1_TO_1", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2", "RSQRT"),
    *("SLICE", "SOFTMAX", "SPLIT", "SPLIT_V", "SQUARED_DIFFERENCE", "STRIDED_SLICE", "TANH"),
    *("TILE", "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK"),
}  # fmt: skip
_OPERATORS_U85 = {
    *_OPERATORS,
    *("ASSIGN_VARIABLE", "CAST", "DIV", "EQUAL", "GATHER", "GREATER", "GREATER_EQUAL", "LESS"),
    *("LESS_EQUAL", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "NOT_EQUAL", "READ_VARIABLE"),
    *("REDUCE_ALL", "REDUCE_ANY", "SCATTER_ND", "SELECT", "SELECT_V2"),
}
_INTEGERS = {DType.INT8, DType.UINT8, DType.INT16, DType.INT32, DType.INT64}
_VALID = 1
"""Padding, as the file numbers it."""
_LARGEST_SUM = 127 << 16
_LARGEST_BIAS = 1 << 40


def misfits_by_rules(model: Model, device: Npu) -> dict[int, str]:
    """Return the operators that break a documented rule, with the rule.

    No word is no promise: the device's own compiler has the last one.
    """
    found: dict[int, str] = {}
    for position, op in enumerate(model.operators):
        reason = next(_broken(model, op, device), None)
        if reason is not None:
            found[position] = reason
    return found


def _broken(model: Model, op: Operator, device: Npu) -> Iterator[str]:
    is_u85 = device.name == "ethos-u85"
    if op.code not in (_OPERATORS_U85 if is_u85 else _OPERATORS):
        yield "is not among the operators that it runs"
        return
    operands = [model.tensors[i] for i in op.inputs if i >= 0]
    results = [model.tensors[i] for i in op.outputs]
    maps = [t for t in (*operands, *results) if t.data is None]
    known = {*_INTEGERS, DType.BOOL} if is_u85 else _INTEGERS
    for tensor in maps:
        if tensor.dtype not in known:
            yield f"{tensor.name} is {tensor.dtype.value}, and it computes on integers"
        elif tensor.dtype is DType.INT64 and op.code != "ARG_MAX":
            yield f"{tensor.name} has 64 bits an element"
        elif tensor.dtype is DType.INT32 and not is_u85 and op.code not in (*_WIDE, "ARG_MAX"):
            yield f"{tensor.name} has 32 bits an element"
        elif tensor.quant is None and op.code not in _WITHOUT_GRID and not is_u85:
            yield f"{tensor.name} has no scale"
    if op.code in _LAYERS:
        yield from _broken_by_layer(
            op, [model.tensors[i] if i >= 0 else None for i in op.inputs]
        )
    elif any(t.quant is not None and t.quant.axis is not None for t in (*operands, *results)):
        yield "it has a scale for each channel, which only layers with weights may"
    if op.code in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        yield from _broken_by_window(op)
    if op.code == "STRIDED_SLICE" and (strides := operands[3].data) is not None:
        outer = strides.tolist()[:-3] + strides.tolist()[-1:]
        if min(strides, default=1) < 0 or any(step != 1 for step in outer):
            yield "it steps over the channels or the batch"
    if op.code == "MEAN" and operands[0].shape[:1] not in ((), (1,)):
        yield f"its batch is {operands[0].shape[0]}, not 1"
    if op.code in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        yield from _broken_by_resize(op, operands[0].shape[1:3], results[0].shape[1:3])


def _broken_by_layer(op: Operator, operands: list[Tensor | None]) -> Iterator[str]:
    """Yield the rules of layers with weights."""
    place = 3 if op.code == "TRANSPOSE_CONV" else 2
    weight, bias = operands[1], operands[place] if len(operands) > place else None
    if weight is not None and weight.data is not None:
        if weight.dtype not in (DType.INT8, DType.UINT8):
            yield f"its weights are {weight.dtype.value}, not of 8 bits"
            return
        axis = weight.data.ndim - 1 if op.code == "DEPTHWISE_CONV_2D" else 0
        rows = np.moveaxis(weight.data, axis, 0).reshape(weight.data.shape[axis], -1)
        if int(np.abs(rows.astype(np.int64)).sum(axis=1).max(initial=0)) > _LARGEST_SUM:
            yield f"the magnitudes of the weights of a channel sum to more than {_LARGEST_SUM}"
    if bias is not None:
        if bias.data is None:
            yield "its bias is computed"
        elif bias.dtype not in (DType.INT32, DType.INT64):
            yield f"its bias is {bias.dtype.value}, not i32"
        elif int(np.abs(bias.data.astype(np.float64)).max(initial=0)) >= _LARGEST_BIAS:
            yield "its bias has more than 40 bits"
    yield from _broken_by_window(op)


def _broken_by_window(op: Operator) -> Iterator[str]:
    """Yield the rules of strides."""
    _, fields = op.options
    stride = max(int(fields.get(k, 1)) for k in ("strideH", "strideW"))
    dilation = max(int(fields.get(k, 1)) for k in ("dilationHFactor", "dilationWFactor"))
    padded = fields.get("padding") != _VALID
    if stride > 3 and (op.code == "DEPTHWISE_CONV_2D" or padded or dilation > 1):
        yield f"its stride is {stride}: above 3 only without padding and dilation"
    if op.code == "AVERAGE_POOL_2D" and padded:
        size = max(int(fields.get(k, 1)) for k in ("filterHeight", "filterWidth"))
        if size > 8:
            yield f"its padded window is {size} wide, above 8"


def _broken_by_resize(
    op: Operator, before: tuple[int, ...], after: tuple[int, ...]
) -> Iterator[str]:
    if before in (after, (1, 1)):
        return
    _, fields = op.options
    corners = int(bool(fields.get("alignCorners")))
    ratios = {(b - corners) / max(a - corners, 1) for a, b in zip(before, after, strict=True)}
    known = (
        {2.0}
        if fields.get("halfPixelCenters") and op.code == "RESIZE_BILINEAR"
        else {2.0, 4.0, 8.0}
    )
    if len(ratios) > 1 or not ratios <= known:
        yield f"it resizes {before} to {after}, not by 2, 4 or 8"
