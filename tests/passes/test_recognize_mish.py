from __future__ import annotations

from pathlib import Path

import pytest

from edgec.passes import RecognizeMish
from tests.passes.forms import imported, kinds
from tests.passes.properties import check_pass

recognize = RecognizeMish()


@pytest.mark.parametrize("product", ["Mul(x, t)", "Mul(t, x)"])
def test_a_product_with_tanh_of_softplus_is_one_operator(product: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, f"{{ s = Softplus(x) t = Tanh(s) y = {product} }}")

    after = check_pass(recognize, graph)
    assert kinds(after) == ["Mish()"]
    assert sorted(after.nodes[0].origin) == ["n0", "n1", "n2"]


@pytest.mark.parametrize(
    "body",
    [
        "s = Softplus(x) t = Tanh(s) y = Mul(s, t)",
        "s = Softplus(x) t = Tanh(s) y = Add(x, t)",
        "s = Softplus(x) t = Sigmoid(s) y = Mul(x, t)",
        "s = Softplus(x) t = Tanh(s) m = Mul(x, t) y = Mul(m, s)",
    ],
)
def test_what_is_something_else_stays(body: str, tmp_path: Path) -> None:
    graph = imported(tmp_path, f"{{ {body} }}")

    assert recognize.run(graph) is graph
