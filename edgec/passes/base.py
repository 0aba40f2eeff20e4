"""What a pass is, and the pipeline that runs passes and holds them to their word."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from edgec.cost import Cost, cost
from edgec.errors import Diagnostic, PassError, VerificationError
from edgec.evaluate import evaluate
from edgec.ir import Array, Graph, unload, verify
from edgec.numerics import relative_error
from edgec.passes.rounding import rounding_floor

__all__ = [
    "Exact",
    "LayerRecord",
    "Lossy",
    "Pass",
    "PassRecord",
    "Pipeline",
    "Promise",
    "Sample",
    "Within",
]


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

_MOST_TURNS = 50  # each pass makes a graph smaller or simpler; real models need 2 to 4


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """What a pass did to one layer; a lossy one judged on samples that it was not fitted to.

    Parameters
    ----------
    layer
        Its name in the user's model.
    before_db, after_db
        Signal-to-noise ratio of the layer's results, or of what the pass says it looks at;
        infinite where nothing is lost.
    kept
        What was kept: "plain" if the layer is as it was.
    nats
        What the outputs lose with this layer alone compressed
        (:class:`~edgec.passes.divergence.Divergence`), before the rest makes up for it and
        after; ``None`` if the pass does not measure that.
    macs, weight_bytes
        Of the graph, before this layer was compressed and after, if the pass tells.
    """

    layer: str
    before_db: float
    after_db: float
    kept: str
    nats: tuple[float, float] | None = None
    macs: tuple[int, int] | None = None
    weight_bytes: tuple[int, int] | None = None


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

    def run_recorded(self, graph: Graph) -> tuple[Graph, tuple[LayerRecord, ...]]:
        """Return the rewritten graph, and what was done to each layer if the pass tells."""
        return self.run(graph), ()

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
    layers
        What it did to each layer, if it tells.
    """

    name: str
    promise: str
    changed: bool
    before: Cost
    after: Cost
    error: float | None
    seconds: float
    diagnostics: tuple[Diagnostic, ...] = ()
    layers: tuple[LayerRecord, ...] = ()


class Sample(dict[str, Array]):
    """One array for each graph input, with what the last graph made of them.

    A graph goes from one pipeline into the next, and need not be evaluated again there.
    """

    _last: tuple[Graph, Mapping[str, Array]] | None = None

    def outputs(self, graph: Graph) -> Mapping[str, Array]:
        """Return what a graph computes."""
        if self._last is None or self._last[0] is not graph:
            self._last = None
            self._last = graph, evaluate(graph, self)
        return self._last[1]


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
    repeat
        Whether to begin again until no pass changes the graph any more. A pass that has seen
        the graph as it is does not run on it again.
    """

    passes: tuple[Pass, ...]
    sample: Mapping[str, Array] | None = None
    progress: Callable[[str], None] | None = None
    repeat: bool = False

    def run(self, graph: Graph) -> tuple[Graph, tuple[PassRecord, ...]]:
        """Run every pass.

        Returns the graph, and one record for each pass, followed by one for each change that
        a pass made when its turn came again. What a pass could not do is said once, as it
        stands in the end.

        Raises
        ------
        PassError
            If a pass breaks the graph, its interface or its promise, or if passes undo each
            other's work for ever.
        """
        verify(graph)
        sample = self.sample
        if sample is not None and not isinstance(sample, Sample):
            sample = Sample(sample)
        state = _State(graph, sample, cost(graph))
        records: list[PassRecord] = []
        seen: list[Graph | None] = [None] * len(self.passes)
        problems: dict[str, tuple[Diagnostic, ...]] = {}
        for turn in range(_MOST_TURNS):
            for i, step in enumerate(self.passes):
                if seen[i] is state.graph:
                    continue
                if self.progress is not None:
                    self.progress(step.name)
                record = state.take(step)
                problems[step.name] = record.diagnostics
                if record.changed or not turn:
                    records.append(record)
                seen[i] = state.graph
            if not self.repeat or all(last is state.graph for last in seen):
                return state.graph, _with_diagnostics(records, problems)
        names = ", ".join(dict.fromkeys(r.name for r in records[len(self.passes) :]))
        raise PassError(f"passes undo each other's work for ever: {names}")


@dataclass(slots=True)
class _State:
    """A graph on its way through a pipeline, with what is known of it."""

    graph: Graph
    sample: Sample | None
    price: Cost

    def take(self, step: Pass) -> PassRecord:
        """Run one pass and hold it to its word."""
        graph, before = self.graph, self.price
        start = time.perf_counter()
        problems = step.diagnostics(graph)
        after, layers = step.run_recorded(graph)
        seconds = time.perf_counter() - start
        error: float | None = None
        changed = after is not graph
        if changed:
            _check_graph(step, graph, after)
            unload(c.array for c in graph.constants.values())
            if self.sample is not None and not isinstance(step.promise, Lossy):
                want, got = self.sample.outputs(graph), self.sample.outputs(after)
                error = _hold(step, graph, self.sample, want, got)
            self.graph, self.price = after, cost(after)
        elif self.sample is not None:
            error = 0.0
        promise = str(step.promise)
        return PassRecord(
            step.name, promise, changed, before, self.price, error, seconds, problems, layers
        )


def _with_diagnostics(
    records: list[PassRecord], problems: Mapping[str, tuple[Diagnostic, ...]]
) -> tuple[PassRecord, ...]:
    """Return the records, the first of each pass with what the pass could not do in the end."""
    left = dict(problems)
    return tuple(replace(r, diagnostics=left.pop(r.name, ())) for r in records)


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
    floor = rounding_floor(graph, sample, want)
    if error <= 8 * floor < math.inf:
        return error
    problems = [
        Diagnostic(
            f"moved by {relative_error({name: w}, {name: got[name]}):.3g} of its range, where "
            f"rounding alone moves it by {floor:.3g}",
            f"%{name}",
        )
        for name, w in want.items()
    ]
    raise PassError(
        f"pass {step.name!r} broke its promise ({promise})", problems, _dump(step, graph)
    )


_DUMPED_BYTES = 1 << 30


def _dump(step: Pass, before: Graph) -> dict[str, bytes]:
    """Return what is needed to run the failing pass again."""
    from edgec.export import to_onnx

    small = sum(c.array.nbytes for c in before.constants.values()) < _DUMPED_BYTES
    return {
        "pass.txt": f"{step!r}\n".encode(),
        "before.txt": f"{before}\n".encode(),
        "before.onnx": to_onnx(before, weights=small).SerializeToString(deterministic=True),
    }
