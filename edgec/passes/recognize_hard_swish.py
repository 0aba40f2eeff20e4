"""Hard sigmoids and hard swishes that exporters write as sums, clips and products."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgec.ir import Graph, Node
from edgec.ops import Clip, HardSigmoid, HardSwish
from edgec.passes.base import Pass, Promise, Within
from edgec.passes.patterns import Affine, Call, Reader, kind, near, recognize, short

__all__ = ["RecognizeHardSwish"]


@dataclass(frozen=True, slots=True)
class RecognizeHardSwish(Pass):
    """Rewrite a clipped line from 0 to 1 as ``HardSigmoid``; ``x`` times it as ``HardSwish``.

    Any ``k * Clip(a * x + b, low, high) + d`` that runs from 0 to 1 is
    ``HardSigmoid(alpha=k * a, beta=k * b + d)``; the usual form is ``Clip(x + 3, 0, 6) / 6``.
    With ``alpha = 1/6`` and ``beta = 1/2``, its product with ``x`` is ``HardSwish``. The
    constants may stand anywhere, as factors or divisors.

    A clip with no arithmetic around it stays, and so does what is read in the middle.
    Within rounding: the constants are multiplied beforehand.
    """

    name: ClassVar[str] = "recognize-hard-swish"
    promise: ClassVar[Promise] = Within(1e-4)

    @override
    def run(self, graph: Graph) -> Graph:
        return recognize(graph, (_hard_swish, _hard_sigmoid), ("Clip", "HardSigmoid"))


def _hard_swish(r: Reader, node: Node) -> Call | None:
    root = node.outputs[0]
    if kind(node) not in ("Mul", "Div"):
        return None
    for clip in r.inner(root, "Clip", "HardSigmoid"):
        for line in r.affines(clip.inputs[0]):
            x = line.value
            found = r.polynomial(root, x, clip.outputs[0])
            if found is None or not found.keys() <= {(1, 0), (1, 1)}:
                continue
            k, d = found.get((1, 1), 0.0), found.get((1, 0), 0.0)
            sigmoid = _sigmoid(clip, line, Affine(k, x, d))
            if sigmoid and near(sigmoid[0], 1 / 6) and near(sigmoid[1], 1 / 2):
                return Call.of(HardSwish(), x)
    return None


def _hard_sigmoid(r: Reader, node: Node) -> Call | None:
    outer = r.affine(node.outputs[0])
    clip = r.made_by(outer.value, "Clip")
    if clip is None:
        return None
    line = r.affine(clip.inputs[0])
    found = _sigmoid(clip, line, outer)
    if found is None or (clip is node and line.value == clip.inputs[0]):
        return None
    alpha, beta = found
    return Call.of(HardSigmoid(short(alpha), short(beta)), line.value)


def _sigmoid(clip: Node, line: Affine, outer: Affine) -> tuple[float, float] | None:
    """Return alpha and beta of ``outer(clip(line(x)))``, if that runs from 0 to 1."""
    match clip.op:
        case HardSigmoid(alpha, beta):
            low, high = 0.0, 1.0
        case Clip(low, high):
            alpha, beta = 1.0, 0.0
        case _:
            return None
    k, _, d = outer
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    ends = sorted((k * low + d, k * high + d))
    if abs(ends[0]) > 1e-6 or not near(ends[1], 1):
        return None
    slope = k * alpha
    return slope * line.scale, slope * line.offset + k * beta + d
