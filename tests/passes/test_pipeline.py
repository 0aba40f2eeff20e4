"""The pipeline holds passes to their word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import onnx
import pytest
from hypothesis import given
from typing_extensions import override

from edgec.cost import cost
from edgec.errors import PassError, VerificationError
from edgec.evaluate import evaluate
from edgec.ir import Array, Builder, Graph, Node, Value
from edgec.ops import (
    Add,
    BatchNorm,
    Expand,
    Identity,
    Mul,
    Relu,
    Reshape,
    Sigmoid,
    Slice,
    Sub,
    Transpose,
)
from edgec.passes import (
    EliminateIdentities,
    Exact,
    FoldBatchNorm,
    FuseActivations,
    Lossy,
    Pass,
    Pipeline,
    Promise,
    Sample,
    Within,
    lossless,
    simplify,
)
from tests.models import Sketch, feeds, graphs


class Drop(Pass):
    """Leaves out every activation that is no output: what a wrong pass may do."""

    name: ClassVar[str] = "drop"
    promise: ClassVar[Promise] = Exact()

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if isinstance(node.op, Relu | Sigmoid) and node.output not in graph.outputs:
                b.replace(node.output, b.now(node.inputs[0]))
            else:
                b.copy(node)
        return b.finish()


class DropWithin(Drop):
    name: ClassVar[str] = "drop-within"
    promise: ClassVar[Promise] = Within(1e-3)


class DropLossy(Drop):
    name: ClassVar[str] = "drop-lossy"
    promise: ClassVar[Promise] = Lossy()


@dataclass(frozen=True, slots=True)
class Scale(Pass):
    """Multiplies every result of an addition."""

    name: ClassVar[str] = "scale"
    promise: ClassVar[Promise] = Within(1e-4)
    factor: float = 1.0

    @override
    def run(self, graph: Graph) -> Graph:
        b = Builder(graph)
        for node in graph.nodes:
            if isinstance(node.op, Add):
                (y,) = b.add(node.op, *map(b.now, node.inputs), names=[b.fresh("scaled")])
                k = b.constant(np.array(self.factor, np.float32), near="factor")
                b.add(Mul(), y, k, like=node)
            else:
                b.copy(node)
        return b.finish()


class Change(Pass):
    """Does whatever it is told."""

    name: ClassVar[str] = "change"
    promise: ClassVar[Promise] = Lossy()

    def __init__(self, **fields: object) -> None:
        self.fields = fields

    @override
    def run(self, graph: Graph) -> Graph:
        return replace(graph, **self.fields)  # type: ignore[arg-type]


def net(seed: int = 0) -> Graph:
    s = Sketch(1, 2, 4, 4, seed=seed)
    return s.graph(s.conv(s.add(Relu(), s.conv(s.x, 3)), 3))


def test_a_lie_is_caught_and_dumped() -> None:
    graph = net()

    with pytest.raises(PassError) as caught:
        Pipeline((Drop(),), feeds(graph)).run(graph)
    error = caught.value
    assert error.summary == "pass 'drop' broke its promise (exact)"
    (problem,) = error.diagnostics
    assert problem.where == "%v2"
    assert "rounding alone moves it by" in problem.message
    assert set(error.dump) == {"pass.txt", "before.txt", "before.onnx"}
    assert error.dump["before.txt"].decode() == f"{graph}\n"
    assert b"Drop" in error.dump["pass.txt"]
    onnx.checker.check_model(onnx.load_from_string(error.dump["before.onnx"]))


def test_a_graph_is_evaluated_once_on_its_way_through_several_pipelines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Graph] = []

    def counted(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, Array]:
        seen.append(graph)
        return evaluate(graph, arrays)

    monkeypatch.setattr("edgec.passes.base.evaluate", counted)
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Add(), s.x, s.x))
    sample = Sample(feeds(graph))
    for _ in range(2):
        graph, _ = Pipeline((Scale(),), sample).run(graph)

    assert len(seen) == len({id(g) for g in seen}) == 3
    other = Sample(feeds(graph, seed=2))
    assert not np.array_equal(sample.outputs(graph)["v0"], other.outputs(graph)["v0"])


def test_a_lie_about_rounding_is_caught() -> None:
    graph = net()

    with pytest.raises(PassError, match=r"'drop-within' broke its promise \(within 0.001\)"):
        Pipeline((DropWithin(),), feeds(graph)).run(graph)


def adding() -> Graph:
    s = Sketch(1, 4)
    return s.graph(s.add(Add(), s.x, s.random(4)))


@pytest.mark.parametrize(("factor", "holds"), [(1 + 5e-5, True), (1 + 2e-4, False)])
def test_a_promise_is_held_to_its_tolerance(factor: float, holds: bool) -> None:
    graph = adding()
    pipeline = Pipeline((Scale(factor),), feeds(graph))
    if holds:
        (record,) = pipeline.run(graph)[1]
        assert record.error is not None
        assert abs(record.error - 5e-5) < 1e-6
    else:
        with pytest.raises(PassError):
            pipeline.run(graph)


def test_without_a_sample_passes_are_taken_at_their_word() -> None:
    after, (record,) = Pipeline((Drop(),)).run(net())

    assert len(after.nodes) == 2
    assert record.error is None


def test_who_promises_nothing_breaks_nothing() -> None:
    graph = net()
    after, (record,) = Pipeline((DropLossy(),), feeds(graph)).run(graph)

    assert len(after.nodes) == 2
    assert (record.promise, record.error) == ("lossy", None)


def test_after_a_lossy_pass_the_next_is_held_to_what_that_one_left() -> None:
    graph = net()
    _, records = Pipeline((DropLossy(), FuseActivations()), feeds(graph)).run(graph)
    assert [r.error for r in records] == [None, 0.0]


def test_what_was_known_before_a_lossy_pass_is_forgotten() -> None:
    s = Sketch(1, 4)
    graph = s.graph(s.add(Add(), s.add(Relu(), s.x), s.random(4)))
    steps = (Scale(1.0), DropLossy(), Scale(1.0))
    _, records = Pipeline(steps, feeds(graph)).run(graph)

    assert [(r.changed, r.error) for r in records] == [(True, 0.0), (True, None), (True, 0.0)]


BREAKS: list[tuple[str, str]] = [
    ("inputs", "changed the interface"),
    ("renamed", "changed the interface"),
    ("fewer", "changed the interface"),
    ("wider", "changed the interface"),
    ("invalid", "broke the graph"),
]


@pytest.mark.parametrize(("how", "message"), BREAKS)
def test_a_broken_graph_or_interface_is_caught(how: str, message: str) -> None:
    s = Sketch(1, 4)
    a = s.add(Relu(), s.x)
    graph = s.graph(s.add(Sigmoid(), a), a)
    out = graph.outputs
    other = Value("other", out[0].type)
    more = Value("more", graph.inputs[0].type)
    change = {
        "inputs": Change(inputs=(*graph.inputs, more)),
        "renamed": Change(
            nodes=(graph.nodes[0], Node(Sigmoid(), (out[1],), (other,))),
            outputs=(other, out[1]),
        ),
        "fewer": Change(outputs=out[:1]),
        "wider": Change(outputs=out[::-1]),
        "invalid": Change(nodes=graph.nodes[::-1]),
    }[how]

    with pytest.raises(PassError, match=message) as caught:
        Pipeline((change,)).run(graph)
    assert caught.value.dump["before.txt"] == f"{graph}\n".encode()


def test_lengths_may_become_known() -> None:
    s = Sketch(1, 4)
    known = s.graph(s.add(Relu(), s.x))
    s = Sketch("N", 4)
    open_ = s.graph(s.add(Relu(), s.x))

    with pytest.raises(PassError, match="changed the interface"):
        Pipeline((Change(outputs=open_.outputs, nodes=open_.nodes, inputs=open_.inputs),)).run(
            known
        )


def test_an_invalid_graph_is_not_even_started() -> None:
    graph = net()

    with pytest.raises(VerificationError):
        Pipeline(()).run(replace(graph, constants=MappingProxyType({})))


# ---- models that amplify rounding


def chaotic() -> tuple[Graph, dict[str, Array]]:
    """The small difference of large numbers: all that comes out is rounding."""
    s = Sketch(1, 4)
    y = s.add(Add(), s.x, s.const(np.zeros(4, np.float32)))
    graph = s.graph(s.add(Sub(), y, s.const(np.full(4, 3e4, np.float32))))
    return graph, {"x": np.float32(3e4) + feeds(graph)["x"]}


def test_a_model_that_amplifies_rounding_does_not_raise() -> None:
    graph, sample = chaotic()

    (record,) = Pipeline((Scale(1 + 2**-23),), sample).run(graph)[1]
    assert record.error is not None
    assert record.error > 1e-3  # far beyond the promise, but no further than rounding itself


def test_even_there_more_than_rounding_is_caught() -> None:
    graph, sample = chaotic()

    with pytest.raises(PassError, match="broke its promise"):
        Pipeline((Scale(1 + 2**-17),), sample).run(graph)


def test_an_output_that_vanishes_is_no_excuse() -> None:
    """An output that is zero has no scale: its error counts as it is."""
    s = Sketch(1, 1)
    y = s.add(Sub(), s.add(Add(), s.x, s.const(np.zeros(1, np.float32))), s.random(1))
    graph = s.graph(y)
    sample = {"x": graph.constants["c1"].array[None]}
    assert evaluate(graph, sample)["v1"].item() == 0

    with pytest.raises(PassError, match=r"moved by 0\.126 of its range"):
        Pipeline((Scale(2.0),), sample).run(graph)


# ---- the ledger


def test_records_tell_what_every_pass_did() -> None:
    s = Sketch(1, 2, 4, 4)
    graph = s.graph(s.add(Relu(), s.batchnorm(s.conv(s.x, 3))))
    seen: list[str] = []
    after, records = Pipeline(
        (FoldBatchNorm(), FuseActivations(), FuseActivations()), feeds(graph), seen.append
    ).run(graph)

    assert seen == ["fold-batchnorm", "fuse-activations", "fuse-activations"]
    assert [r.name for r in records] == seen
    assert [r.promise for r in records] == ["within 0.0001", "exact", "exact"]
    assert [r.changed for r in records] == [True, True, False]
    assert [(r.before.nodes, r.after.nodes) for r in records] == [(3, 2), (2, 1), (1, 1)]
    assert records[0].before == cost(graph)
    assert records[-1].after == cost(after)
    assert all(r.before == q.after for q, r in pairwise(records))
    assert [r.error is not None and r.error <= 1e-5 for r in records] == [True] * 3
    assert all(r.seconds >= 0 for r in records)
    assert all(r.diagnostics == () for r in records)


def test_records_carry_what_could_not_be_done() -> None:
    s = Sketch(1, 3, 4, 4)
    graph = s.graph(s.batchnorm(s.x))
    _, (record,) = Pipeline((FoldBatchNorm(),)).run(graph)

    assert not record.changed
    assert [d.where for d in record.diagnostics] == ["n0"]


# ---- repetition


class Undo(Drop):
    """Puts a function behind every input, for another pass to drop."""

    name: ClassVar[str] = "undo"

    @override
    def run(self, graph: Graph) -> Graph:
        if isinstance(graph.nodes[0].op, Relu):
            return graph
        b = Builder(graph)
        (x,) = graph.inputs
        (y,) = b.add(Relu(), x, names=[b.fresh("y")])
        b.replace(x, y)
        for node in graph.nodes:
            b.copy(node)
        return b.finish()


def conv_identity_relu() -> Graph:
    s = Sketch(1, 2, 4, 4)
    return s.graph(s.add(Relu(), s.add(Identity(), s.conv(s.x, 3))))


def test_passes_begin_again_until_nothing_changes() -> None:
    graph = conv_identity_relu()
    seen: list[str] = []
    steps = (FuseActivations(), EliminateIdentities())
    after, records = Pipeline(steps, feeds(graph), seen.append, repeat=True).run(graph)

    assert [str(n.op) for n in after.nodes] == ["Conv(pad=(1, 1, 1, 1), activation=relu)"]
    names = ["fuse-activations", "eliminate-identities", "fuse-activations"]
    assert [r.name for r in records] == names
    assert [r.changed for r in records] == [False, True, True]
    assert [r.error for r in records] == [0.0, 0.0, 0.0]
    # The last pass saw what the second FuseActivations left; that one has seen it already.
    assert seen == [*names, "eliminate-identities"]


def test_without_repetition_each_pass_runs_once() -> None:
    after, records = Pipeline((FuseActivations(), EliminateIdentities())).run(
        conv_identity_relu()
    )

    assert len(after.nodes) == 2
    assert len(records) == 2


def test_passes_with_nothing_to_do_run_once_and_give_the_graph_itself() -> None:
    s = Sketch(1, 4)
    graph = s.graph(s.add(Sigmoid(), s.x))
    seen: list[str] = []
    after, records = Pipeline(
        (FuseActivations(), EliminateIdentities()), None, seen.append, repeat=True
    ).run(graph)

    assert after is graph
    assert len(seen) == len(records) == 2


def test_what_could_not_be_done_is_said_once_as_it_stands_in_the_end() -> None:
    s = Sketch(1, 2, 4, 4)
    folded = s.batchnorm(s.add(Identity(), s.conv(s.x, 3)))
    graph = s.graph(s.batchnorm(s.add(Sigmoid(), folded)))
    steps = (FoldBatchNorm(), EliminateIdentities())

    _, once = Pipeline(steps).run(graph)
    assert [[d.where for d in r.diagnostics] for r in once] == [["n2", "n4"], []]
    _, records = Pipeline(steps, repeat=True).run(graph)
    assert [[d.where for d in r.diagnostics] for r in records] == [["n4"], [], []]


def test_passes_that_undo_each_other_are_told() -> None:
    s = Sketch(1, 4)
    graph = s.graph(s.add(Sigmoid(), s.x))

    with pytest.raises(PassError, match="undo each other's work for ever: undo, drop-lossy"):
        Pipeline((Undo(), DropLossy()), repeat=True).run(graph)


def test_a_pipeline_without_passes_gives_the_graph_itself() -> None:
    graph = net()

    assert Pipeline(()).run(graph) == (graph, ())
    assert Pipeline(()).run(graph)[0] is graph


@given(graphs())
def test_the_lossless_pipeline_holds_on_any_graph(graph: Graph) -> None:
    after, records = simplify(graph, feeds(graph))

    again, second = simplify(after)
    assert len(records) - len(lossless()) == sum(r.changed for r in records[len(lossless()) :])
    assert after.inputs == graph.inputs
    assert after.outputs == graph.outputs
    assert len(again.nodes) <= len(after.nodes) <= len(graph.nodes)
    before = [(n.op, n.inputs) for n in graph.nodes]  # an output may get another name
    norms = [(n.op, n.inputs) for n in after.nodes if isinstance(n.op, BatchNorm)]
    assert all(norm in before for norm in norms)
    assert again is after, [r.name for r in second if r.changed]


def test_nodes_in_another_order_are_no_progress() -> None:
    """A transpose of one axis is none, but was taken for one, and the rest moved about it."""
    s = Sketch(48)
    parts = [s.add(Slice((i,), (i + 1,), (0,), (1,)), s.x) for i in (36, 29)]
    first, second = (s.add(Reshape(()), part) for part in parts)
    turned = s.add(Transpose((0,)), parts[1])
    graph = s.graph(first, turned, s.add(Expand((2, 3)), second))

    after, _ = simplify(graph)
    assert simplify(after)[0] is after
