from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from edgec.ir import Graph
from edgec.ops import Activation, Add, Clip, Div
from edgec.passes import RecognizeHardSwish
from tests.models import Sketch, graphs
from tests.passes.forms import imported, kinds
from tests.passes.properties import check_pass

recognize = RecognizeHardSwish()

FORM = "<float zero = {0}, float one = {1}, float three = {3}, float six = {6}, "
FORM += "float sixth = {0.16666667}, float half = {0.5}> {"

SWISH = {
    "torch": "a = Add(x, three) c = Clip(a, zero, six) p = Mul(x, c) y = Div(p, six) }",
    "paddle": "a = Add(x, three) c = Clip(a, zero, six) q = Div(c, six) y = Mul(x, q) }",
    "keras": "a = Add(three, x) c = Clip(a, zero, six) q = Mul(c, sixth) y = Mul(q, x) }",
    "first": "q = Mul(x, sixth) a = Add(x, three) c = Clip(a, zero, six) y = Mul(q, c) }",
    "scaled": "k = Mul(x, sixth) a = Add(k, half) c = Clip(a, zero, one) y = Mul(x, c) }",
    "sigmoid": "h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, h) }",
    "shifted": "a = Add(x, three) h = HardSigmoid<alpha = 0.16666667, beta = 0.0>(a) "
               "y = Mul(h, x) }",
}  # fmt: skip

SIGMOID = {
    "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six) }": "0.16666667",
    "a = Add(x, three) c = Clip(a, zero, six) y = Mul(sixth, c) }": "0.16666667",
    "k = Mul(x, sixth) a = Add(k, half) y = Clip(a, zero, one) }": "0.16666667",
    "a = Sub(x, half) y = Clip(a, zero, one) }": "1.0, beta=-0.5",
    "a = Sub(three, x) c = Clip(a, zero, six) y = Div(c, six) }": "-0.16666667",
    "c = Clip(x, zero, six) n = Neg(c) q = Div(n, six) y = Add(q, one) }":
        "-0.16666667, beta=1.0",
}  # fmt: skip


@pytest.mark.parametrize("form", SWISH)
def test_forms_of_hard_swish(form: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, FORM + SWISH[form])

    assert kinds(check_pass(recognize, graph)) == ["HardSwish()"]


@pytest.mark.parametrize(("body", "numbers"), SIGMOID.items())
def test_forms_of_hard_sigmoid(body: str, numbers: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, FORM + body)

    assert kinds(check_pass(recognize, graph)) == [f"HardSigmoid(alpha={numbers})"]


def test_the_graph_afterwards(tmp_path: Path) -> None:
    after = check_pass(recognize, imported(tmp_path, FORM + SWISH["torch"]))

    assert (
        str(after)
        == """\
graph net(%x: f32[2,3,4]) {
  %y: f32[2,3,4] = HardSwish()(%x)
  return %y
}"""
    )
    assert sorted(after.nodes[0].origin) == ["n0", "n1", "n2", "n3"]


def test_a_gate_keeps_its_product(tmp_path: Path) -> None:
    body = "g = Mul(x, x) a = Add(g, three) c = Clip(a, zero, six) q = Div(c, six) "
    graph = imported(tmp_path, FORM + body + "y = Mul(x, q) }")

    after = check_pass(recognize, graph)
    assert kinds(after) == ["Mul()", "HardSigmoid(alpha=0.16666667)", "Mul()"]


def test_what_others_read_is_where_it_begins(tmp_path: Path) -> None:
    body = "g = Mul(x, half) a = Add(g, three) c = Clip(a, zero, six) q = Div(c, six) "
    after = check_pass(
        recognize, imported(tmp_path, FORM + body + "e = Exp(g) y = Mul(e, q) }")
    )

    assert sorted(kinds(after)) == ["Exp()", "HardSigmoid(alpha=0.16666667)", "Mul()", "Mul()"]


def test_a_constant_that_widens_is_where_it_begins(tmp_path: Path) -> None:
    form = FORM.replace("float three = {3}", "float[2,1] three = {3, 3}")
    body = "a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six) }"
    graph = imported(tmp_path, form + body, x="float[4]", y="float[2,4]")

    after = check_pass(recognize, graph)
    assert kinds(after) == ["Add()", "HardSigmoid(alpha=0.16666667, beta=0.0)"]


def test_another_offset_is_no_hard_swish(tmp_path: Path) -> None:
    form = FORM.replace("three = {3}", "three = {2.4}")
    after = check_pass(recognize, imported(tmp_path, form + SWISH["torch"]))

    assert "HardSwish()" not in kinds(after)


def test_half_precision_stays(tmp_path: Path) -> None:
    form = FORM.replace("float", "float16")
    for number, bits in (("{1}", "{15360}"), ("{3}", "{16896}"), ("{6}", "{17920}"),
                         ("0.16666667", "12629"), ("0.5", "14336")):  # fmt: skip
        form = form.replace(number, bits)
    graph = imported(tmp_path, form + SWISH["torch"], x="float16[2,3,4]")

    assert recognize.run(graph) is graph


def test_a_sum_with_an_activation_stays() -> None:
    s = Sketch(1, 4)
    three, six = (s.const(np.full((), n, np.float32)) for n in (3, 6))
    clip = s.add(Clip(0, 6), s.add(Add(Activation.RELU), s.x, three))
    graph = s.graph(s.add(Div(Activation.RELU), clip, six))

    assert recognize.run(graph) is graph


REFUSED = {
    "a bare clip": "y = Clip(x, zero, one) }",
    "no upper bound": "a = Add(x, three) c = Clip(a, zero) y = Div(c, six) }",
    "an end above one": "a = Add(x, half) c = Clip(a, zero, six) y = Div(c, three) }",
    "an end below zero": "a = Sub(x, half) c = Clip(a, one, six) y = Div(c, six) }",
    "read in the middle": "a = Add(x, three) c = Clip(a, zero, six) q = Div(c, six) "
                          "y = Mul(q, c) }",
    "shifted afterwards": "a = Add(x, three) c = Clip(a, zero, six) q = Mul(x, c) "
                          "y = Sub(q, six) }",
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_something_else_stays(reason: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, FORM + REFUSED[reason])

    assert recognize.run(graph) is graph


def test_another_slope_is_no_hard_swish(tmp_path: Path) -> None:
    body = "a = Add(x, three) c = Clip(a, zero, three) q = Div(c, three) y = Mul(x, q) }"
    after = check_pass(recognize, imported(tmp_path, FORM + body))

    assert kinds(after) == ["HardSigmoid(alpha=0.33333334, beta=1.0)", "Mul()"]


def test_an_output_in_the_middle_stays(tmp_path: Path) -> None:
    graph = imported(tmp_path, FORM + SWISH["torch"], y="float[2,3,4] c, float[2,3,4]")

    assert recognize.run(graph) is graph


@given(graphs())
def test_it_keeps_its_promise_on_any_graph(graph: Graph) -> None:
    check_pass(recognize, graph)
