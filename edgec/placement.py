"""Which operators of a TFLite file a delegate runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Placement", "placement"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the runtime puts each operator.

    Parameters
    ----------
    codes
        Names of the operators, in the order they run in.
    delegated
        Positions of those that a delegate runs.
    partitions
        Number of pieces the delegate runs; between any two, data go back to the runtime.
    """

    codes: tuple[str, ...]
    delegated: frozenset[int]
    partitions: int

    @property
    def fallen(self) -> tuple[int, ...]:
        """Positions of the operators that no delegate runs."""
        return tuple(i for i in range(len(self.codes)) if i not in self.delegated)


def placement(interpreter: Any) -> Placement | None:
    """Return where LiteRT puts each operator, or ``None`` if it does not tell.

    This version may not, and none does where a tensor's name is no text.

    Parameters
    ----------
    interpreter
        An ``ai_edge_litert`` interpreter whose tensors are allocated. The only place where
        the Python package tells the placement is private to it.
    """
    details = getattr(interpreter, "_get_ops_details", None)
    try:
        return None if details is None else _placed(details())
    except UnicodeDecodeError:
        return None


def _placed(rows: Sequence[Mapping[str, Any]]) -> Placement:
    """Read the operators and the DELEGATE rows that replace some of them."""
    operators = [r for r in rows if r["op_name"] != "DELEGATE"]
    delegates = [r for r in rows if r["op_name"] == "DELEGATE"]
    producer = {int(t): i for i, r in enumerate(operators) for t in r["outputs"]}
    inside: set[int] = set()
    for row in delegates:
        # A partition is everything between its inputs and its outputs.
        ends = {int(t) for t in row["inputs"]}
        waiting = [int(t) for t in row["outputs"]]
        while waiting:
            found = producer.get(waiting.pop())
            if found is not None and found not in inside:
                inside.add(found)
                waiting += [int(t) for t in operators[found]["inputs"] if int(t) not in ends]
    codes = tuple(str(r["op_name"]) for r in operators)
    return Placement(codes, frozenset(inside), len(delegates))
