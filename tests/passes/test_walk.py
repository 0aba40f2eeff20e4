from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.evaluate import Evaluator
from edgec.ir import Array, Graph, Node
from edgec.ops import Add, Conv, Dequantize, Mul, Quantize, ReduceMean, Relu
from edgec.passes.walk import Walk
from tests.targets.graphs import Feeds, Net, quantized, random, tiny_cnn


def real(*numbers: float) -> Array:
    return np.array([numbers], np.float32)


class TestWalk:
    def walked(self, graph: Graph, feeds: Sequence[Feeds]) -> dict[str, list[Array]]:
        walk = Walk(graph, feeds)
        found: dict[str, list[Array]] = {}
        for node in walk.nodes:
            results = list(walk.run(node))
            for name in results[0]:
                found[name] = [r[name] for r in results]
            walk.hold(node, results)
        assert walk.held == ()
        return found

    def test_computes_what_the_graph_computes(self) -> None:
        graph, feed = tiny_cnn()
        made = quantized(graph, feed)
        feeds = [feed, {"image": feed["image"] * 2}]

        found = self.walked(made, feeds)

        pairs = Dequantize | Quantize
        values = [n.output for n in made.nodes if not isinstance(n.op, pairs)]
        assert {v.name for v in values} < found.keys()
        for k, each in enumerate(feeds):
            want = Evaluator(made, values).run(each)
            for name, array in want.items():
                np.testing.assert_array_equal(array, found[name][k])

    def test_a_node_may_read_one_dequantized_value_twice(self) -> None:
        net = Net(x=(1, 4))
        net.add("a", Relu(), "x")
        graph = net.graph(net.add("y", Add(), "a", "a"))
        feed = {"x": random(1, 4)}
        made = quantized(graph, feed)

        found = self.walked(made, [feed])

        (value,) = [n.output for n in made.nodes if isinstance(n.op, Add)]
        want = Evaluator(made, [value]).run(feed)
        np.testing.assert_array_equal(want[value.name], found[value.name][0])

    def test_a_value_may_be_kept_until_a_later_node_has_run(self) -> None:
        net = Net(x=(1, 4))
        net.add("a", Relu(), "x")
        net.add("b", Relu(), "a")
        walk = Walk(net.graph(net.add("y", Relu(), "b")), [{"x": random(1, 4)}])
        walk.keep(walk.nodes[0].inputs[0], walk.nodes[1])
        held: list[tuple[str, ...]] = []
        for node in walk.nodes:
            walk.hold(node, walk.run(node))
            held.append(walk.held)
        assert held == [("x", "a"), ("b",), ()]

    def test_real_numbers_are_held_in_half_the_memory_where_they_fit(self) -> None:
        net = Net(x=(1, 4))
        net.add("a", Relu(), "x")
        graph = net.graph(net.add("y", Add(), "a", "a"))
        walk = Walk(graph, [{"x": real(1, 2, 0.1, n)} for n in (3, 1e5)], half=True)
        first, second = walk.nodes

        walk.hold(first, walk.run(first))

        held = list(walk.inputs(second, 0))
        assert [a.dtype for a in held] == [np.float32] * 2
        np.testing.assert_array_equal(held[0], real(1, 2, float(np.float16(0.1)), 3))
        np.testing.assert_array_equal(held[1], real(1, 2, 0.1, 1e5))
        np.testing.assert_array_equal(next(walk.run(second))["y"], 2 * held[0])

    def test_an_operand_may_be_read_twice_and_have_no_axes(self) -> None:
        net = Net(x=(1, 4))
        net.add("m", ReduceMean((0, 1), keepdims=False), "x")
        graph = net.graph(net.add("y", Mul(), "m", "m"))
        feeds: list[Feeds] = [{"x": real(1, 2, 3, n)} for n in range(3)]
        made = quantized(graph, *feeds)

        found = self.walked(made, feeds)

        outputs = [v for n in made.nodes for v in n.outputs if v.name in found]
        for k, feed in enumerate(feeds):
            for name, array in Evaluator(made, outputs).run(feed).items():
                np.testing.assert_array_equal(array, found[name][k])

    def test_takes_what_is_held_for_what_it_is(self) -> None:
        net = Net(x=(1, 4))
        net.add("a", Relu(), "x")
        graph = net.graph(net.add("y", Add(), "a", "a"))
        walk = Walk(graph, [{"x": random(1, 4)}])
        first, second = walk.nodes

        walk.hold(first, [{"a": np.ones((1, 4), np.float32)}])

        np.testing.assert_array_equal(next(walk.inputs(second, 0)), 1)
        np.testing.assert_array_equal(next(walk.run(second))["y"], 2)

    def test_operands_come_as_real_numbers(self) -> None:
        graph, feed = tiny_cnn()
        made = quantized(graph, feed)
        walk = Walk(made, [feed])
        nodes: list[Node] = []
        for node in walk.nodes:
            if isinstance(node.op, Conv):
                nodes.append(node)
                value = node.inputs[0]
                want = Evaluator(made, (value,)).run(feed)[value.name]
                np.testing.assert_array_equal(next(walk.inputs(node, 0)), want)
            walk.hold(node, walk.run(node))
        assert len(nodes) == 2
