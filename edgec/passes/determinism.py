"""Which operators compute the same from the same operands."""

from __future__ import annotations

from edgec.ir import Op
from edgec.ops import Opaque

__all__ = ["is_function"]

_KNOWN_DOMAINS = ("", "ai.onnx.ml", "com.microsoft")  # ONNX Runtime has no others
_RANDOM = {
    "Dropout",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "Sampling",
}


def is_function(op: Op) -> bool:
    """Whether a node's results depend on its operands alone, all of which it shows.

    Not so for random numbers, for domains that edgec does not know, and for nodes with
    subgraphs, in which anything may happen.
    """
    if not isinstance(op, Opaque):
        return True
    if op.domain not in _KNOWN_DOMAINS or op.op_type in _RANDOM or op.captures:
        return False
    return not any(a.HasField("g") or a.graphs for a in op.node_proto().attribute)
