from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.passes import RecognizeNorms
from tests.passes.forms import imported, kinds
from tests.passes.properties import check_pass

recognize = RecognizeNorms()

HEAD = """<float[4] gamma = {1, 2, 3, 4}, float[4] beta = {4, 3, 2, 1}, float two = {2},
    float eps = {0.001}, float one = {1}, float zero = {0}, float quarter = {0.25},
    float half = {0.5}, float minus = {-0.5}, int64[1] last = {-1},
    int64[3] kept = {2, 3, 1}> {"""

MEAN = "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) "
LAYER = {
    "torch": MEAN + """p = Pow(d, two) v = ReduceMean<axes = [-1]>(p) w = Add(v, eps)
        s = Sqrt(w) q = Div(d, s) g = Mul(q, gamma) y = Add(g, beta)""",
    "squares": MEAN + """p = Mul(d, d) v = ReduceMean<axes = [2]>(p) w = Add(eps, v)
        s = Sqrt(w) q = Div(d, s) g = Mul(gamma, q) y = Add(beta, g)""",
    "reciprocal": MEAN + """p = Mul(d, d) v = ReduceMean<axes = [2]>(p) w = Add(eps, v)
        s = Sqrt(w) i = Reciprocal(s) k = Mul(i, gamma) g = Mul(d, k) y = Add(g, beta)""",
    "power": MEAN + """p = Mul(d, d) v = ReduceMean<axes = [2]>(p) w = Add(eps, v)
        s = Pow(w, minus) q = Mul(d, s) g = Mul(q, gamma) y = Add(g, beta)""",
    "root as power": MEAN + """p = Mul(d, d) v = ReduceMean<axes = [2]>(p) w = Add(eps, v)
        s = Pow(w, half) q = Div(d, s) g = Mul(q, gamma) y = Add(g, beta)""",
    "two differences": MEAN + """d2 = Sub(x, m) p = Mul(d2, d2) v = ReduceMean<axes = [2]>(p)
        w = Add(eps, v) s = Sqrt(w) q = Div(d, s) g = Mul(q, gamma) y = Add(g, beta)""",
    "tensorflow": MEAN + """p = Mul(d, d) v = ReduceMean<axes = [2]>(p) w = Add(eps, v)
        s = Sqrt(w) i = Reciprocal(s) k = Mul(i, gamma) a = Mul(x, k) n = Mul(m, k)
        b = Sub(beta, n) y = Add(a, b)""",
    "sums": """t = ReduceSum(x, last) m = Mul(t, quarter) d = Sub(x, m) p = Mul(d, d)
        u = ReduceSum(p, last) v = Mul(u, quarter) w = Add(eps, v)
        s = Sqrt(w) q = Div(d, s) g = Mul(q, gamma) y = Add(g, beta)""",
    "jax": """t = ReduceSum<keepdims = 0>(x, last) m = Mul(t, quarter) x2 = Mul(x, x)
        u = ReduceSum<keepdims = 0>(x2, last) e = Mul(u, quarter) m2 = Mul(m, m)
        v = Sub(e, m2) v0 = Max(zero, v) vk = Reshape(v0, kept) w = Add(vk, eps) s = Sqrt(w)
        i = Reciprocal(s) k = Mul(i, gamma) mk = Reshape(m, kept) d = Sub(x, mk)
        g = Mul(d, k) y = Add(g, beta)""",
}  # fmt: skip


@pytest.mark.parametrize("form", LAYER)
def test_forms_of_layer_norm(form: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, f"{HEAD}{LAYER[form]} }}")

    after = check_pass(recognize, graph)
    assert kinds(after) == ["LayerNorm(epsilon=0.001)"]
    assert [v.name for v in after.nodes[0].inputs] == ["x", "gamma", "beta"]


def test_the_graph_afterwards(tmp_path: Path) -> None:
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{LAYER['torch']} }}"))

    assert (
        str(after)
        == """\
graph net(%x: f32[2,3,4]) {
  %gamma: f32[4] = const
  %beta: f32[4] = const
  %y: f32[2,3,4] = LayerNorm(epsilon=0.001)(%x, %gamma, %beta)
  return %y
}"""
    )
    assert sorted(after.nodes[0].origin) == [f"n{i}" for i in range(9)]


def test_what_is_missing_is_one_or_absent(tmp_path: Path) -> None:
    body = LAYER["torch"].replace("q = Div(d, s) g = Mul(q, gamma) y = Add(g, beta)",
                                  "y = Div(d, s)")  # fmt: skip
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))

    assert kinds(after) == ["LayerNorm(epsilon=0.001)"]
    (ones,) = after.constants.values()
    np.testing.assert_array_equal(ones.array, np.ones(4, np.float32))


