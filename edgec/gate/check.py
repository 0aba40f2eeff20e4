"""The verdict on a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgec.errors import GateError, InconclusiveError, OptionError
from edgec.gate.budget import Budget

__all__ = ["Line", "Verdict", "check"]


@dataclass(frozen=True, slots=True)
class Line:
    """One budget held against one artifact.

    Parameters
    ----------
    target
        Of the artifact; ``""`` if the report has no artifact at all.
    value
        What the report says; ``None`` if it says nothing.
    has_artifact
        Whether the report has the artifact that the budget is about.
    """

    budget: Budget
    target: str
    value: float | None
    has_artifact: bool = True

    @property
    def passed(self) -> bool | None:
        """Whether the value is within the limit; ``None`` if there is no value."""
        return None if self.value is None else self.budget.holds(self.value)

    @property
    def margin(self) -> float | None:
        """How far the value is on the right side of the limit; negative if it is not."""
        return None if self.value is None else self.budget.margin(self.value)

    def to_dict(self) -> dict[str, Any]:
        """Return the line as it stands in JSON."""
        return {
            "budget": self.budget.text,
            "metric": self.budget.metric.name,
            "unit": self.budget.metric.unit,
            "target": self.target,
            "relation": self.budget.relation,
            "limit": self.budget.limit,
            "value": self.value,
            "margin": self.margin,
            "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """All budgets held against all artifacts they are about."""

    lines: tuple[Line, ...]

    @property
    def failed(self) -> tuple[Line, ...]:
        """The lines whose value is beyond the limit."""
        return tuple(line for line in self.lines if line.passed is False)

    @property
    def missing(self) -> tuple[Line, ...]:
        """The lines without a value; nothing can be said of them."""
        return tuple(line for line in self.lines if line.passed is None)

    @property
    def exit_code(self) -> int:
        """0 if all passed, 3 if one failed, 4 if none failed but a value is missing."""
        if self.failed:
            return GateError.exit_code
        return InconclusiveError.exit_code if self.missing or not self.lines else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as it stands in JSON."""
        words = {0: "pass", GateError.exit_code: "fail"}
        return {
            "verdict": words.get(self.exit_code, "inconclusive"),
            "exit_code": self.exit_code,
            "lines": [line.to_dict() for line in self.lines],
        }


def check(report: Mapping[str, Any], budgets: Sequence[Budget]) -> Verdict:
    """Hold `report` against `budgets`.

    A budget with a target is about that target's artifact, one without is about each. What
    the report does not say never passes.

    Raises
    ------
    OptionError
        If there is no budget.
    """
    if not budgets:
        raise OptionError("no budget to hold the report against")
    return Verdict(tuple(line for budget in budgets for line in _lines(report, budget)))


def _lines(report: Mapping[str, Any], budget: Budget) -> Iterator[Line]:
    listed = report.get("artifacts")
    # A broken entry counts as an artifact of which nothing is known, so that it cannot pass.
    entries = listed if isinstance(listed, list) else []
    artifacts = [a if isinstance(a, Mapping) else {} for a in entries]
    about = [a for a in artifacts if budget.target in ("", a.get("target"))]
    if not about:
        yield Line(budget, budget.target, None, has_artifact=False)
    for artifact in about:
        value = budget.metric.read(report, artifact)
        yield Line(budget, str(artifact.get("target", "")), value)
