"""What a measurement found, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["OperatorTime", "Profile"]


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """The time of one operator of the graph that the runtime made of the model.

    Parameters
    ----------
    name
        As the runtime calls it; runtimes fuse and rename layers.
    ms
        Mean of one execution, milliseconds, in a run of its own with tracing on.
    calls
        Executions in one inference.
    """

    name: str
    type: str
    ms: float
    calls: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Times of a model on one machine.

    Parameters
    ----------
    latency_ms, latency_p95_ms, latency_min_ms, latency_max_ms
        Median, 95th percentile and extremes of one inference, milliseconds.
    cold_ms
        From opening the file to the first result, milliseconds.
    runs, warmup
        Inferences that were timed, and those before them that were not.
    peak_rss_bytes
        Most memory of the process that ran the model, Python and runtime included; ``None``
        where the system does not tell.
    runtime
        Name and version.
    machine
        Processor, cores, frequency governor and load at the start.
    operators
        In the order they run; ``None`` where the runtime does not tell.
    delegation
        Which operators a LiteRT delegate runs; ``None`` for other runtimes.
    notes
        What to know when reading the numbers.
    """

    latency_ms: float
    latency_p95_ms: float
    latency_min_ms: float
    latency_max_ms: float
    cold_ms: float
    runs: int
    warmup: int
    threads: int
    peak_rss_bytes: int | None
    runtime: Mapping[str, str]
    machine: Mapping[str, Any]
    operators: tuple[OperatorTime, ...] | None = None
    delegation: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the profile that :meth:`to_dict` wrote."""
        operators = data["operators"]
        listed = None if operators is None else tuple(OperatorTime(**o) for o in operators)
        return cls(**{**data, "operators": listed, "notes": tuple(data["notes"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as it stands in JSON."""
        data = asdict(self)
        listed = self.operators
        data["operators"] = None if listed is None else [asdict(o) for o in listed]
        data["notes"] = list(self.notes)
        return data