@pytest.mark.parametrize("shape", ["[1,1,4]", "[1]", ""])
def test_parameters_take_the_shape_of_the_axes(shape: str, tmp_path: Path) -> None:
    numbers = "{1, 2, 3, 4}" if "4" in shape else "{3}"
    head = HEAD.replace("float[4] gamma = {1, 2, 3, 4}", f"float{shape} gamma = {numbers}")
    after = check_pass(recognize, imported(tmp_path, f"{head}{LAYER['torch']} }}"))

    gamma = after.nodes[0].inputs[1]
    assert gamma.type.dims == (4,)
    want = [1, 2, 3, 4] if "4" in shape else [3] * 4
    np.testing.assert_array_equal(after.constants[gamma.name].array, want)


def test_several_factors_are_one(tmp_path: Path) -> None:
    body = (
        LAYER["torch"].replace("y =", "h = Mul(g, half) y =").replace("(g, beta)", "(h, beta)")
    )
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))

    gamma = after.constants[after.nodes[0].inputs[1].name].array
    np.testing.assert_array_equal(gamma, [0.5, 1, 1.5, 2])


def test_parameters_may_be_computed(tmp_path: Path) -> None:
    body = f"{HEAD}{LAYER['torch']} }}".replace("gamma =", "c =").replace("beta =", "b =")
    graph = imported(tmp_path, body, x="float[4] gamma, float[4] beta, float[2,3,4]",
                     y="float[2,3,4]")  # fmt: skip

    after = check_pass(recognize, graph)
    assert [v.name for v in after.nodes[0].inputs] == ["x", "gamma", "beta"]


def test_two_norms_of_one_value_share_their_statistics(tmp_path: Path) -> None:
    """What both read is normalised once; neither could have it alone."""
    body = LAYER["torch"].replace(
        "g = Mul(q, gamma) y = Add(g, beta)",
        "g = Mul(q, gamma) h = Add(g, beta) k = Mul(q, beta) l = Add(k, gamma) y = Mul(h, l)",
    )
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))

    assert kinds(after)[0] == "LayerNorm(epsilon=0.001)"
    assert len(after.nodes) == 6


SIZE = "p = Pow(x, two) v = ReduceMean<axes = [-1]>(p) w = Add(v, eps) "
RMS = {
    "root": SIZE + "s = Sqrt(w) q = Div(x, s) y = Mul(q, gamma)",
    "llama": SIZE + "s = Sqrt(w) i = Div(one, s) q = Mul(x, i) y = Mul(gamma, q)",
    "reciprocal": SIZE + "s = Sqrt(w) i = Reciprocal(s) q = Mul(x, i) y = Mul(gamma, q)",
    "gamma first": SIZE + "s = Sqrt(w) i = Reciprocal(s) q = Mul(gamma, i) y = Mul(x, q)",
    "power": SIZE + "i = Pow(w, minus) q = Mul(x, i) y = Mul(gamma, q)",
    "sum": """p = Mul(x, x) u = ReduceSum(p, last) v = Mul(u, quarter) w = Add(eps, v)
        s = Sqrt(w) q = Div(x, s) y = Mul(q, gamma)""",
}


@pytest.mark.parametrize("form", RMS)
def test_forms_of_rms_norm(form: str, tmp_path: Path) -> None:
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{RMS[form]} }}"))

    assert kinds(after) == ["RMSNorm(epsilon=0.001)"]
    gamma = after.constants[after.nodes[0].inputs[1].name].array
    np.testing.assert_array_equal(gamma, [1, 2, 3, 4])


def test_no_rms_norm_beside_what_has_no_kernel_in_its_opset(tmp_path: Path) -> None:
    body = RMS["root"].replace("y =", "n =") + " l = GlobalLpPool(x) y = Add(n, l)"
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))

    assert not any(kind.startswith("RMSNorm") for kind in kinds(after))
    body = LAYER["torch"].replace("y =", "n =") + " l = GlobalLpPool(x) y = Add(n, l)"
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))
    assert kinds(after)[0] == "LayerNorm(epsilon=0.001)"


def test_several_axes(tmp_path: Path) -> None:
    body = LAYER["torch"].replace("[-1]", "[1, 2]")
    head = HEAD.replace("float[4]", "float[1,4]")
    after = check_pass(recognize, imported(tmp_path, f"{head}{body} }}"))

    assert kinds(after) == ["LayerNorm(axis=-2, epsilon=0.001)"]
    assert after.nodes[0].inputs[1].type.dims == (3, 4)


