"""ONNX Runtime: the graph written back as an ONNX model, placed so that its kernels fuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from typing_extensions import override

from edgec.errors import Diagnostic, ModelError, NumericsError, OptionError, UnsupportedError
from edgec.ir import Array, Graph, Op
from edgec.ops import FullyConnected, MatMul
from edgec.passes import STATIC_INT8, Pass, Recipe, Scheme, SchemeWishes
from edgec.targets.base import Artifact, Port, Runner, Target
from edgec.targets.onnxruntime.devices import Device, this_device

__all__ = ["OnnxRuntime"]


_MOST_BYTES = (1 << 31) - (1 << 26)
"""Of constants in one file: protobuf writes 2 GB, and the rest needs room too."""


def _inside(graph: Graph, outside: frozenset[str]) -> int:
    """Return the bytes of the constants that are in the file itself."""
    return sum(c.array.nbytes for name, c in graph.constants.items() if name not in outside)


@dataclass(frozen=True, slots=True)
class OnnxRuntime(Target):
    """Emits ``.onnx`` for ONNX Runtime's CPU provider.

    Parameters
    ----------
    device
        The CPU it will run on; decides how activations and weights are stored.
    recipe
        What models are quantized to, if they are.
    wishes
        What the user chose of the scheme.
    """

    name: ClassVar[str] = "onnxruntime"
    description: ClassVar[str] = "ONNX file for ONNX Runtime on CPUs; QDQ when quantized"
    device: Device = field(default_factory=this_device)
    recipe: Recipe = STATIC_INT8
    wishes: SchemeWishes = field(default_factory=SchemeWishes)

    @override
    def scheme(self) -> Scheme:
        narrow = self.recipe.weight_bits < 8 and self.recipe.needs_samples
        if narrow or self.recipe.activations == "int16":
            raise OptionError(
                f"onnxruntime has no kernels for recipe {self.recipe.name}: its layers would "
                "be computed in float; take static_wi8_ai8, or compile for tflite"
            )
        packed = (FullyConnected, MatMul) if self.recipe.weight_bits == 4 else ()
        return self.wishes.applied(replace(self.device.scheme, packed=packed, narrow=(Op,)))

    @property
    @override
    def runs_here(self) -> bool:
        return self.device.name == this_device().name

    @override
    def settings(self) -> dict[str, str]:
        return {
            "device": self.device.name,
            "why": self.device.why,
            "scheme": str(self.scheme()),
        }

    @override
    def finish(self) -> tuple[Pass, ...]:
        # They take long to load, and other targets have no use for them.
        from edgec.targets.onnxruntime.absorb import AbsorbActivations
        from edgec.targets.onnxruntime.clip_integers import ClipIntegers
        from edgec.targets.onnxruntime.expand_slow import ExpandSlowActivations
        from edgec.targets.onnxruntime.keep_floats import KeepFloats
        from edgec.targets.onnxruntime.pad_integers import PadIntegers
        from edgec.targets.onnxruntime.part_pools import PartPools
        from edgec.targets.onnxruntime.place_stored_weights import PlaceStoredWeights

        return (
            AbsorbActivations(),
            # After AbsorbActivations: what saturation does needs no clip.
            ClipIntegers(),
            PlaceStoredWeights(),
            PadIntegers(),
            ExpandSlowActivations(),
            PartPools(),
            KeepFloats(),
        )

    @override
    def check(self, graph: Graph) -> tuple[Diagnostic, ...]:
        return ()  # every graph is ONNX

    @override
    def emit(self, graph: Graph) -> Artifact:
        from edgec.export import Outside, to_onnx

        outside = Outside.of(graph) if _inside(graph, frozenset()) > _MOST_BYTES else None
        if outside is not None and _inside(graph, frozenset(outside.names)) > _MOST_BYTES:
            raise UnsupportedError(
                "an ONNX file holds at most 2 GB, and this model has more in constants that "
                "have to be in it: texts, and numbers of types that numpy lacks"
            )
        model = to_onnx(graph, outside=outside)
        counts = Counter(node.op_type for node in model.graph.node)
        return Artifact(
            model.SerializeToString(deterministic=True),
            ".onnx",
            tuple(Port.like(v) for v in graph.inputs),
            tuple(Port.like(v) for v in graph.outputs),
            dict(sorted(counts.items())),
            self._notes(counts),
            outside=outside,
        )

    def _notes(self, counts: Mapping[str, int]) -> tuple[Diagnostic, ...]:
        best, chosen = self.device.scheme.activation, self.scheme().activation
        if chosen is best or not counts["QuantizeLinear"]:
            return self._fitting(counts)
        text = (
            f"activations are {chosen.name.lower()} as asked for with --scheme, but "
            f"{self.device.name} is fastest with {best.name.lower()}: {self.device.why}"
        )
        return (Diagnostic(text, "onnxruntime"), *self._fitting(counts))

    def _fitting(self, counts: Mapping[str, int]) -> tuple[Diagnostic, ...]:
        if self.recipe.activations == "dynamic" and counts["Conv"]:
            return (_FLOAT_CONVOLUTIONS,)
        if counts["DequantizeLinear"] and any(counts[k] for k in ("If", "Loop", "Scan")):
            return (*self._placed(counts), _ABORTS)
        return self._placed(counts)

    def _placed(self, counts: Mapping[str, int]) -> tuple[Diagnostic, ...]:
        here = this_device().name
        if self.device.name == here or not counts["QuantizeLinear"]:
            return ()
        message = (
            f"is made for {self.device.name} but proven on {here}, whose kernels differ: some "
            "layers run in float here"
        )
        return (Diagnostic(message, "onnxruntime", "run the golden data on the device"),)

    @override
    def load(self, artifact: Artifact) -> Runner:
        return _OrtRunner(artifact)


_FLOAT_CONVOLUTIONS = Diagnostic(
    "convolutions read their int8 weights as floats: only products are quantized as they run",
    "onnxruntime",
    "take static_wi8_ai8 for integer convolutions",
)

_ABORTS = Diagnostic(
    "ONNX Runtime 1.31 may abort on a quantized model with subgraphs",
    "onnxruntime",
    'open the session with disabled_optimizers=["QDQPropagationTransformer"]',
)


class _OrtRunner(Runner):
    """An ONNX artifact in ONNX Runtime, with all its optimisations."""

    def __init__(self, artifact: Artifact) -> None:
        from edgec.evaluate import OnnxSession, ort_session

        super().__init__(artifact)
        weights = None if artifact.outside is None else artifact.outside.weights
        try:
            self._session = OnnxSession(ort_session(artifact.data, weights=weights))
        except ModelError as error:
            raise NumericsError(error.summary) from error

    @override
    def raw(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return self._session.run(feeds)
