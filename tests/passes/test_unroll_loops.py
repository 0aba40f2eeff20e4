from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.evaluate import OnnxSession, evaluate, ort_session
from edgec.frontend import load
from edgec.ir import Array, Graph, verify
from edgec.ops import Opaque
from edgec.passes import FoldConstants, UnrollLoops
from tests.models import info, onnx_model, save

F32, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X = np.arange(12, dtype=np.float32).reshape(3, 4) / 4 - 1


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), **attributes)


def body(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    **arrays: Array,
) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]
    return helper.make_graph(nodes, "body", inputs, outputs, tensors)


def loop_body(
    nodes: Sequence[onnx.NodeProto], states: int = 1, lists: int = 0, **arrays: Array
) -> onnx.GraphProto:
    """A body that reads ``t go s0…``, and yields ``again n0… l0…``."""
    read = [info("t", dtype=I64), info("go", dtype=BOOL)]
    read += [helper.make_tensor_value_info(f"s{k}", F32, None) for k in range(states)]
    names = [*(f"n{k}" for k in range(states)), *(f"l{k}" for k in range(lists))]
    given = [info("again", dtype=BOOL)]
    given += [helper.make_tensor_value_info(name, F32, None) for name in names]
    return body(nodes, read, given, **arrays)


def loaded(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str],
    arrays: Mapping[str, Array],
    **inputs: Array,
) -> tuple[Graph, dict[str, Array], dict[str, Array]]:
    """Return the graph, what to feed, and what ONNX Runtime makes of the model."""
    feeds = {"x": X, **inputs}
    kinds = {k: helper.np_dtype_to_tensor_dtype(a.dtype) for k, a in feeds.items()}
    declared = [info(k, *a.shape, dtype=kinds[k]) for k, a in feeds.items()]
    path = save(onnx_model(nodes, declared, outputs, arrays), folder)
    want = OnnxSession(ort_session(str(path))).run(feeds)
    return FoldConstants().run(load(path).graph), feeds, want


def check(graph: Graph, feeds: dict[str, Array], want: dict[str, Array]) -> Graph:
    """Write all loops out, and compare with what they compute."""
    after = UnrollLoops().run(graph)
    verify(after)
    assert UnrollLoops().run(after) is after
    assert not any(isinstance(n.op, Opaque) for n in after.nodes), str(after)
    assert [v.name for v in after.outputs] == list(want)
    got = evaluate(after, feeds)
    for name, array in want.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=1e-6, atol=1e-7)
    return after


def kept(graph: Graph, step: UnrollLoops | None = None) -> str:
    """Return why the only loop of a graph stays."""
    step = step or UnrollLoops()
    assert step.run(graph) is graph
    (loop,) = (n for n in graph.nodes if isinstance(n.op, Opaque) and n.op.captures is not None
               and n.op.op_type in ("If", "Loop", "Scan"))  # fmt: skip
    reason = step.reason(graph, loop)
    assert reason is not None
    return reason


TWICE = (node("Mul", "s0 two", "n0"), node("Identity", "go", "again"))
COUNT: dict[str, Array] = {"m": np.array(3, np.int64), "true": np.array(True)}
TWO = np.array(2, np.float32)


# ---- Loop


def test_a_loop_of_known_length(tmp_path: Path) -> None:
    nodes = [node("Loop", "m true x", "y", body=loop_body(TWICE, two=TWO), name="again")]

    after = check(*loaded(tmp_path, nodes, ["y"], COUNT))
    assert [str(n.op) for n in after.nodes] == ["Mul()"] * 3
    assert len(after.constants) == 1


@pytest.mark.parametrize("m", [np.array([3], np.int64), np.array(3, np.int64)], ids=str)
def test_a_count_may_have_an_axis(m: Array, tmp_path: Path) -> None:
    nodes = [node("Loop", "m true x", "y", body=loop_body(TWICE, two=TWO))]

    check(*loaded(tmp_path, nodes, ["y"], {"m": m, "true": np.array(True)}))


def test_steps_are_listed(tmp_path: Path) -> None:
    nodes = [node("Identity", "s0", "l0"), *TWICE]
    loop = node("Loop", "m  x", "y ys", body=loop_body(nodes, 1, 1, two=TWO))

    check(*loaded(tmp_path, [loop], ["y", "ys"], COUNT))
    (graph, _, _) = loaded(tmp_path, [loop], ["y"], COUNT)
    assert not any("Concat" in str(n.op) for n in UnrollLoops().run(graph).nodes)


