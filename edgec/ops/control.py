"""Operators that run subgraphs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from typing_extensions import override

from edgec.ir import DType, Example, OnnxNode, TensorType
from edgec.ops.opaque import Opaque

if TYPE_CHECKING:
    import onnx

__all__ = ["CONTROL_FLOW", "ControlFlow", "If", "Loop", "Scan"]


@dataclass(frozen=True, slots=True)
class ControlFlow(Opaque):
    """An operator with subgraphs, which are kept as the file has them.

    What subgraphs read from outside are the last operands, named by `captures`.
    """

    @classmethod
    @override
    def from_onnx(cls, node: OnnxNode) -> Self | None:
        return None  # the front end makes it, as it makes opaque operators

    @classmethod
    @abstractmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]: ...

    @property
    def bodies(self) -> dict[str, onnx.GraphProto]:
        """The subgraphs by the names of their attributes."""
        return {a.name: a.g for a in self.node_proto().attribute if a.HasField("g")}


@dataclass(frozen=True, slots=True)
class If(ControlFlow):
    """What one of two subgraphs yields, as a condition says.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__If.html
    """

    onnx_name: ClassVar[str] = "If"

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        x = rng.standard_normal((2, 3)).astype(np.float32)
        branches = {
            "then_branch": "yes () => (float[2, 3] a) { a = Neg(x) }",
            "else_branch": "no () => (float[2, 3] b) { b = Relu(x) }",
        }
        for condition in (True, False):
            op = _example(cls, branches, (TensorType(DType.FLOAT32, (2, 3)),), ("x",))
            yield Example(op, (np.array(condition), x))


@dataclass(frozen=True, slots=True)
class Loop(ControlFlow):
    """A subgraph that runs again and again, on what it yielded the time before.

    Inputs are the most steps, whether the first is taken, and what the first is given.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Loop.html
    """

    onnx_name: ClassVar[str] = "Loop"

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        body = (
            "turn (int64 i, bool go, float[2, 3] before) => (bool goes, float[2, 3] after)"
            " { goes = Identity(go) after = Add(before, before) }"
        )
        op = _example(cls, {"body": body}, (TensorType(DType.FLOAT32, (2, 3)),))
        x = rng.standard_normal((2, 3)).astype(np.float32)
        yield Example(op, (np.array(3, np.int64), np.array(True), x))


@dataclass(frozen=True, slots=True)
class Scan(ControlFlow):
    """A subgraph that runs for each index of an axis, with states that it hands on.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Scan.html
    """

    onnx_name: ClassVar[str] = "Scan"

    @classmethod
    @override
    def examples(cls, rng: np.random.Generator) -> Iterator[Example]:
        body = (
            "step (float[3] state, float[3] part) => (float[3] sum, float[3] copy)"
            " { sum = Add(state, part) copy = Identity(sum) }"
        )
        types = tuple(TensorType(DType.FLOAT32, dims) for dims in ((3,), (4, 3)))
        op = _example(cls, {"body": body}, types, num_scan_inputs=1)
        state, x = (rng.standard_normal(shape).astype(np.float32) for shape in ((3,), (4, 3)))
        yield Example(op, (state, x))


CONTROL_FLOW: Mapping[str, type[ControlFlow]] = {op.onnx_name: op for op in (If, Loop, Scan)}
"""By their names in ONNX."""


def _example(
    kind: type[ControlFlow],
    bodies: dict[str, str],
    types: Sequence[TensorType],
    captures: tuple[str, ...] = (),
    **attributes: int,
) -> ControlFlow:
    """Return an operator whose subgraphs are written in ONNX's text form."""
    import onnx

    node = onnx.NodeProto(op_type=kind.onnx_name)
    for name, text in bodies.items():
        graph = onnx.parser.parse_graph(text)
        node.attribute.append(onnx.helper.make_attribute(name, graph))
    for name, value in attributes.items():
        node.attribute.append(onnx.helper.make_attribute(name, value))
    node.attribute.sort(key=lambda a: a.name)
    proto = node.SerializeToString(deterministic=True)
    return kind(kind.onnx_name, "", 18, proto, tuple(types), captures)
