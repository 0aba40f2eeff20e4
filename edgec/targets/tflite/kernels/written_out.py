"""Operators that passes write in terms of others; what is left of them has no TFLite form."""

from __future__ import annotations

from collections.abc import Mapping

from edgec.errors import InternalError
from edgec.ir import Graph, Node, Op
from edgec.ops import ConvInteger, DeformConv, Dft, GridSample, MatMulInteger, RoiAlign, Stft
from edgec.targets.tflite.kernels.kernel import ANY, Constraint, Kernel
from edgec.targets.tflite.lower import Lowering

__all__ = ["CONSTRAINTS", "LOWERINGS"]


def _left(b: Lowering, node: Node, op: Op) -> None:
    raise InternalError(f"{node.layer} was not written out, which the check overlooked")


def _constant_regions(graph: Graph, node: Node) -> str | None:
    """Regions are constants, and hold a pixel."""
    computed = [v for v in node.inputs[1:] if graph.constant(v) is None]
    return f"{computed[0]} is computed" if computed else "none holds one"


def _sums_in_parts(graph: Graph, node: Node) -> str | None:
    """Sums of integers are cut into parts that float32 holds, channel by channel."""
    return f"{node.inputs[1]} is {node.inputs[1].type}"


def _has_places(graph: Graph, node: Node) -> str | None:
    """There are places to read, and elements to read there."""
    operands = (*node.reads, *node.outputs)
    empty = next((v for v in operands if not v.type.size), node.output)
    return f"{empty} is {empty.type}"


def _plain_signal(graph: Graph, node: Node) -> str | None:
    """Signals are float32; under windows they are real, and the windows are constants."""
    computed = [v for v in node.inputs[1:] if v.name and graph.constant(v) is None]
    return f"{computed[0]} is computed" if computed else f"the signal is {node.inputs[0].type}"


_KERNEL = Kernel(_left, ANY)

LOWERINGS: Mapping[type[Op], Kernel] = {
    ConvInteger: _KERNEL,
    DeformConv: _KERNEL,
    Dft: _KERNEL,
    GridSample: _KERNEL,
    MatMulInteger: _KERNEL,
    RoiAlign: _KERNEL,
    Stft: _KERNEL,
}

CONSTRAINTS = (
    Constraint((RoiAlign,), _constant_regions, "compile for onnxruntime"),
    Constraint((ConvInteger, MatMulInteger), _sums_in_parts, "compile for onnxruntime"),
    Constraint((DeformConv, GridSample), _has_places),
    Constraint((Dft, Stft), _plain_signal, "compile for onnxruntime"),
)