def test_a_body_may_depend_on_the_number_of_the_step(tmp_path: Path) -> None:
    nodes = [
        node("Gather", "x t", "row", axis=0),
        node("Cast", "t", "number", to=F32),
        node("Mul", "row number", "part"),
        node("Add", "s0 part", "n0"),
        node("Identity", "go", "again"),
    ]
    arrays = {**COUNT, "zero": np.zeros(4, np.float32)}
    loop = node("Loop", "m true zero", "y", body=loop_body(nodes))

    check(*loaded(tmp_path, [loop], ["y"], arrays))


def test_a_state_may_grow(tmp_path: Path) -> None:
    nodes = [node("Concat", "s0 x", "n0", axis=0), node("Identity", "go", "again")]
    loop = node("Loop", "m true x", "y", body=loop_body(nodes))

    check(*loaded(tmp_path, [loop], ["y"], COUNT))


def test_the_number_of_a_step_may_end_it(tmp_path: Path) -> None:
    nodes = [TWICE[0], node("Less", "t last", "again")]
    loop = node("Loop", " true x", "y", body=loop_body(nodes, two=TWO, last=np.array(4)))

    after = check(*loaded(tmp_path, [loop], ["y"], COUNT))
    assert len(after.nodes) == 5


def test_a_counter_may_end_it(tmp_path: Path) -> None:
    nodes = [
        node("Mul", "s0 two", "n0"),
        node("Add", "s1 step", "n1"),
        node("Less", "n1 last", "again"),
    ]
    inner = loop_body(nodes, 2, two=TWO, step=np.array([2]), last=np.array([9]))
    for value in (inner.input[3], inner.output[2]):
        value.type.tensor_type.elem_type = I64
    inner.output[0].type.tensor_type.shape.dim.add().dim_value = 1
    loop = node("Loop", " true x zero", "y n", body=inner)

    after = check(*loaded(tmp_path, [loop], ["y"], {**COUNT, "zero": np.array([0])}))
    assert [str(n.op) for n in after.nodes] == ["Mul()"] * 5


def test_a_loop_may_end_early(tmp_path: Path) -> None:
    nodes = [
        TWICE[0],
        node("ReduceMax", "n0", "top", keepdims=0),
        node("Less", "top limit", "again"),
    ]
    limits = [0.5, 2.0, 5.0, 100.0]
    for limit in limits:
        arrays = {**COUNT, "m": np.array(4, np.int64)}
        inner = loop_body(nodes, two=TWO, limit=np.array(limit, np.float32))
        check(*loaded(tmp_path, [node("Loop", "m true x", "y", body=inner)], ["y"], arrays))


@pytest.mark.parametrize("go", [True, False])
def test_a_loop_may_not_begin(go: bool, tmp_path: Path) -> None:
    loop = node("Loop", "m go x", "y", body=loop_body(TWICE, two=TWO))

    check(*loaded(tmp_path, [loop], ["y"], COUNT, go=np.array(go)))


def test_a_loop_of_no_steps_is_what_it_begins_with(tmp_path: Path) -> None:
    arrays = {"m": np.array(0, np.int64), "true": np.array(True)}
    loop = node("Loop", "m true x", "y", body=loop_body(TWICE, two=TWO))

    assert len(check(*loaded(tmp_path, [loop], ["y"], arrays)).nodes) == 1


def test_values_from_outside_are_read(tmp_path: Path) -> None:
    nodes = [
        node("Add", "s0 twice", "sum"),
        node("MatMul", "sum w", "n0"),
        node("Identity", "go", "again"),
    ]
    w = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    graph = [
        node("Add", "x x", "twice"),
        node("Loop", "m true x", "y", body=loop_body(nodes)),
    ]

    after = check(*loaded(tmp_path, graph, ["y"], {**COUNT, "w": w}))
    assert [c.array.shape for c in after.constants.values()] == [(4, 4)]


def test_loops_in_loops(tmp_path: Path) -> None:
    inner = [node("Add", "s0 x", "n0"), node("Identity", "go", "again")]
    inner_body = loop_body(inner)
    for value in (*inner_body.input, *inner_body.output):
        value.name = f"i{value.name}"
    for n in inner_body.node:
        n.input[:] = [name if name == "x" else f"i{name}" for name in n.input]
        n.output[:] = [f"i{name}" for name in n.output]
    nodes = [node("Loop", "m true s0", "n0", body=inner_body), node("Identity", "go", "again")]
    loop = node("Loop", "m true x", "y", body=loop_body(nodes))

    after = check(*loaded(tmp_path, [loop], ["y"], COUNT))
    assert [str(n.op) for n in after.nodes] == ["Add()"] * 9


