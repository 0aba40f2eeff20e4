"""TFLite for LiteRT: a FlatBuffer written directly, channels-last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from typing_extensions import override

from edgec.cost import cost
from edgec.errors import Diagnostic, OptionError
from edgec.frontend.floats import in_float32
from edgec.ir import DType, Graph, Node, Op, Value, unload
from edgec.ops import DepthwiseConv, Dequantize, Opaque, Quantize
from edgec.passes import (
    STATIC_INT8,
    ComputeInFloat32,
    DecomposeBlockProducts,
    DecomposeDeterminants,
    DecomposeEinsum,
    DecomposeGemm,
    DecomposeIntegerProducts,
    DecomposeQuantization,
    DecomposeSampling,
    DecomposeTransforms,
    DequantizeMoves,
    DequantizeResizes,
    EliminateIdentities,
    ExpandFunctions,
    FlattenProducts,
    FoldConstants,
    FuseFullyConnected,
    Pass,
    PassRecord,
    Precision,
    Recipe,
    RecognizeStoredWeights,
    Scheme,
    SchemeWishes,
    UnpackWeights,
    UnrollLoops,
    UnrollRecurrent,
)
from edgec.targets.base import Artifact, Runner, Target
from edgec.targets.device import Device
from edgec.targets.tflite.constraints import CONSTRAINTS, TOLD_BY_DATA, computed_parameter
from edgec.targets.tflite.devices import XNNPACK, Npu
from edgec.targets.tflite.fit_grids import FitGrids
from edgec.targets.tflite.flatten import FlattenChannelsLast
from edgec.targets.tflite.grids import NARROW, PACKED_WEIGHTS
from edgec.targets.tflite.interface import IoDtype, IoLayout, bind_inputs, bind_outputs
from edgec.targets.tflite.kernels import LOWERINGS, lower
from edgec.targets.tflite.lower import Lowering
from edgec.targets.tflite.merge_axes import MergeAxes
from edgec.targets.tflite.model import Model, is_wide
from edgec.targets.tflite.rules import verify
from edgec.targets.tflite.signed_integers import SignedIntegers

__all__ = ["Tflite"]


@dataclass(frozen=True, slots=True)
class Tflite(Target):
    """Emits ``.tflite`` for LiteRT and its XNNPACK delegate.

    Parameters
    ----------
    io_dtype
        Element type of the inputs and outputs of a quantized model. With float32 the file
        quantizes and dequantizes itself.
    io_layout
        "keep" leaves images in the caller's order; "nhwc" takes and returns them as they are
        stored, with no transpose at all.
    recipe
        What models are quantized to, if they are.
    wishes
        What the user chose of the scheme.
    device
        What the file will run on.
    drop_constants
        Whether channels that provably never change are left out of files that compute on int8.
    """

    name: ClassVar[str] = "tflite"
    description: ClassVar[str] = "TFLite file for LiteRT with XNNPACK: phones, Raspberry Pi"
    io_dtype: IoDtype = "float32"
    io_layout: IoLayout = "keep"
    recipe: Recipe = STATIC_INT8
    wishes: SchemeWishes = field(default_factory=SchemeWishes)
    device: Device = XNNPACK
    drop_constants: bool = True

    @override
    def for_floats(self) -> Tflite:
        return replace(self, io_dtype="float32")

    @override
    def scheme(self) -> Scheme:
        if self.wishes.activation is DType.UINT8:
            raise OptionError(
                "activations of a TFLite file are int8, kernels for uint8 are no longer built: "
                "leave uint8 out of --scheme; --io-dtype uint8 makes inputs and outputs uint8"
            )
        device = self.device
        if isinstance(device, Npu) and (why := device.refuses(self.recipe)):
            raise OptionError(
                f"{device.name} cannot run recipe {self.recipe.name}: {why}; take "
                f"{STATIC_INT8.name}"
            )
        packed = PACKED_WEIGHTS if self.recipe.weight_bits == 4 else ()
        scheme = replace(device.scheme, packed=packed, narrow=NARROW)
        if self.recipe.activations == "int16":
            if self.wishes.activation is not None or self.wishes.symmetric is False:
                raise OptionError(
                    f"recipe {self.recipe.name} has symmetric activations of 16 bits: leave "
                    "int8 and asymmetric out of --scheme"
                )
            scheme = replace(scheme, activation=DType.INT16, symmetric=True)
        return self.wishes.applied(scheme)

    @property
    @override
    def runs_here(self) -> bool:
        return not isinstance(self.device, Npu)

    @override
    def precisions(self, op: Op | None = None) -> Mapping[Precision, float]:
        if isinstance(self.device, Npu):
            return {"int8": 1.0, "int16": 2.0}
        # XNNPACK has no 16 bits. LiteRT's own kernels, in release 2.3, took 2.5 to 5 times as
        # long for convolutions whose sums have 32 bits, and 50 times for depthwise ones.
        sixteen = 50.0 if isinstance(op, DepthwiseConv) else 4.0
        return {**Target.precisions(self), "int16": sixteen}

    @override
    def settings(self) -> dict[str, str]:
        return {
            "device": self.device.name,
            "why": self.device.why,
            "scheme": str(self.scheme()),
        }

    @override
    def left_out(self, artifact: Artifact) -> tuple[Diagnostic, ...]:
        if not isinstance(self.device, Npu):
            return ()
        from edgec.targets.tflite.ethos_u import left_to_cpu

        return left_to_cpu(artifact, self.device)

    @override
    def prepare(self) -> tuple[Pass, ...]:
        return (
            ExpandFunctions(),
            # After ExpandFunctions: bodies cast to and fro.
            ComputeInFloat32(),
            # After ExpandFunctions: bodies of functions may have loops. Before all others:
            # bodies of loops are simplified as they are written out.
            UnrollLoops(),
            UnpackWeights(),
            DecomposeBlockProducts(),
            # Before DecomposeQuantization, which writes out what the integers are read beside.
            DequantizeMoves(),
            DequantizeResizes(),
            DecomposeQuantization(),
            DecomposeIntegerProducts(),
            DecomposeSampling(),
            UnrollRecurrent(),
            DecomposeDeterminants(),
            DecomposeEinsum(),
            DecomposeTransforms(),
            DecomposeGemm(),
            # After what is written in terms of other operators: weights among these, products
            # with a state of zeros.
            FoldConstants(),
            # After FoldConstants: products with constant matrices are layers.
            FuseFullyConnected(),
            RecognizeStoredWeights(),
            # After RecognizeStoredWeights: these stay stored as they are.
            FlattenProducts(),
            MergeAxes(),
            # Before FlattenChannelsLast: reshapes in a row are one.
            EliminateIdentities(),
            FlattenChannelsLast(),
        )

    @override
    def finish(self) -> tuple[Pass, ...]:
        return (SignedIntegers(), FitGrids())

    @override
    def check(self, graph: Graph) -> tuple[Diagnostic, ...]:
        problems = [
            Diagnostic(
                f"is {value.type}, but a TFLite file has a fixed shape",
                f"input {value.name}",
                "give every axis a length with --shape",
            )
            for value in graph.inputs
            if not value.type.is_static
        ]
        if problems:  # every layer would say the same
            return tuple(problems)
        if isinstance(self.device, Npu) and not _is_quantized(graph):
            return (
                Diagnostic(
                    f"the model is float, and {self.device.name} {self.device.why}",
                    hint="give --recipe static_wi8_ai8 and --calibration",
                ),
            )
        graph = _with_float32_interface(graph)
        for node in graph.nodes:
            known = type(node.op) in LOWERINGS or isinstance(node.op, Quantize | Dequantize)
            if not known and TOLD_BY_DATA.found(graph, node) is None:
                problems.append(_without_form(graph, node))
                continue
            for rule in CONSTRAINTS if known else (TOLD_BY_DATA,):
                if isinstance(node.op, rule.ops) and (found := rule.found(graph, node)):
                    says = (rule.found.__doc__ or "").strip()
                    problems.append(
                        Diagnostic(
                            f"{node.op}: {says[:-1]}, but {found}", node.layer, rule.hint
                        )
                    )
                    break
        return tuple(problems)

    @override
    def emit(self, graph: Graph) -> Artifact:
        from edgec.targets.tflite.constant_channels import without_constant_channels
        from edgec.targets.tflite.schema import serialize

        model_ports = (*graph.inputs, *graph.outputs)
        graph = _with_float32_interface(graph)
        b = Lowering(graph, hybrid=self.recipe.activations == "dynamic")
        inputs = bind_inputs(b, self.io_dtype, self.io_layout)
        b.run(lower)
        outputs = bind_outputs(b, self.io_dtype, self.io_layout)
        model = b.model.without_dead()
        verify(model)
        records: tuple[PassRecord, ...] = ()
        if self.drop_constants:
            model, records = without_constant_channels(model, cost(graph))
        unload(c.array for c in graph.constants.values())
        counts = Counter(op.code for op in model.operators)
        return Artifact(
            serialize(model),
            ".tflite",
            tuple(inputs),
            tuple(outputs),
            dict(sorted(counts.items())),
            (
                *b.notes,
                *self._slow(model),
                *_changed(model_ports, (*graph.inputs, *graph.outputs)),
            ),
            tuple((op.code, op.layer) for op in model.operators),
            records=records,
        )

    def _slow(self, model: Model) -> tuple[Diagnostic, ...]:
        """Return what to expect of 16 bits, if there are some."""
        computes = (op for op in model.operators if op.code not in ("QUANTIZE", "DEQUANTIZE"))
        read = (model.tensors[i] for op in computes for i in op.inputs if i >= 0)
        if isinstance(self.device, Npu) or not any(is_wide(t) for t in read):
            return ()
        message = (
            "int16 activations run in LiteRT's own kernels, not in XNNPACK: expect it to be "
            "slower than float on phones"
        )
        return (Diagnostic(message, "tflite", "take it for accuracy, or for microcontrollers"),)

    @override
    def load(self, artifact: Artifact) -> Runner:
        from edgec.targets.tflite.run import LiteRtRunner

        return LiteRtRunner(artifact)


def _is_quantized(graph: Graph) -> bool:
    return any(isinstance(node.op, Quantize | Dequantize) for node in graph.nodes)


def _without_form(graph: Graph, node: Node) -> Diagnostic:
    kind = "untyped " if type(node.op) is Opaque else ""
    why = UnrollLoops().reason(graph, node) or UnrollRecurrent().reason(node)
    hint = "compile for onnxruntime, or replace the layer"
    if not why and (parameter := computed_parameter(graph, node)) is not None:
        why = f"{parameter} is computed, where a file needs it fixed"
        hint = "store it in the model, or fix what it is computed from with --shape"
    text = f"{kind}operator {node.op} has no TFLite form{f': {why}' if why else ''}"
    return Diagnostic(text, node.layer, hint)


def _with_float32_interface(graph: Graph) -> Graph:
    """Return a graph that takes and returns float32 for floats of other widths.

    LiteRT's kernels know no others, and nobody feeds a phone float64.
    """
    single = in_float32(graph, (DType.FLOAT16, DType.FLOAT64), interface=True)
    return graph if single is graph else EliminateIdentities().run(single)


def _changed(before: Iterable[Value], after: Iterable[Value]) -> Iterator[Diagnostic]:
    for was, now in zip(before, after, strict=True):
        if was.type.dtype is not now.type.dtype:
            name = was.type.dtype.name.lower()
            yield Diagnostic(f"is {name} in the model and float32 in the file", was.name)
