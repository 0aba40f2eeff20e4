from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from edgec.errors import ModelError
from edgec.frontend import load
from edgec.ir import OPSET, Array, Graph
from edgec.ops import Opaque
from edgec.passes import ExpandFunctions
from tests.models import Sketch, info, onnx_model, save
from tests.passes.properties import check_pass

expand = ExpandFunctions()


def one(
    folder: Path, kind: str, shapes: list[list[int]], arrays: dict[str, Array], *,
    opset: int = 18, inputs: list[str] | None = None, **attributes: Any,
) -> Graph:  # fmt: skip
    """A model of one node whose inputs are ``x0``, ``x1``, … and the arrays."""
    fed = [f"x{i}" for i in range(len(shapes))]
    node = helper.make_node(kind, inputs or [*fed, *arrays], ["y"], "layer", **attributes)
    infos = [info(name, *shape) for name, shape in zip(fed, shapes, strict=True)]
    return load(
        save(
            onnx_model(
                [node],
                infos,
                [info("y", *shapes[0]) if kind != "SoftmaxCrossEntropyLoss" else info("y", 2)],
                arrays,
                opset=opset,
            ),
            folder,
        )
    ).graph


def shrink(**attributes: Any) -> Graph:
    """An operator whose body needs nothing but attributes, kept from its own class."""
    s = Sketch(1, 3, 4)
    proto = helper.make_node("Shrink", [], [], **attributes)
    return s.graph(s.add(Opaque("Shrink", "", 18, proto.SerializeToString(), (s.x.type,)), s.x))


def kinds(graph: Graph) -> list[str]:
    return [n.op.op_type for n in graph.nodes if isinstance(n.op, Opaque)]


def test_a_body_without_context_is_written_out() -> None:
    graph = shrink(lambd=0.2, bias=0.1)

    after = check_pass(expand, graph)
    assert "Shrink" not in kinds(after)
    assert len(after.nodes) > 3
    assert {n.origin for n in after.nodes} == {("n0",)}
    assert after.outputs[0].name == "v0"


def test_attributes_that_the_node_leaves_out_have_their_defaults() -> None:
    check_pass(expand, shrink(lambd=0.2))  # bias is 0 then


def test_a_body_that_depends_on_its_operands_is_written_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"scale": np.asarray(rng.standard_normal(3), np.float32)}
    graph = one(tmp_path, "RMSNormalization", [[2, 4, 3]], arrays, opset=23, axis=1)

    after = check_pass(expand, graph)
    assert "RMSNormalization" not in kinds(after)


def test_functions_inside_functions_are_written_out_too(tmp_path: Path) -> None:
    shape = [1, 2, 3, 4]
    graph = one(tmp_path, "Attention", [shape, shape, shape], {}, opset=23)

    after = check_pass(expand, graph)
    assert not {"Attention", "CastLike"} & set(kinds(after))


def test_an_absent_operand_stays_absent(tmp_path: Path) -> None:
    shape = [1, 2, 3, 4]
    past = {"mask": np.zeros((3, 3), np.float32)}
    graph = one(
        tmp_path, "Attention", [shape, shape, shape], past, opset=23,
        inputs=["x0", "x1", "x2", "mask"], softcap=2.0,
    )  # fmt: skip

    after = check_pass(expand, graph)
    assert "Attention" not in kinds(after)


def test_operands_that_do_not_fit_are_the_fault_of_the_model(tmp_path: Path) -> None:
    low = np.zeros(5, np.float32)  # which should be a scalar
    graph = one(tmp_path, "Clip", [[2, 3]], {"low": low})

    with pytest.raises(ModelError, match=r"layer: .*\[2,3\] and \[5\] do not broadcast"):
        expand.run(graph)


def test_operators_without_a_body_stay(tmp_path: Path) -> None:
    graph = one(tmp_path, "Det", [[3, 3]], {})
    typed_or_opaque = [str(n.op) for n in graph.nodes]

    assert [str(n.op) for n in expand.run(graph).nodes] == typed_or_opaque


def test_a_graph_without_functions_comes_back_itself(tmp_path: Path) -> None:
    graph = one(tmp_path, "Relu", [[1, 3]], {})

    assert expand.run(graph) is graph


def test_a_body_of_an_older_opset_is_written_out_in_todays(tmp_path: Path) -> None:
    labels: dict[str, Array] = {"labels": np.array([0, 2]), "weights": np.ones(3, np.float32)}
    graph = one(tmp_path, "SoftmaxCrossEntropyLoss", [[2, 3]], labels, reduction="none")

    after = expand.run(graph)
    assert not {"SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"} & set(kinds(after))
    assert {n.op.opset for n in after.nodes if isinstance(n.op, Opaque)} <= {OPSET}


def test_what_the_caller_knows_of_its_results_is_kept(tmp_path: Path) -> None:
    """A range is as long as its operands say, which inference inside of the body cannot see."""
    bounds = {"limit": np.array(5.0, np.float32), "delta": np.array(2.0, np.float32)}
    node = helper.make_node("Range", ["x0", *bounds], ["y"], "layer")
    model = onnx_model([node], [info("x0")], [info("y", 3)], bounds, opset=18)
    graph = load(save(model, tmp_path)).graph

    after = expand.run(graph)
    assert after.outputs == graph.outputs


@pytest.mark.parametrize("causal", [0, 1])
def test_masked_scores_that_are_returned_are_left_to_who_can(
    tmp_path: Path, causal: int
) -> None:
    """ONNX Runtime has the lowest float where the standard says minus infinity."""
    names = ["q", "k", "v"]
    node = helper.make_node("Attention", names, ["y", "", "", "scores"], "layer",
                            is_causal=causal, qk_matmul_output_mode=1)  # fmt: skip
    infos = [info(n, 1, 2, 3, 4) for n in names]
    outs = [info("y", 1, 2, 3, 4), info("scores", 1, 2, 3, 3)]
    graph = load(save(onnx_model([node], infos, outs, opset=23), tmp_path)).graph

    if causal:
        assert expand.run(graph) is graph
        assert [d.where for d in expand.diagnostics(graph)] == ["layer"]
    else:
        check_pass(expand, graph)
        assert expand.diagnostics(graph) == ()