def test_layers_inside_keep_their_names(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["s0", "two"], ["n0"], name="double"), TWICE[1]]
    loop = node("Loop", "m true x", "y", body=loop_body(nodes, two=TWO))
    graph, _, _ = loaded(tmp_path, [loop], ["y"], COUNT)

    assert {n.origin[0] for n in UnrollLoops().run(graph).nodes} == {"double"}


def test_a_loop_of_unknown_length_stays(tmp_path: Path) -> None:
    loop = node("Loop", "m true x", "y", body=loop_body(TWICE, two=TWO))
    graph, _, _ = loaded(tmp_path, [loop], ["y"], {"true": COUNT["true"]}, m=COUNT["m"])

    assert kept(graph) == "how often it runs is computed"


def test_steps_are_not_listed_where_a_loop_may_end_early(tmp_path: Path) -> None:
    nodes = [node("Identity", "s0", "l0"), TWICE[0], node("Less", "t n", "again")]
    loop = node("Loop", "m true x", "y ys", body=loop_body(nodes, 1, 1, two=TWO))
    n = np.array(1, np.int64)
    graph, _, _ = loaded(tmp_path, [loop], ["y", "ys"], COUNT, n=n)

    assert kept(graph) == "how often it runs is computed"


def test_an_endless_loop_stays(tmp_path: Path) -> None:
    (loop,) = [node("Loop", "m true x", "y", body=loop_body(TWICE, two=TWO))]
    arrays = {**COUNT, "m": np.array(30, np.int64)}
    graph, _, _ = loaded(tmp_path, [loop], ["y"], arrays)

    assert kept(graph, UnrollLoops(20)) == "it takes more than 20 nodes"


def broken(folder: Path, nodes: Sequence[onnx.NodeProto], *shape: int) -> str:
    """Why a loop stays whose result is said to be of a shape."""
    loop = node("Loop", "m true x", "y", body=loop_body(nodes, two=np.ones(5, np.float32)))
    y = info("y", *shape) if shape else "y"
    path = save(onnx_model([loop], [info("x", 3, 4)], [y], COUNT), folder)
    return kept(load(path).graph)


def test_a_body_that_makes_no_sense_stays(tmp_path: Path) -> None:
    reason = broken(tmp_path, TWICE)

    assert reason.startswith("its body makes no sense: ")
    assert "[3,4] and [5] do not broadcast" in reason


def test_a_loop_that_yields_another_shape_than_declared_stays(tmp_path: Path) -> None:
    same = (node("Relu", "s0", "n0"), TWICE[1])

    assert broken(tmp_path, same, 4, 3) == "it yields f32[3,4] where the model says f32[4,3]"


def until(limit: float) -> onnx.GraphProto:
    """Double a value until one of its elements reaches a limit."""
    top = [node("ReduceMax", "n0", "top", keepdims=0), node("Less", "top limit", "again")]
    return loop_body([TWICE[0], *top], two=TWO, limit=np.array(limit, np.float32))


@pytest.mark.parametrize("most", [2**31 - 1, 2**63 - 1])
def test_a_loop_that_only_its_condition_ends_stays(most: int, tmp_path: Path) -> None:
    arrays = {**COUNT, "m": np.array(most, np.int64)}
    loop = node("Loop", "m true x", "y", body=until(100.0))
    graph, _, _ = loaded(tmp_path, [loop], ["y"], arrays)

    assert kept(graph) == "how often it runs is computed"


def test_a_loop_may_end_early_after_many_steps(tmp_path: Path) -> None:
    arrays = {**COUNT, "m": np.array(500, np.int64)}
    loop = node("Loop", "m true x", "y", body=until(100.0))

    check(*loaded(tmp_path, [loop], ["y"], arrays))


@pytest.mark.parametrize("does", ["Relu", "Identity"])
def test_steps_are_not_written_in_vain(does: str, tmp_path: Path) -> None:
    """One step tells what a billion would take; a body that does nothing counts as well."""
    nodes = (node(does, "s0", "n0"), TWICE[1])
    loop = node("Loop", "m true x", "y", body=loop_body(nodes))
    arrays = {**COUNT, "m": np.array(10**12, np.int64)}
    graph = load(save(onnx_model([loop], [info("x", 3, 4)], ["y"], arrays), tmp_path)).graph

    assert kept(graph) == "it takes more than 20000 nodes"


