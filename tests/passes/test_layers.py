from __future__ import annotations

import onnx
import pytest

from edgec.ir import DType, Op, TensorType
from edgec.ops import OPS, Add, Conv, FullyConnected, MatMul, Neg, Opaque
from edgec.passes.determinism import is_function
from edgec.passes.layers import weight_values, weights_of
from tests.models import Sketch


def opaque(name: str) -> Opaque:
    proto = onnx.NodeProto(op_type=name).SerializeToString()
    return Opaque(name, "", 18, proto, (TensorType(DType.FLOAT32, None),))


@pytest.mark.parametrize(
    ("op", "want"),
    [
        (FullyConnected(), ["c1", "c2"]),
        (opaque("Gemm"), ["c1", "c2"]),
        (opaque("Sum"), []),
    ],
    ids=str,
)
def test_weights_are_what_follows_the_data(op: Op, want: list[str]) -> None:
    s = Sketch(1, 4)
    s.random(1)
    graph = s.graph(s.add(op, s.x, s.random(4, 4), s.random(4)))

    assert [v.name for v in weights_of(graph.nodes[0])] == want


def test_either_side_of_a_product_may_be_the_weights() -> None:
    s = Sketch(4, 4)
    graph = s.graph(s.add(MatMul(), s.random(4, 4), s.x))

    assert [v.name for v in weights_of(graph.nodes[0])] == ["c0", "x"]


def test_what_only_weights_are_computed_from_counts_as_weights() -> None:
    s = Sketch(1, 2, 4, 4)
    shared, own = s.random(2, 2, 1, 1), s.random(2, 2, 1, 1)
    w = s.add(Add(), s.add(Neg(), own), s.add(Neg(), shared))
    graph = s.graph(s.add(Conv(), s.x, w), s.add(Add(), s.x, shared))

    assert {v.name for v in weight_values(graph)} == {"v0", "v1", "v2", "c1"}


def test_no_typed_operator_is_random() -> None:
    """What `is_function` takes for granted; a typed dropout is one that drops nothing."""
    names = {op.onnx_name for op in OPS}
    assert not [n for n in names if n.startswith(("Random", "Bernoulli", "Multinomial"))]
    assert not is_function(opaque("RandomNormalLike"))
    assert is_function(opaque("Erf"))
