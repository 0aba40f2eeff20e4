from __future__ import annotations

from pathlib import Path

import pytest

from edgec.passes import RecognizeGelu
from tests.passes.forms import imported, kinds
from tests.passes.properties import check_pass

recognize = RecognizeGelu()

ERF = {
    "torch": """<float two = {1.4142135}, float one = {1}, float half = {0.5}> {
        z = Div(x, two) e = Erf(z) s = Add(e, one) p = Mul(x, s) y = Mul(p, half) }""",
    "half first": """<float two = {0.70710677}, float one = {1}, float half = {0.5}> {
        h = Mul(half, x) z = Mul(x, two) e = Erf(z) s = Add(one, e) y = Mul(h, s) }""",
    "keras": """<float two = {0.70710677}, float one = {1}, float half = {0.5}> {
        z = Mul(x, two) e = Erf(z) s = Add(e, one) c = Mul(half, s) y = Mul(x, c) }""",
    "multiplied out": """<float two = {1.4142135}, float half = {0.5}> {
        z = Div(x, two) e = Erf(z) h = Mul(x, half) p = Mul(h, e) y = Add(p, h) }""",
    "divided": """<float two = {1.4142135}, float one = {1}, float half = {2}> {
        z = Div(x, two) e = Erf(z) s = Add(e, one) p = Mul(x, s) y = Div(p, half) }""",
    "scaled once": """<float two = {0.70710677}, float one = {1}> {
        z = Mul(x, two) e = Erf(z) s = Add(e, one) p = Mul(z, s) y = Mul(p, two) }""",
    "less": """<float two = {-0.70710677}, float one = {1}, float half = {0.5}> {
        z = Mul(x, two) e = Erf(z) s = Sub(one, e) p = Mul(x, s) y = Mul(p, half) }""",
}
TANH = {
    "torch": """<float three = {3}, float c = {0.044715}, float r = {0.7978845608},
                 float one = {1}, float half = {0.5}> {
        h = Mul(x, half) q = Pow(x, three) k = Mul(q, c) a = Add(x, k) z = Mul(a, r)
        t = Tanh(z) s = Add(t, one) y = Mul(h, s) }""",
    "jax": """<float c = {0.044715}, float r = {0.79788458}, float one = {1},
               float half = {0.5}> {
        k = Mul(c, x) k2 = Mul(x, k) k3 = Mul(x, k2) a = Add(x, k3) z = Mul(r, a)
        t = Tanh(z) s = Add(one, t) w = Mul(half, s) y = Mul(x, w) }""",
    "square": """<float c = {0.044715}, float r = {0.79788458}, float one = {1},
                  float half = {0.5}> {
        q = Mul(x, x) k = Mul(q, c) a = Add(one, k) m = Mul(x, r) z = Mul(m, a)
        t = Tanh(z) s = Add(one, t) w = Mul(half, x) y = Mul(w, s) }""",
}


@pytest.mark.parametrize("form", ERF)
def test_forms_with_the_error_function(form: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, ERF[form])

    assert kinds(check_pass(recognize, graph)) == ["Gelu()"]


@pytest.mark.parametrize("form", TANH)
def test_forms_with_tanh(form: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, TANH[form])

    assert kinds(check_pass(recognize, graph)) == ["Gelu(approximate='tanh')"]


def test_the_graph_afterwards(tmp_path: Path) -> None:
    after = check_pass(recognize, imported(tmp_path, ERF["torch"]))

    assert (
        str(after)
        == """\
graph net(%x: f32[2,3,4]) {
  %y: f32[2,3,4] = Gelu()(%x)
  return %y
}"""
    )
    assert sorted(after.nodes[0].origin) == ["n0", "n1", "n2", "n3", "n4"]


def test_arithmetic_before_it_is_not_taken_for_a_part_of_it(tmp_path: Path) -> None:
    before = "u = Add(v, half) x = Mul(u, one) z ="
    body = ERF["torch"].replace("z =", before).replace("one = {1}", "one = {3}, float c = {1}")
    graph = imported(tmp_path, body.replace("Add(e, one)", "Add(e, c)"), name="v")

    assert kinds(check_pass(recognize, graph)) == ["Add()", "Mul()", "Gelu()"]


REFUSED = {
    "another factor": ("0.5}", "0.25}"),
    "an imprecise constant": ("1.4142135", "1.41421"),
    "another sum": ("one = {1}", "one = {1.001}"),
    "a shifted operand": ("e = Erf(z)", "h = Add(z, half) e = Erf(h)"),
    "another operand": ("Mul(x, s)", "Mul(z, s)"),
    "read in the middle": ("p = Mul(x, s) y = Mul(p, half)",
                           "p = Mul(x, s) q = Mul(p, half) y = Add(q, e)"),
    "a constant of another shape": ("float one = {1}", "float[1,1,3,1] one = {1,1,1}"),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_something_else_stays(reason: str, tmp_path: Path) -> None:
    body = ERF["torch"].replace(*REFUSED[reason])
    y = "float[1,2,3,4]" if "shape" in reason else ""
    graph = imported(tmp_path, body, y=y)

    assert recognize.run(graph) is graph


def test_a_graph_output_in_the_middle_stays(tmp_path: Path) -> None:
    body = ERF["torch"]
    graph = imported(tmp_path, body, y="float[2,3,4] e, float[2,3,4]")

    assert recognize.run(graph) is graph


def test_half_precision_stays(tmp_path: Path) -> None:
    body = ERF["torch"].replace("float", "float16")
    for number, bits in (("1.4142135", "15784"), ("{1}", "{15360}"), ("0.5", "14336")):
        body = body.replace(number, bits)
    graph = imported(tmp_path, body, x="float16[2,3,4]")

    assert recognize.run(graph) is graph
