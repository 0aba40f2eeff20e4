"""What the commands share: cases, predictions and bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.compression.cases import Case, Paired, case_named, paired, predicted
from edgec.cost import cost
from edgec.ir import Graph

__all__ = ["Bench", "bound"]


@dataclass
class Bench:
    """Models by name, loaded once.

    Parameters
    ----------
    cache
        Folder for what takes long to make.
    samples
        Test samples, at most; ``None`` takes all.
    recovers
        Whether pruned models are trained without labels, too.
    criteria
        By which channels are pruned.
    """

    cache: Path
    samples: int | None
    recovers: bool = False
    criteria: tuple[str, ...] = ("l1", "energy", "obs")
    _cases: dict[str, Case] = field(default_factory=dict)

    def case(self, name: str) -> Case:
        """Return a model with its samples."""
        if name not in self._cases:
            self._cases[name] = case_named(name, self.samples)
        return self._cases[name]

    def scored(self, case: Case, graph: Graph) -> Paired:
        """Return how a compressed graph does on the test samples beside the float model."""
        return paired(case.classes, predicted(graph, case.test), case.labels)

    def line(self, case: Case, label: str, graph: Graph, seconds: float) -> Paired:
        """Print what is left of a model, and how it does; return the latter."""
        before, now, found = cost(case.graph), cost(graph), self.scored(case, graph)
        print(
            f"  {label:44} MACs {before.macs / now.macs:5.3f}x fewer, parameters "
            f"{before.parameters / now.parameters:5.3f}x fewer, accuracy {found}, "
            f"{seconds:.0f} s",
            flush=True,
        )
        return found


def bound(text: str, *, holds: bool) -> int:
    """Print whether a bound holds; return 1 if it does not."""
    print(f"    {text}: {'holds' if holds else 'FAIL'}", flush=True)
    return int(not holds)
