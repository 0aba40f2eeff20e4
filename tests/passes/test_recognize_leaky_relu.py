from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from edgec.ir import Graph
from edgec.passes import RecognizeLeakyRelu
from tests.models import graphs
from tests.passes.forms import imported, kinds
from tests.passes.properties import check_pass

recognize = RecognizeLeakyRelu()

HEAD = """<float a = {0.2}, float up = {3}, float zero = {0}, float half = {0.5},
    float one = {1}, float down = {-0.5}, float[1,1] slope = {0.2},
    float[3,1] slopes = {0.2, 0.2, 0.3}> {"""

FORMS = {
    "k = Mul(x, a) y = Max(x, k)": "0.2",
    "k = Mul(x, a) y = Max(k, x)": "0.2",
    "k = Mul(x, up) y = Min(k, x)": "3.0",
    "p = Relu(x) n = Neg(x) q = Relu(n) k = Mul(q, a) y = Sub(p, k)": "0.2",
    "p = Relu(x) n = Neg(x) q = Relu(n) k = Mul(q, down) y = Add(p, k)": "0.5",
    "p = Relu(x) b = Abs(x) d = Sub(x, b) k = Mul(d, a) h = Mul(k, half) y = Add(p, h)": "0.2",
    "p = Max(x, zero) n = Min(zero, x) k = Mul(n, a) y = Add(k, p)": "0.2",
    "b = Abs(x) s = Add(x, b) y = Mul(s, half)": "0.0",
    "k = Mul(x, a) c = Greater(x, zero) y = Where(c, x, k)": "0.2",
    "k = Mul(x, a) c = Less(zero, x) y = Where(c, x, k)": "0.2",
    "k = Mul(x, a) c = LessOrEqual(x, zero) y = Where(c, k, x)": "0.2",
    "y = PRelu(x, slope)": "0.2",
}


@pytest.mark.parametrize(("body", "alpha"), FORMS.items())
def test_forms_of_leaky_relu(body: str, alpha: str, tmp_path: Path) -> None:
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))

    assert kinds(after) == [f"LeakyRelu(alpha={alpha})"]


REFUSED = {
    "steeper than one below zero": "k = Mul(x, up) y = Max(x, k)",
    "rising on both sides": "k = Mul(x, down) y = Max(x, k)",
    "flatter above zero": "k = Mul(x, a) y = Min(x, k)",
    "not x above zero": "p = Relu(x) n = Neg(x) q = Relu(n) h = Mul(p, half) y = Sub(h, q)",
    "a bend elsewhere": "p = Max(x, one) n = Min(x, zero) k = Mul(n, a) y = Add(k, p)",
    "an offset": "p = Relu(x) n = Min(x, zero) k = Mul(n, a) s = Add(k, one) y = Add(s, p)",
    "another bend of another": "u = Exp(x) p = Relu(x) n = Neg(u) q = Relu(n) y = Sub(p, q)",
    "compared with one": "k = Mul(x, a) c = Greater(x, one) y = Where(c, x, k)",
    "the wrong way round": "k = Mul(x, a) c = Greater(x, zero) y = Where(c, k, x)",
    "several slopes": "y = PRelu(x, slopes)",
    "read in the middle": "k = Mul(x, a) m = Max(x, k) y = Add(m, k)",
    "relu": "y = Relu(x)",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_something_else_stays(reason: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, f"{HEAD}{REFUSED[reason]} }}")

    assert recognize.run(graph) is graph


@given(graphs())
def test_it_keeps_its_promise_on_any_graph(graph: Graph) -> None:
    check_pass(recognize, graph)
