"""One artifact for one target, from the simplified graph to the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgec.cost import Cost, cost
from edgec.errors import Diagnostic, NumericsError
from edgec.evaluate import Evaluator
from edgec.ir import Graph, unload
from edgec.ops import Quantize
from edgec.options import CompileOptions, sharing_asked
from edgec.passes import Pass, PassRecord, Pipeline, Sample, Scheme, TieConstants, recipe_named
from edgec.proof import Limits, faults, prove
from edgec.split import Split
from edgec.targets import Artifact, Target
from edgec.verdict import Progress

if TYPE_CHECKING:
    from edgec.calibration import CalibrationReport
    from edgec.passes import Precision
    from edgec.precision import Drop, Loss
    from edgec.quantizing import Calibrated

__all__ = ["Compiled", "Making", "run_passes"]

_TIMED_BYTES = 256 << 20
"""Of constants: a float artifact beside would take too much memory and time."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """One artifact, with how it came to be.

    Parameters
    ----------
    price
        Of the graph that the artifact was made from, less what the target took out of it since.
    is_quantized
        Whether activations are integers, by edgec's doing or as the model came.
    plain
        The same graph in float32, if there is one to time the artifact beside.
    search
        What was tried until it lost no more than allowed, if that was asked for.
    compression
        What was taken out of the model to reach a goal, if there was one.
    uncompressed
        The artifact of the whole model, if there is one to time this one beside.
    sharing
        What sharing of weights saved and lost, if that was asked for.
    observed
        What the samples showed of the float graph, if ranges were calibrated.
    measured
        What it takes on its device, where that can be counted.
    """

    target: str
    artifact: Artifact
    price: Cost
    is_quantized: bool
    records: tuple[PassRecord, ...]
    settings: Mapping[str, str]
    diagnostics: tuple[Diagnostic, ...]
    plain: Artifact | None = None
    search: Mapping[str, Any] | None = None
    compression: Mapping[str, Any] | None = None
    uncompressed: Artifact | None = None
    sharing: Mapping[str, Any] | None = None
    observed: CalibrationReport | None = None
    measured: Mapping[str, Any] | None = None

    @property
    def is_lossy(self) -> bool:
        """Whether it is meant to compute something else than the model."""
        pruned = any(r.name == "prune-weights" and r.changed for r in self.records)
        return self.is_quantized or pruned or bool((self.compression or {}).get("chosen"))


_NO_ZEROS = (
    Diagnostic(
        "no weight was set to zero",
        hint="only convolutions and fully connected layers in float32 have weights that can "
        "be pruned",
    ),
)


def run_passes(
    passes: tuple[Pass, ...], graph: Graph, sample: Sample | None, say: Progress
) -> tuple[Graph, tuple[PassRecord, ...]]:
    """Run passes in order, and tell the name of each."""
    return Pipeline(passes, sample, lambda name: say(name, 0, 0)).run(graph)


@dataclass
class Making:
    """All that is needed to make the artifacts of one model, one target after the other.

    Parameters
    ----------
    schemes
        Of all targets, whose values are calibrated at once.
    drop
        What measures the loss of artifacts, if it is limited.
    model_bytes
        Of the file that came in.
    calibrations
        What was calibrated; it is shared where the graph is the same for several targets.
    """

    data: Split
    sample: Sample | None
    schemes: Sequence[Scheme]
    drop: Drop | None
    options: CompileOptions
    model_bytes: int
    say: Progress
    calibrations: list[Calibrated] = field(default_factory=list)

    @property
    def weight_bits(self) -> int:
        """Bits of a weight as the recipe stores it."""
        recipe = self.options.recipe
        return 32 if recipe is None else recipe_named(recipe).weight_bits

    def compiled(self, target: Target, graph: Graph) -> Compiled:
        """Return the artifact of a simplified graph for one target, whole."""
        graph, records = self.prepared(target, graph)
        return self.quantized(target, graph, records, self.float_twin(target, graph))

    def prepared(self, target: Target, graph: Graph) -> tuple[Graph, tuple[PassRecord, ...]]:
        """Return a simplified graph as a target wants it, and what that took."""
        return run_passes(target.prepare(), graph, self.sample, self.say)

    def quantized(
        self,
        target: Target,
        graph: Graph,
        records: tuple[PassRecord, ...],
        plain: Artifact | None,
    ) -> Compiled:
        """Return the artifact of a prepared graph, quantized if there is a recipe.

        Weights become zero first, where asked: what takes out structure fits weights anew.
        """
        if self.options.prune_weights is not None:
            from edgec.pruning import pruning  # it takes long to load

            step = pruning(graph, self.data, self.options)
            graph, zeros = run_passes((step,), graph, None, self.say)
            records += tuple(
                r if r.changed or r.diagnostics else replace(r, diagnostics=_NO_ZEROS)
                for r in zeros
            )
        if self.options.recipe is None:
            single = self._emitted(target, graph, records, plain)
            if self.options.prove and any(r.promise == "lossy" and r.changed for r in records):
                self._hold(target, graph, single)
            return single
        from edgec.quantizing import AS_THE_RECIPE_SAYS, quantizing  # it takes long to load

        asked = sharing_asked(self.options)
        if asked is not None:
            graph, tied = run_passes((TieConstants(),), graph, self.sample, self.say)
            records += tied
        way = quantizing(
            target, graph, self.data, self.calibrations, self.schemes, self.options, self.say
        )

        def made(mix: Mapping[str, Precision]) -> Compiled:
            stored, rewritten = run_passes(way.passes(mix), way.graph, None, self.say)
            whole = (*records, *way.records, *rewritten)
            done = self._emitted(target, stored, whole, plain)
            if asked is not None:
                from edgec.sharing import sharing_entry

                shared, more = run_passes((way.sharing(asked, mix),), stored, None, self.say)
                each = self._emitted(target, shared, (*whole, *more), plain)
                both = (stored, done.artifact), (shared, each.artifact)
                done = replace(each, sharing=sharing_entry(way, asked, *both))
            changed = any(r.changed for r in rewritten)
            observed = None if way.calibration is None else way.calibration.report
            quantized = done.is_quantized or changed
            return replace(done, is_quantized=quantized, observed=observed)

        drop, most = self.drop, self.options.max_drop
        if drop is None or most is None:
            return made(AS_THE_RECIPE_SAYS)
        from edgec.cache import Cache
        from edgec.precision import search

        def lost(found: Compiled) -> tuple[Loss, int]:
            return drop.of(target.load(found.artifact)), found.artifact.size_bytes

        found = search(way, made, lost, most, Cache.of_user(), self.say)
        told = {
            "max_drop": most,
            "measure": drop.measure,
            "samples": drop.samples,
            "loses": drop.text(found.lost),
        }
        return replace(found.made, search={**told, **found.to_dict()})

    def _hold(self, target: Target, graph: Graph, made: Compiled) -> None:
        """Raise if a float artifact does not compute what the graph it was made from does.

        Beside the model it only shows what was done to that on purpose.
        """
        runner, reference = target.load(made.artifact), Evaluator(graph)
        wants = (reference.run(feed) for feed in self.data.proof())
        agreement = prove(wants, {"": runner}, self.data.proof())[""]
        limits = Limits(max_float_error=self.options.max_float_error)
        if problems := faults(agreement, quantized=False, limits=limits):
            raise NumericsError(
                f"the {target.name} artifact does not compute what its own graph does",
                problems,
            )

    def for_all(self) -> Making:
        """Return what makes artifacts of the whole model, as if there were no goal."""
        return replace(
            self,
            options=replace(
                self.options,
                target_macs=None,
                target_size=None,
                target_latency=None,
                target_ram=None,
            ),
        )

    def fast(self) -> Making:
        """Return what makes artifacts whose numbers do not matter: to time, or to weigh."""
        options = replace(
            self.options, effort="fast", max_drop=None, share_weights=None, prune_weights=None
        )
        return replace(self, options=options, drop=None, calibrations=[])

    def float_twin(self, target: Target, graph: Graph) -> Artifact | None:
        """Return the float artifact that a quantized one is timed beside, if it is to be."""
        options = self.options
        wanted = options.recipe is not None and options.prove and options.compare_speed
        if not wanted or not target.runs_here:
            return None
        if sum(c.array.nbytes for c in graph.constants.values()) > _TIMED_BYTES:
            return None
        finished, _ = run_passes(target.finish(), graph, None, self.say)
        return target.for_floats().compile(finished)

    def _emitted(
        self,
        target: Target,
        graph: Graph,
        records: tuple[PassRecord, ...],
        plain: Artifact | None,
    ) -> Compiled:
        """Return the artifact of a graph that is only to be finished."""
        graph, finished = run_passes(target.finish(), graph, self.sample, self.say)
        records += finished
        self.say(f"emit {target.name}", 0, 0)
        artifact = target.compile(graph)
        notes = (*artifact.notes, *(d for r in records for d in r.diagnostics))
        came = any(isinstance(node.op, Quantize) for node in graph.nodes)
        unload(c.array for c in graph.constants.values())
        return Compiled(
            target.name,
            artifact,
            artifact.records[-1].after if artifact.records else cost(graph),
            came,
            (*records, *artifact.records),
            target.settings(),
            notes,
            plain,
        )
