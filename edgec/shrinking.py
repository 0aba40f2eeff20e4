"""An artifact that meets a goal: structure is taken out of the model until it does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from edgec.cache import Cache
from edgec.compression import Compressed, Compressor, Technique, techniques_for
from edgec.compression.compressor import plain_nats
from edgec.compression.search import Price
from edgec.cost import cost
from edgec.errors import Diagnostic, OptionError
from edgec.goals import Goal
from edgec.ir import Array, Graph
from edgec.latency import kernels_for, predicted_seconds
from edgec.making import Compiled, Making
from edgec.options import calibrates
from edgec.passes import PassRecord, recipe_named
from edgec.passes.judging import LEAST_SAMPLES, held_out, too_few
from edgec.precision import Loss
from edgec.speed import compared
from edgec.split import Split
from edgec.targets import Target

__all__ = ["compression_samples", "shrunk"]

_MOST_SAMPLES = 512
_HELD_BYTES = 768 << 20
"""Of the activations of all samples in one walk; there are two at a time."""

_TURNS = 4
_GIVEN_BACK = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of what a goal takes away that are left in place, one after the other, until no more
is lost than allowed."""


def compression_samples(data: Split, graph: Graph) -> tuple[Mapping[str, Array], ...]:
    """Return the samples to compress by: 512 at most, fewer if activations are large."""
    peak = max(cost(graph).peak_activation_bytes, 1)
    # A walk holds real numbers in 16 bits.
    room = max(_HELD_BYTES // (peak // 2 + 1), 16)
    return tuple(islice(data.calibration(), min(_MOST_SAMPLES, room)))


def shrunk(making: Making, target: Target, graph: Graph) -> Compiled:
    """Return the artifact that meets the goal of the options, and loses least in doing so.

    Parameters
    ----------
    graph
        Simplified, float, whole.
    """
    return _Shrinking(making, target, *making.prepared(target, graph)).result()


@dataclass(frozen=True, slots=True)
class _Tried:
    """One artifact with less structure.

    Parameters
    ----------
    reached
        What is left, in the unit of the goal.
    """

    made: Compiled
    compressed: Compressed
    reached: float
    asked: float
    lost: Loss | None

    @property
    def drop(self) -> float:
        """What it loses, in the unit of the limit; nothing where there is no limit."""
        return 0.0 if self.lost is None else self.lost.value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values of JSON."""
        return {
            "asked": self.asked,
            "reached": self.reached,
            "nats": plain_nats(self.compressed.nats),
            "drop": round(self.drop, 4) if math.isfinite(self.drop) else None,
        }


class _Shrinking:
    """One goal for one target."""

    def __init__(
        self,
        making: Making,
        target: Target,
        graph: Graph,
        records: tuple[PassRecord, ...],
    ) -> None:
        goal = making.options.goal
        assert goal is not None
        self.making, self.target, self.graph, self.records = making, target, graph, records
        self.goal: Goal = goal
        if goal.measure == "latency" and not target.runs_here:
            raise OptionError(
                f"--target-latency times the artifact for {target.name}, which is for another "
                "machine; give --target-macs or --target-size instead"
            )
        self.say = making.say
        self.uncompressed = making.fast().quantized(target, graph, records, None)
        self.whole = self._whole()
        self.most = goal.most(self.whole)
        self.samples = compression_samples(making.data, graph)
        self._kernels = kernels_for(target.name, graph, integers=calibrates(making.options))
        self.tries: list[_Tried] = []
        self.notes: tuple[Diagnostic, ...] = ()

    def result(self) -> Compiled:
        """Return the best artifact that was found, with all that is to be said of it."""
        whole = self._by_itself()
        if whole is not None:
            return self._told(whole, holds=True)
        techniques = self._techniques()
        self.notes = (*self._unmeasured(), *(d for t in techniques for d in t.notes()))
        compressor = Compressor(
            self.graph,
            self.samples,
            techniques,
            self.say,
            recover=self.making.options.recover,
        )
        most_lost = self.making.options.max_drop
        top = self.uncompressed.artifact.size_bytes if self._is_size else self.whole
        best: _Tried | None = None
        for share in _GIVEN_BACK:
            now = self._reached(compressor, self.most + share * max(top - self.most, 0.0))
            if most_lost is None or now.drop <= most_lost:
                best = now
                break
            if best is None or now.drop < best.drop:
                best = now
        assert best is not None
        return self._told(best, holds=best.reached <= self.most)

    @property
    def _is_size(self) -> bool:
        return self.goal.measure == "size"

    def _by_itself(self) -> _Tried | None:
        """Return the artifact with all of its structure, if it meets the goal."""
        likely = self.uncompressed.artifact.size_bytes if self._is_size else self.whole
        if likely > self.most:
            return None
        tried = self._tried(Compressed(self.graph, (), self.whole, 0.0, (), {}), self.most)
        if self._is_size and tried.reached > self.most:
            return None
        return tried

    def _techniques(self) -> Sequence[Technique]:
        return techniques_for(
            self.graph,
            self.samples,
            self.making.options.techniques,
            multiple=self.making.options.channel_multiple or self.target.channel_multiple,
            kernels=self._kernels,
            cache=Cache.of_user(),
            say=self.say,
        )

    def _unmeasured(self) -> tuple[Diagnostic, ...]:
        """Return why no layer is factorised, if that was wanted."""
        names = self.making.options.techniques
        if names and not any(name.startswith("factorize") for name in names):
            return ()
        return too_few(len(self.samples), "no layer is factorised")

    def _reached(self, compressor: Compressor, most: float) -> _Tried:
        """Return an artifact that meets a goal as it is measured, if there is one."""
        asked = most
        for _ in range(_TURNS):
            compressed = compressor.within(self._price, asked)
            least = compressed is None
            compressed = compressed or compressor.least(self._price)
            tried = self._tried(compressed, asked)
            done = tried.reached <= most or not compressed.chosen
            if done or least or not self.goal.is_measured:
                return tried
            asked *= 0.99 * most / tried.reached
        return tried

    def _tried(self, compressed: Compressed, asked: float) -> _Tried:
        for before in self.tries:
            if before.compressed.graph is compressed.graph:
                return replace(before, asked=asked)
        self.say(f"make {self.target.name}", 0, 0)
        records = (*self.records, *compressed.records)
        twin = self.making.float_twin(self.target, compressed.graph)
        # No other target will have this graph: its calibration goes with the try.
        own = replace(self.making, calibrations=[])
        making = own if compressed.chosen else self.making.for_all()
        made = making.quantized(self.target, compressed.graph, records, twin)
        if self._is_compared():
            made = replace(made, uncompressed=self.uncompressed.artifact)
        drop = self.making.drop
        lost = None if drop is None else drop.of(self.target.load(made.artifact))
        reached = self._measured(made, compressed)
        tried = _Tried(made, compressed, reached, asked, lost)
        self.tries.append(tried)
        return tried

    def _is_compared(self) -> bool:
        options = self.making.options
        runs = self.target.runs_here or self.target.is_emulated
        return options.prove and options.compare_speed and runs

    def _whole(self) -> float:
        match self.goal.measure:
            case "macs":
                return cost(self.graph).macs
            case "ram":
                return self._ram(self.graph)
            case "size":
                bytes_ = self.uncompressed.artifact.size_bytes
                return self.making.model_bytes if self.goal.relative else bytes_
            case "latency":
                return 1.0 if self.goal.relative else self._seconds(self.uncompressed)

    @cached_property
    def _price(self) -> Price:
        """Return what a graph costs as far as its shapes tell."""
        match self.goal.measure:
            case "macs":
                return lambda graph: cost(graph).macs
            case "ram":
                return self._ram
            case "size":
                whole, bits = cost(self.graph).parameters, self.making.weight_bits
                held = self.uncompressed.artifact.size_bytes
                return lambda graph: held - (whole - cost(graph).parameters) * bits / 8
            case "latency":
                kernels = self._kernels
                unit = self.whole / predicted_seconds(self.graph, kernels)
                return lambda graph: unit * predicted_seconds(graph, kernels)

    def _measured(self, made: Compiled, compressed: Compressed) -> float:
        """Return what the goal is about, of an artifact that was made."""
        match self.goal.measure:
            case "size":
                return made.artifact.size_bytes
            case "latency":
                if not self.goal.relative:
                    return self._seconds(made)
                first = self.making.data.first()
                now, before = (self.target.load(m.artifact) for m in (made, self.uncompressed))
                return 1 / compared(now, before, first).speedup
            case _:
                return self._price(compressed.graph)

    def _seconds(self, made: Compiled) -> float:
        runner = self.target.load(made.artifact)
        return compared(runner, runner, self.making.data.first()).latency_ms / 1e3

    def _ram(self, graph: Graph) -> float:
        """Return the bytes of activations alive at once, in the integers they will be."""
        recipe = self.making.options.recipe
        bits = {"int8": 8, "int16": 16}.get(
            recipe_named(recipe).activations if recipe else "", 32
        )
        return cost(graph).peak_activation_bytes * bits / 32

    def _loss(self, tried: _Tried) -> dict[str, Any]:
        """Return what is lost, if that is limited and nothing else was tried to limit it."""
        drop, most = self.making.drop, self.making.options.max_drop
        if drop is None or most is None or tried.lost is None:
            return {}
        return {
            "max_drop": most,
            "loses": drop.text(tried.lost),
            "drop_holds": tried.lost.value <= most,
        }

    def _told(self, tried: _Tried, *, holds: bool) -> Compiled:
        count = len(self.samples)
        told = {
            "measure": self.goal.measure,
            "goal": self.goal.text,
            "whole": self.whole,
            "most": self.most,
            "reached": tried.reached,
            "left": self.goal.left(tried.reached, self.whole),
            "holds": holds,
            **self._loss(tried),
            "samples": count,
            "held_out": int(held_out(count).sum()) if count >= LEAST_SAMPLES else 0,
            **tried.compressed.to_dict(),
            "tries": [t.to_dict() for t in self.tries],
        }
        made = replace(tried.made, compression=told)
        if holds:
            return made
        return replace(made, diagnostics=(*made.diagnostics, *self.notes))
