"""What ONNX Runtime says of operators that onnx does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgec.errors import UnsupportedError
from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.frontend.runtime_types import runtime_types
from edgec.ir import DType, TensorType, verify
from edgec.passes import simplify
from tests.models import info, onnx_model, save, unranked

MICROSOFT = {"com.microsoft": 1}
VERSIONS = {"": 18, **MICROSOFT}
F32, F16 = DType.FLOAT32, DType.FLOAT16


def test_types_of_a_contrib_operator_need_no_declaration(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("BiasGelu", ["x", "b"], ["a"], "gelu", domain="com.microsoft"),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    model = onnx_model(
        nodes, [info("x", 2, 3)], ["y"], {"b": np.ones(3, np.float32)}, domains=MICROSOFT
    )
    path = save(model, tmp_path)
    graph = load(path).graph
    verify(graph)
    x = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
    want = OnnxSession(ort_session(str(path))).run({"x": x})

    assert [str(n.op) for n in graph.nodes] == ["com.microsoft.BiasGelu", "Relu()"]
    assert graph.nodes[0].output.type == TensorType(F32, (2, 3))
    np.testing.assert_allclose(evaluate(graph, {"x": x})["y"], want["y"], atol=1e-6)


def test_a_contrib_operator_in_a_branch_needs_none_either(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuickGelu", ["x"], ["a"], "gelu", domain="com.microsoft"),
        helper.make_node("Relu", ["a"], ["t"]),
    ]
    then = helper.make_graph(nodes, "then", [], [info("t", 2, 3)])
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["e"])], "else", [], [info("e", 2, 3)]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
    model = onnx_model(
        [node], [info("x", 2, 3)], ["y"], {"c": np.array(True)}, domains=MICROSOFT
    )
    graph, _ = simplify(load(save(model, tmp_path)).graph)

    assert [str(n.op) for n in graph.nodes] == ["com.microsoft.QuickGelu", "Relu()"]


def test_what_the_model_declares_is_kept(tmp_path: Path) -> None:
    node = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")
    model = onnx_model([node], [info("x", "N", 3)], [info("y", "N", 3)], domains=MICROSOFT)
    graph = load(save(model, tmp_path), {"x": ("N", 3)}).graph

    assert graph.nodes[0].output.type == TensorType(F32, ("N", 3))


def test_a_rank_that_nobody_knows_stays_open() -> None:
    node = helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")
    found = runtime_types(node, VERSIONS, [TensorType(F32, None)])

    assert found == (TensorType(F32, None),)


def test_outputs_may_be_left_out() -> None:
    node = helper.make_node(
        "SkipLayerNormalization", ["x", "s", "g"], ["y", "", "", "sum"], domain="com.microsoft"
    )
    x = TensorType(F32, (1, 2, 4))
    found = runtime_types(node, VERSIONS, [x, x, TensorType(F32, (4,))])

    assert found == (x, TensorType(DType.UNDEFINED, None), TensorType(DType.UNDEFINED, None), x)


@pytest.mark.parametrize("domain", ["com.microsoft", "nobodys"])
def test_an_operator_that_onnx_runtime_lacks_has_to_be_declared(
    domain: str, tmp_path: Path
) -> None:
    node = helper.make_node("NoSuch", ["x"], ["a"], "layer", domain=domain)
    after = helper.make_node("Relu", ["a"], ["y"])
    model = onnx_model([node, after], [info("x", 2)], [unranked("y")], domains={domain: 1})

    assert runtime_types(node, {domain: 1}, [TensorType(F32, (2,))]) is None
    with pytest.raises(UnsupportedError) as caught:
        load(save(model, tmp_path))
    assert [str(d) for d in caught.value.diagnostics] == [
        f"layer: output a of {domain}.NoSuch (declare its type in the model, in value_info)"
    ]
