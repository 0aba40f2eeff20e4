"""Every operator on as many axes as its kernel says it takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edgec.evaluate import evaluate
from edgec.ir import Array, DType, Example, Op, TensorType
from edgec.ops import (
    LRN,
    Gather,
    GatherElements,
    GlobalAveragePool,
    GlobalLpPool,
    GlobalMaxPool,
    Resize,
    ReverseSequence,
    ScatterElements,
    SymmetricResize,
)
from edgec.targets import Tflite
from edgec.targets.tflite.kernels import LOWERINGS, written_out
from tests.targets.graphs import one_op, quantized, ran

DEEP = (2, 3, 1, 2, 3, 2, 1, 2)

# ONNX Runtime takes fewer axes of these, or the indices of an example do not fit any more.
OTHERS: tuple[type[Op], ...] = (
    *(Gather, GatherElements, GlobalAveragePool, GlobalLpPool, GlobalMaxPool, LRN, Resize),
    *(ReverseSequence, ScatterElements, SymmetricResize),
    *written_out.LOWERINGS,  # by passes, before the target sees them
)


def deepened(op: type[Op]) -> Iterator[tuple[str, Op, tuple[Array, ...]]]:
    """Yield the first example that stays valid when its operands get more axes."""
    for example in op.examples(np.random.default_rng(1)):
        rank = LOWERINGS[op].axes
        for operands in (wide(example, rank), wide(example, rank)[:1] + example.inputs[1:]):
            types = [TensorType(DType.of(a.dtype), a.shape) for a in operands]
            try:
                outputs = example.op.infer_node(types, [None, *operands[1:]])
            except ValueError:
                continue
            if all(t.is_static and t.rank <= rank for t in outputs) and not example.absent:
                yield f"{example.op}", example.op, operands
                return


def wide(example: Example, rank: int) -> tuple[Array, ...]:
    """Return an example's float operands with `rank` axes, the further ones broadcasting."""
    shapes = (DEEP[:rank], tuple(n if i % 2 else 1 for i, n in enumerate(DEEP[:rank])))
    return tuple(
        np.resize(a.ravel(), shapes[min(i, 1)]).astype(a.dtype)
        for i, a in enumerate(example.inputs)
    )


CASES = [c for op in LOWERINGS if not issubclass(op, OTHERS) for c in deepened(op)]


@pytest.mark.parametrize(("op", "operands"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_kernels_take_the_axes_they_say(op: Op, operands: tuple[Array, ...]) -> None:
    graph, feeds = one_op(op, *operands)
    got, _, _ = ran(Tflite(), graph, feeds)

    for name, want in evaluate(graph, feeds).items():
        np.testing.assert_allclose(got[name], want, rtol=1e-3, atol=1e-4)
    if operands[0].dtype != np.float32 or op.quant_rule() is None:
        return
    made = quantized(graph, feeds)
    got, _, _ = ran(Tflite(), made, feeds)
    for name, want in evaluate(made, feeds).items():
        np.testing.assert_allclose(got[name], want, atol=0.03 * float(np.abs(want).max()))


def test_most_operators_were_deepened() -> None:
    assert len(CASES) > 80
