"""What a pass is, and the pipeline that runs passes and holds them to their word."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from edgec.cost import Cost, cost
from edgec.errors import Diagnostic, PassError, VerificationError
from edgec.evaluate import evaluate
from edgec.ir import Array, Graph, verify
from edgec.numerics import relative_error

__all__ = ["Exact", "Lossy", "Pass", "PassRecord", "Pipeline", "Promise", "Within"]


@dataclass(frozen=True, slots=True)
class Exact:
    """The same numbers come out.

    Held to `tolerance` only because ONNX Runtime itself sums in another order when memory
    happens to be aligned differently: the same graph run twice can differ by that much.
    """

    tolerance: ClassVar[float] = 1e-5

    def __str__(self) -> str:
        return "exact"


@dataclass(frozen=True, slots=True)
class Within:
    """The outputs move by rounding only.

    Parameters
    ----------
    tolerance
        Largest error of any element, relative to the largest element of its output.
    """

    tolerance: float

    def __str__(self) -> str:
        return f"within {self.tolerance:g}"


@dataclass(frozen=True, slots=True)
class Lossy:
    """The outputs change on purpose; the proof of the artifact judges them."""

    def __str__(self) -> str:
        return "lossy"


Promise = Exact | Within | Lossy


class Pass(ABC):
    """A function from graph to graph, with options.

    Subclasses are frozen dataclasses; their fields are options. `run` gets a valid graph and
    returns a valid graph, the very same object if there was nothing to do. Names and types
    of inputs and outputs stay; a length that was not known may become known.
    """

    name: ClassVar[str]
    promise: ClassVar[Promise]

    @abstractmethod
    def run(self, graph: Graph) -> Graph:
        """Return the rewritten graph."""

    def diagnostics(self, graph: Graph) -> tuple[Diagnostic, ...]:
        """What the pass could not do to `graph`, which it has not run on yet."""
        del graph
        return ()


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What one pass did: a line of the ledger.

    Parameters
    ----------
    error
        How far it moved the outputs on the sample, relative to the largest element of each;
        ``None`` if that was not evaluated.
    """

    name: str
    promise: str
    changed: bool
    before: Cost
    after: Cost
    error: float | None
    seconds: float
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Passes run in order, with the graph verified after each.

    Parameters
    ----------
    sample
        One array for each graph input. The graph is evaluated on it around every pass that
        changes something; ``None`` takes the passes at their word.
    progress
        Called with the name of each pass before it runs.
    """

    passes: tuple[Pass, ...]
    sample: Mapping[str, Array] | None = None
    progress: Callable[[str], None] | None = None

    def run(self, graph: Graph) -> tuple[Graph, tuple[PassRecord, ...]]:
        """Run every pass.

        Raises
        ------
        PassError
            If a pass breaks the graph, its interface or its promise.
        """
        verify(graph)
        records: list[PassRecord] = []
        price, known = cost(graph), None
        for step in self.passes:
            if self.progress is not None:
                self.progress(step.name)
            start = time.perf_counter()
            problems = step.diagnostics(graph)
            after = step.run(graph)
            seconds = time.perf_counter() - start
            error: float | None = None
            before, changed = price, after is not graph
            if changed:
                _check_graph(step, graph, after)
                if self.sample is not None and not isinstance(step.promise, Lossy):
                    known = evaluate(graph, self.sample) if known is None else known
                    now = evaluate(after, self.sample)
                    error, known = _hold(step, graph, self.sample, known, now), now
                else:
                    known = None
                price = cost(after)
            elif self.sample is not None:
                error = 0.0
            promise = str(step.promise)
            records.append(
                PassRecord(step.name, promise, changed, before, price, error, seconds, problems)
            )
            graph = after
        return graph, tuple(records)


def _check_graph(step: Pass, before: Graph, after: Graph) -> None:
    try:
        verify(after)
    except VerificationError as error:
        raise PassError(
            f"pass {step.name!r} broke the graph", error.diagnostics, _dump(step, before)
        ) from error
    same = before.inputs == after.inputs and len(before.outputs) == len(after.outputs)
    if not same or any(
        a.name != b.name or not b.type.refines(a.type)
        for a, b in zip(before.outputs, after.outputs, strict=True)
    ):
        raise PassError(
            f"pass {step.name!r} changed the interface of the graph", (), _dump(step, before)
        )


def _hold(
    step: Pass,
    graph: Graph,
    sample: Mapping[str, Array],
    want: Mapping[str, Array],
    got: Mapping[str, Array],
) -> float:
    """Return how far the outputs moved; raise if that is further than promised."""
    promise = step.promise
    error = relative_error(want, got)
    if isinstance(promise, Lossy) or error <= promise.tolerance:
        return error
    floor = _rounding_floor(graph, sample, want)
    if error <= 8 * floor < math.inf:
        return error
    problems = [
        Diagnostic(
            f"moved by {relative_error({name: w}, {name: got[name]}):.3g} of its range, where "
            f"rounding of the inputs alone moves it by {floor:.3g}",
            f"%{name}",
        )
        for name, w in want.items()
    ]
    raise PassError(
        f"pass {step.name!r} broke its promise ({promise})", problems, _dump(step, graph)
    )


def _rounding_floor(
    graph: Graph, sample: Mapping[str, Array], want: Mapping[str, Array]
) -> float:
    """Return how far the outputs move when every input moves by its last bit.

    No rewrite can keep closer than that to a model that amplifies rounding itself, as deep
    models do on inputs far from what they were trained on.
    """
    floor = 0.0
    for bits in (2.0**-23, -(2.0**-23)):
        nudged = {
            name: (a * a.dtype.type(1 + bits)).astype(a.dtype) if a.dtype.kind == "f" else a
            for name, a in sample.items()
        }
        floor = max(floor, relative_error(want, evaluate(graph, nudged)))
    return floor


def _dump(step: Pass, before: Graph) -> dict[str, bytes]:
    """Return what is needed to run the failing pass again."""
    from edgec.export import to_onnx

    return {
        "pass.txt": f"{step!r}\n".encode(),
        "before.txt": f"{before}\n".encode(),
        "before.onnx": to_onnx(before).SerializeToString(deterministic=True),
    }