def test_a_product_that_is_normalised_stays_whole(tmp_path: Path) -> None:
    body = "x = Mul(u, half) " + RMS["root"]
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}", name="u"))

    assert kinds(after) == ["Mul()", "RMSNorm(epsilon=0.001)"]


def test_statistics_that_broadcast_along_another_axis_stay(tmp_path: Path) -> None:
    body = LAYER["torch"].replace("axes = [-1]", "axes = [-1], keepdims = 0")
    graph = imported(tmp_path, f"{HEAD}{body} }}", x="float[4,4]")

    assert recognize.run(graph) is graph


def test_offsets_scaled_otherwise_stay(tmp_path: Path) -> None:
    body = LAYER["tensorflow"].replace("n = Mul(m, k)", "l = Mul(k, two) n = Mul(m, l)")
    after = recognize.run(imported(tmp_path, f"{HEAD}{body} }}"))

    assert "LayerNorm" not in " ".join(kinds(after))


@pytest.mark.parametrize("difference", ["d", "d2"])
def test_the_mean_taken_away_is_that_of_the_variance(difference: str, tmp_path: Path) -> None:
    body = LAYER["two differences"].replace(
        f"{difference} = Sub(x, m)", f"n = ReduceMean<axes = [1]>(x) {difference} = Sub(x, n)"
    )
    graph = imported(tmp_path, f"{HEAD}{body} }}")

    assert recognize.run(graph) is graph


REFUSED = {
    "a sum for the variance": ("ReduceMean<axes = [-1]>(p)", "ReduceSum(p, last)"),
    "a mean of other axes": ("ReduceMean<axes = [-1]>(x)", "ReduceMean<axes = [1]>(x)"),
    "the mean of something else": ("d = Sub(x, m)", "u = Exp(x) d = Sub(u, m)"),
    "axes that are not the last": ("[-1]", "[1]"),
    "another mean": ("ReduceMean<axes = [-1]>(p)", "ReduceMean<axes = [1]>(p)"),
    "the variance of something else": ("Pow(d, two)", "Pow(m, two)"),
    "the square of something else": ("Pow(d, two)", "Pow(x, two)"),
    "a third power": ("two = {2}", "two = {3}"),
    "a scaled variance": ("w = Add(v, eps)", "v2 = Mul(v, two) w = Add(v2, eps)"),
    "a negative epsilon": ("eps = {0.001}", "eps = {-0.001}"),
    "divided by gamma": ("Mul(q, gamma)", "Div(q, gamma)"),
    "read in the middle": ("y = Add(g, beta)", "h = Add(g, s) y = Add(h, beta)"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_something_else_stays(reason: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, f"{HEAD}{LAYER['torch']} }}".replace(*REFUSED[reason]))

    after = recognize.run(graph)
    assert "LayerNorm" not in " ".join(kinds(after)) or reason == "divided by gamma"
    if reason == "divided by gamma":  # the norm ends before the division
        assert kinds(after) == ["LayerNorm(epsilon=0.001)", "Div()", "Add()"]


def test_a_residual_is_no_offset(tmp_path: Path) -> None:
    body = LAYER["torch"].replace("Add(g, beta)", "Add(g, x)")
    after = check_pass(recognize, imported(tmp_path, f"{HEAD}{body} }}"))

    assert kinds(after) == ["LayerNorm(epsilon=0.001)", "Add()"]


def test_a_parameter_for_each_row_stays_apart(tmp_path: Path) -> None:
    head = HEAD.replace("float[4] gamma = {1, 2, 3, 4}", "float[3,1] gamma = {1, 2, 3}")
    after = check_pass(recognize, imported(tmp_path, f"{head}{LAYER['torch']} }}"))

    assert kinds(after) == ["LayerNorm(epsilon=0.001)", "Mul()", "Add()"]


def test_the_divisor_of_a_sum_must_be_its_length(tmp_path: Path) -> None:
    body = f"{HEAD}{LAYER['sums']} }}".replace("quarter = {0.25}", "quarter = {0.2}")
    graph = imported(tmp_path, body)

    assert recognize.run(graph) is graph


def test_an_open_batch_is_fine(tmp_path: Path) -> None:
    graph = imported(tmp_path, f"{HEAD}{LAYER['torch']} }}", x="float[N,3,4]")

    assert kinds(recognize.run(graph)) == ["LayerNorm(epsilon=0.001)"]
