"""The release gate: whether a report keeps within its budgets."""

from __future__ import annotations

from edgec.gate.budget import Budget
from edgec.gate.check import Line, Verdict, check
from edgec.gate.metrics import METRICS, TARGET_NAMES, Metric

__all__ = ["METRICS", "TARGET_NAMES", "Budget", "Line", "Metric", "Verdict", "check"]