# ---- Scan


def scan_body(**arrays: Array) -> onnx.GraphProto:
    nodes = [
        node("Add", "s p", "sum"),
        node("Mul", "sum two", "n"),
        node("Sub", "sum p", "l"),
    ]
    values = [helper.make_tensor_value_info(n, F32, None) for n in ("s", "p", "n", "l")]
    return body(nodes, values[:2], values[2:], two=TWO, **arrays)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("directions", [(0, 0), (1, 0), (0, 1)], ids=str)
def test_scans(axis: int, directions: tuple[int, int], tmp_path: Path) -> None:
    state = np.zeros(4 if axis == 0 else 3, np.float32)
    for out in (0, 1, -1):
        scan = node(
            "Scan",
            "state x",
            "last steps",
            body=scan_body(),
            num_scan_inputs=1,
            scan_input_axes=[axis],
            scan_input_directions=[directions[0]],
            scan_output_axes=[out],
            scan_output_directions=[directions[1]],
        )

        check(*loaded(tmp_path, [scan], ["last", "steps"], {"state": state}))


def test_scans_of_constants_and_of_several_sequences(tmp_path: Path) -> None:
    nodes = [node("Mul", "p q", "pq"), node("Add", "s pq", "n")]
    values = [helper.make_tensor_value_info(n, F32, None) for n in ("s", "p", "q", "n")]
    inner = body(nodes, values[:3], values[3:])
    scan = node("Scan", "state x c", "last", body=inner, num_scan_inputs=2)
    arrays: dict[str, Array] = {"state": np.zeros(4, np.float32), "c": X * 3}

    check(*loaded(tmp_path, [scan], ["last"], arrays))


# ---- If


def branches(**outputs: str) -> dict[str, onnx.GraphProto]:
    y = helper.make_tensor_value_info("b", F32, None)
    return {
        f"{name}_branch": body([node(op, operands, "b")], [], [y])
        for name, (op, _, operands) in ((k, v.partition(" ")) for k, v in outputs.items())
    }


@pytest.mark.parametrize("flag", [np.array(True), np.array([False])], ids=str)
def test_a_computed_condition_chooses(flag: Array, tmp_path: Path) -> None:
    choice = node("If", "flag", "y", **branches(**{"then": "Add x x", "else": "Relu x"}))

    after = check(*loaded(tmp_path, [choice], ["y"], {}, flag=flag))
    assert "Where()" in [str(n.op) for n in after.nodes]


def test_branches_that_agree_need_no_choice(tmp_path: Path) -> None:
    flag = np.array(True)
    choice = node("If", "flag", "y", **branches(**{"then": "Identity x", "else": "Identity x"}))

    after = check(*loaded(tmp_path, [choice], ["y"], {}, flag=flag))
    assert [str(n.op) for n in after.nodes] == ["Identity()"]


def test_branches_of_several_shapes_stay(tmp_path: Path) -> None:
    flag = np.array(True)
    choice = node("If", "flag", "y", **branches(**{"then": "ReduceSum x", "else": "Relu x"}))
    graph, _, _ = loaded(tmp_path, [choice], ["y"], {}, flag=flag)

    assert kept(graph) == "its result is f32[1,1] or f32[3,4]"


def test_a_choice_inside_a_loop(tmp_path: Path) -> None:
    choice = node("If", "go", "n0", **branches(**{"then": "Add s0 x", "else": "Relu s0"}))
    nodes = [choice, node("Less", "t one", "again")]
    loop = node("Loop", "m true x", "y", body=loop_body(nodes, one=np.array(1)))

    check(*loaded(tmp_path, [loop], ["y"], COUNT))


def test_sequences_stay(tmp_path: Path) -> None:
    nodes = [
        node("SequenceInsert", "s0 x", "n0"),
        node("Identity", "go", "again"),
    ]
    read = [info("t", dtype=I64), info("go", dtype=BOOL)]
    sequence = helper.make_tensor_sequence_value_info("s0", F32, None)
    after = helper.make_tensor_sequence_value_info("n0", F32, None)
    inner = body(nodes, [*read, sequence], [info("again", dtype=BOOL), after])
    graph = [
        helper.make_node("SequenceEmpty", [], ["empty"]),
        node("Loop", "m true empty", "all", body=inner),
        node("ConcatFromSequence", "all", "y", axis=0),
    ]
    found, _, _ = loaded(tmp_path, graph, ["y"], COUNT)

    assert kept(found) == "it has sequences"
