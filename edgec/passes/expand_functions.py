"""Write operators that the standard defines by others in terms of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.errors import Diagnostic, InternalError, ModelError
from edgec.frontend.functions import expand
from edgec.frontend.typing import plain
from edgec.ir import Builder, DType, Graph, Node
from edgec.ops import Opaque
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.eliminate_identities import EliminateIdentities
from edgec.passes.fold_constants import FoldConstants

__all__ = ["ExpandFunctions"]


@dataclass(frozen=True, slots=True)
class ExpandFunctions(Pass):
    """Replace operators without a class of their own by the body the ONNX standard gives them.

    Such a body computes with simpler operators, many of which a target has; an attention, say,
    is two matrix products around a softmax. Bodies may call functions again: repeated until
    none is left. Constants are folded between, since bodies compute shapes in the graph.

    A function of another domain stays. So does an attention that returns its masked scores,
    which are minus infinity by the standard and the lowest float in ONNX Runtime: a target
    that lacks the operator refuses it.
    Within rounding: a runtime may have computed the operator in another order.

    Raises
    ------
    ModelError
        If the operands of a node do not fit the body of its function.
    """

    name: ClassVar[str] = "expand-functions"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        return tuple(
            Diagnostic(
                "runtimes disagree on the masked scores that it returns",
                node.layer,
                "leave out the output qk_matmul_output",
            )
            for node in graph.nodes
            if _is_disputed(graph, node)
        )

    @override
    def run(self, graph: Graph) -> Graph:
        while True:
            b = Builder(graph)
            for node in graph.nodes:
                if _is_disputed(graph, node) or not _expanded(b, node):
                    b.copy(node)
            after = b.finish()
            if after is graph:
                return graph
            graph = EliminateIdentities().run(FoldConstants().run(after))


def _expanded(b: Builder, node: Node) -> bool:
    try:
        return expand(b, node)
    except InternalError as error:  # the body is the standard's: the operands are to blame
        raise ModelError(
            "the model has a node whose operands do not fit", error.diagnostics
        ) from error


def _is_disputed(graph: Graph, node: Node) -> bool:
    """Whether a node is an attention that returns scores after a mask of infinities."""
    if not isinstance(node.op, Opaque) or node.op.op_type != "Attention" or node.op.domain:
        return False
    scores = node.outputs[3:4]
    if not any(v in graph.users or v in graph.outputs for v in scores):
        return False
    attributes = {a.name: plain(a) for a in node.op.node_proto().attribute}
    masks = [v.type.dtype for v in node.inputs[3:4]]
    masked = attributes.get("is_causal", 0) == 1 or DType.BOOL in masks
    return masked and attributes.get("qk_matmul_output_mode", 0) in (1, 2)
