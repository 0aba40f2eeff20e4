"""Random graphs over all operators keep every promise, on both targets."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks.fuzz.composer import Case
from benchmarks.fuzz.graphs import graphs
from benchmarks.fuzz.judge import NO_REFERENCE, NOT_JUDGED, judge
from edgec.ir import Op
from edgec.ops import OPS

PARTS = 4
EXAMPLES = 120


def fuzz(lead: tuple[type[Op], ...], examples: int) -> tuple[set[type[Op]], list[float]]:
    """Judge random graphs that begin with one of some operators; return what was in them."""
    seen: set[type[Op]] = set()
    judged: list[float] = []

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(graphs(lead))
    def each(case: Case) -> None:
        verdict = judge(case)
        assert not verdict.wrong, f"{verdict.wrong}\n{case.graph}"
        if verdict.tflite not in (NO_REFERENCE, NOT_JUDGED):
            seen.update(case.operators)
            judged.append(verdict.judged)

    each()
    return seen, judged


@pytest.mark.parametrize("part", range(PARTS))
def test_random_graphs_come_out_right_or_are_refused(part: int) -> None:
    lead = OPS[part::PARTS]
    seen, judged = fuzz(lead, EXAMPLES)
    for op in lead:
        if op not in seen:
            seen |= fuzz((op,), 2)[0]

    assert seen >= set(lead)  # an operator that was added takes part by its examples
    assert len(judged) > 0.9 * EXAMPLES  # the others need operators of too many opsets
    assert sum(judged) / len(judged) > 0.95  # noise hides next to nothing
