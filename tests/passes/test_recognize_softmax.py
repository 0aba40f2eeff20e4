from __future__ import annotations

from pathlib import Path

import pytest

from edgec.passes import RecognizeSoftmax
from tests.passes.forms import imported, kinds
from tests.passes.properties import check_pass

recognize = RecognizeSoftmax()

HEAD = """<int64[1] axis = {1}, int64[2] both = {1, 2}, float one = {1}, float two = {2},
    float least = {-3.4028235e38}, int64[3] kept = {2, 1, 4}> {"""

SOFTMAX = {
    "plain": "e = Exp(x) s = ReduceSum(e, axis) y = Div(e, s)",
    "less the largest": "m = ReduceMax<axes = [1]>(x) z = Sub(x, m) e = Exp(z) "
                        "s = ReduceSum(e, axis) y = Div(e, s)",
    "reciprocal": "e = Exp(x) s = ReduceSum(e, axis) i = Reciprocal(s) y = Mul(i, e)",
    "jax": "m0 = ReduceMax<axes = [1], keepdims = 0>(x) m1 = Max(least, m0) "
           "m = Reshape(m1, kept) z = Sub(x, m) e = Exp(z) "
           "t = ReduceSum<keepdims = 0>(e, axis) s = Reshape(t, kept) y = Div(e, s)",
}  # fmt: skip
LOG = {
    "plain": "e = Exp(x) s = ReduceSum(e, axis) l = Log(s) y = Sub(x, l)",
    "less the largest": "m = ReduceMax<axes = [1]>(x) z = Sub(x, m) e = Exp(z) "
                        "s = ReduceSum(e, axis) l = Log(s) y = Sub(z, l)",
}  # fmt: skip
SIGMOID = {
    "divided": "n = Neg(x) e = Exp(n) s = Add(one, e) y = Div(one, s)",
    "reciprocal": "n = Neg(x) e = Exp(n) s = Add(e, one) y = Reciprocal(s)",
}


@pytest.mark.parametrize("form", SOFTMAX)
def test_forms_of_softmax(form: str, tmp_path: Path) -> None:
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{SOFTMAX[form]} }}"))

    assert kinds(after) == ["Softmax(axis=-2)"]


@pytest.mark.parametrize("form", LOG)
def test_forms_of_log_softmax(form: str, tmp_path: Path) -> None:
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{LOG[form]} }}"))

    assert kinds(after) == ["LogSoftmax(axis=-2)"]


@pytest.mark.parametrize("form", SIGMOID)
def test_forms_of_the_sigmoid(form: str, tmp_path: Path) -> None:
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{SIGMOID[form]} }}"))

    assert kinds(after) == ["Sigmoid()"]


def test_silu_is_its_operand_times_the_sigmoid(tmp_path: Path) -> None:
    body = SIGMOID["divided"].replace("Div(one, s)", "Div(x, s)")
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))

    assert (
        str(after)
        == """\
graph net(%x: f32[2,3,4]) {
  %y.inner: f32[2,3,4] = Sigmoid()(%x)
  %y: f32[2,3,4] = Mul()(%x, %y.inner)
  return %y
}"""
    )
    assert sorted(after.nodes[1].origin) == ["n0", "n1", "n2", "n3"]


def test_the_maximum_along_another_axis_stays(tmp_path: Path) -> None:
    body = SOFTMAX["less the largest"].replace("ReduceMax<axes = [1]>", "ReduceMax<axes = [2]>")
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))

    assert kinds(after) == ["ReduceMax(axes=(2,))", "Sub()", "Softmax(axis=-2)"]


def test_the_maximum_of_another_value_stays(tmp_path: Path) -> None:
    body = "u = Exp(x) " + SOFTMAX["less the largest"].replace("[1]>(x)", "[1]>(u)")
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))

    assert kinds(after) == ["Exp()", "ReduceMax(axes=(1,))", "Sub()", "Softmax(axis=-2)"]


def test_a_maximum_that_may_be_more_stays(tmp_path: Path) -> None:
    head = HEAD.replace("-3.4028235e38", "0")
    after = check_pass(recognize, imported(tmp_path, f"{head}{SOFTMAX['jax']} }}"))

    assert kinds(after)[-2:] == ["Sub()", "Softmax(axis=-2)"]


REFUSED = {
    "divided by the mean": (SOFTMAX["plain"], "ReduceSum(e, axis)",
                            "ReduceMean<axes = [1]>(e)"),
    "divided by the largest": (SOFTMAX["plain"], "ReduceSum(e, axis)",
                               "ReduceMax<axes = [1]>(e)"),
    "two axes": (SOFTMAX["plain"], "axis)", "both)"),
    "another sum": (SOFTMAX["plain"], "ReduceSum(e,", "ReduceSum(x,"),
    "the sum read elsewhere": (SOFTMAX["plain"], "y = Div(e, s)",
                               "q = Div(e, s) y = Mul(q, s)"),
    "a sum that lost its axis": (SOFTMAX["plain"].replace("ReduceSum", "ReduceSum<keepdims=0>"),
                                 "y = Div(e, s)", "k = Unsqueeze(s, both) y = Div(e, k)"),
    "a logarithm of another": (LOG["less the largest"], "Sub(z, l)", "Sub(x, l)"),
    "two and exponentials": (SIGMOID["divided"], "Add(one, e)", "Add(two, e)"),
    "exponentials that grow": (SIGMOID["divided"], "n = Neg(x) e = Exp(n)", "e = Exp(x)"),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_something_else_stays(reason: str, tmp_path: Path) -> None:
    body, old, new = REFUSED[reason]
    assert old in body
    y = "float[2,2,3,4]" if "lost" in reason else ""
    graph = imported(tmp_path, f"{HEAD}{body.replace(old, new)} }}", y=y)

    assert recognize.run(graph) is graph
