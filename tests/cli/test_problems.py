"""What is wrong with a result, in sentences."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.cli.problems import problems

STAYS = "more of it stays, as the rest loses more than --max-drop allows"
LEAST = "it is the least that was found"


@pytest.mark.parametrize(
    ("tries", "max_drop", "why"),
    [
        ([(40, 2.0), (70, 0.5)], 1.0, STAYS),
        ([(40, None), (70, 0.5)], 1.0, STAYS),  # it lost everything
        ([(40, None), (70, None)], 1.0, STAYS),
        ([(60, None)], 1.0, LEAST),
        ([(60, -0.1)], 1.0, LEAST),
        ([(60, 0.0)], None, LEAST),
    ],
)
def test_why_a_goal_is_missed(
    tries: list[tuple[int, float | None]], max_drop: float | None, why: str
) -> None:
    told: dict[str, Any] = {
        "holds": False,
        "goal": "0.5x",
        "left": "0.7x",
        "most": 30,
        "reached": tries[-1][0],
        "tries": [{"asked": 30, "reached": r, "nats": 0.1, "drop": d} for r, d in tries],
    }
    if max_drop is not None:
        told["max_drop"] = max_drop
    artifact = {"file": "digits.tflite", "compression": told}

    found = problems({"artifacts": [artifact]})

    assert found == [f"digits.tflite keeps 0.7x, where 0.5x is the goal: {why}."]
