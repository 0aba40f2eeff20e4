"""A budget: one limit on one metric, as the user writes it."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from edgec.errors import Diagnostic, OptionError
from edgec.gate.metrics import METRICS, TARGET_NAMES, Metric, metric

__all__ = ["Budget"]

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}

_COUNTS = {"": 1, "k": 1_000, "M": 1_000_000}
_BYTES = {"kB": 1_000, "MB": 1_000_000, "KiB": 1024, "MiB": 1024 * 1024}

_FORM = re.compile(
    r"\s*(?:(?P<target>[\w-]+)\s*\.\s*)?(?P<metric>[\w-]+)\s*"
    r"(?P<relation><=|>=|<|>)\s*"
    r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<suffix>[A-Za-z%]*)\s*"
)


@dataclass(frozen=True, slots=True)
class Budget:
    """``[target.]metric <= limit``.

    Parameters
    ----------
    text
        As the user wrote it, for messages.
    target
        ``""`` if it must hold for every artifact.
    relation
        One of ``<=``, ``>=``, ``<`` and ``>``.
    limit
        In the metric's own unit.
    """

    text: str
    target: str
    metric: Metric
    relation: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the budget that `text` stands for.

        Raises
        ------
        OptionError
            If it is malformed, or names a metric or a target that does not exist.

        Examples
        --------
        >>> budget = Budget.parse("tflite.size_bytes <= 100kB")
        >>> budget.target, budget.metric.name, budget.limit
        ('tflite', 'size_bytes', 100000.0)
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise OptionError(
                f"cannot read the budget {text!r}",
                [
                    Diagnostic(
                        "a budget is [target.]metric, one of <= >= < >, and a number",
                        hint='for instance "tflite.latency_ms<=45" or "accuracy>=0.91"',
                    )
                ],
            )
        target = found["target"] or ""
        if target and target not in TARGET_NAMES:
            raise _unknown("target", target, text, TARGET_NAMES, "edgec targets")
        what = metric(found["metric"])
        if what is None:
            names = [m.name for m in METRICS]
            raise _unknown("metric", found["metric"], text, names, "edgec gate --list")
        limit = float(found["number"]) * _factor(text, what, found["suffix"])
        _check_share(text, what, limit)
        return cls(text.strip(), target, what, found["relation"], limit)

    def holds(self, value: float) -> bool:
        """Whether `value` is within the limit."""
        return _OPERATORS[self.relation](value, self.limit)

    def margin(self, value: float) -> float:
        """Return how far `value` is on the right side of the limit; negative if it is not."""
        return self.limit - value if self.relation.startswith("<") else value - self.limit

    def __str__(self) -> str:
        return self.text


def _unknown(
    kind: str, name: str, text: str, names: Sequence[str], listing: str
) -> OptionError:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return OptionError(
        f"there is no {kind} {name!r} (budget {text!r})",
        [Diagnostic(f"{guess}`{listing}` lists them all")],
    )


def _factor(text: str, what: Metric, suffix: str) -> int:
    """Return what a suffix multiplies by."""
    if suffix in _COUNTS:
        return _COUNTS[suffix]
    if suffix in _BYTES and what.unit == "bytes":
        return _BYTES[suffix]
    if what.unit == "bytes":
        rule = "k, M, kB, MB, KiB and MiB are known"
    elif what.unit == "share":
        rule = f"{what.name} is a share, written from 0 to 1: 91 % is 0.91"
    elif suffix == what.unit:
        rule = f"{what.name} is always in {what.unit}: leave the unit out"
    else:
        rule = "k (1,000) and M (1,000,000) are known here"
    raise OptionError(
        f"cannot read the suffix {suffix!r} of the budget {text!r}", [Diagnostic(rule)]
    )


def _check_share(text: str, what: Metric, limit: float) -> None:
    # A limit of 91 where 0.91 was meant would always fail, or, the other way round, never.
    if what.unit == "share" and abs(limit) > 1:
        raise OptionError(
            f"the limit of the budget {text!r} is out of range",
            [Diagnostic(f"{what.name} is a share, written from 0 to 1: 91 % is 0.91")],
        )
