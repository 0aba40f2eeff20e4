"""C for Cortex-M: the TFLite target's integers, as code that needs no runtime."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from edgec.cost import Cost, cost
from edgec.errors import Diagnostic, NumericsError, OptionError, UnsupportedError
from edgec.ir import Array, DType, Graph, Op
from edgec.ops import Dequantize, Identity, Quantize
from edgec.passes import STATIC_INT8, Pass, PassRecord, Precision, Recipe, Scheme, SchemeWishes
from edgec.targets.base import Artifact, Runner, Target
from edgec.targets.microcontroller.cores import Core, core_names, load_core
from edgec.targets.microcontroller.forms import Form
from edgec.targets.tflite import Tflite
from edgec.targets.tflite.interface import IoDtype

if TYPE_CHECKING:
    from edgec.program import Program
    from edgec.program.passes import Change
    from edgec.targets.microcontroller.generate import Generated

__all__ = ["DEFAULT_CORE", "Budget", "Microcontroller", "Sources", "refuse_interface"]

DEFAULT_CORE = "cortex-m4"
_COMPARED = 8
"""Samples that are compared with TFLite Micro, of those that prove the artifact anyway."""

_WHOLE = "let all layers be quantized, without --keep-float; or compile without --recipe"


@dataclass(frozen=True, slots=True)
class Sources(Artifact):
    """A model as C files.

    Parameters
    ----------
    program
        What they compute.
    folder
        Texts of a whole project by path, if one was asked for.
    flatbuffer
        The ``.tflite`` file it was read from.
    changes
        What lossless passes did to it since.
    """

    program: Program = field(kw_only=True)
    flatbuffer: bytes = field(kw_only=True, repr=False)
    generated: Generated = field(kw_only=True)
    core: Core = field(kw_only=True)
    changes: tuple[Change, ...] = field(default=(), kw_only=True)
    folder: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), kw_only=True, repr=False
    )

    @property
    @override
    def size_bytes(self) -> int:
        """Bytes of constants in flash; what the code takes is known when it is compiled."""
        return sum(sum(layer.flash.values()) for layer in self.generated.layers)

    @override
    def inside(self, stem: str) -> dict[str, bytes]:
        del stem  # names in C are chosen when it is generated
        main = f"{self.generated.prefix}{self.suffix}"
        texts = self.folder or self.generated.files
        first = [name for name in texts if name.rpartition("/")[2] == main]
        return {name: texts[name].encode() for name in dict.fromkeys([*first, *texts])}


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that a model may take on its device, in bytes; ``None`` for no limit.

    Parameters
    ----------
    ram
        Arena, variables and stack.
    flash
        Constants and code.
    """

    ram: int | None = None
    flash: int | None = None

    def over(self, ram: int, flash: int, where: str) -> tuple[Diagnostic, ...]:
        """Return what does not fit, and by how much."""
        pairs = (
            ("RAM", self.ram, ram, "--max-ram"),
            ("flash", self.flash, flash, "--max-flash"),
        )
        return tuple(
            Diagnostic(
                f"takes {taken:,} bytes of {what}, {taken - most:,} more than the "
                f"{most:,} of {option}",
                where,
                "a smaller model helps: --target-ram, --target-macs or --target-size",
            )
            for what, most, taken, option in pairs
            if most is not None and taken > most
        )


def refuse_interface(io_dtype: str, io_layout: str) -> None:
    """Raise ``OptionError`` if an interface is asked for that generated code does not have."""
    given = {"--io-dtype": (io_dtype, "float32"), "--io-layout": (io_layout, "keep")}
    for option, (asked, default) in given.items():
        if asked != default:
            raise OptionError(
                f"{option} {asked} is about TFLite files: leave it out. Generated C takes and "
                "returns the integers that the recipe computes in, float32 without a recipe, "
                "and images channels last"
            )


@dataclass(frozen=True, slots=True)
class Microcontroller(Target):
    """Emits C99 for one core.

    Parameters
    ----------
    core
        What the code is for.
    recipe
        What models are quantized to, if they are.
    wishes
        What the user chose of the scheme.
    budget
        What the model may take.
    project
        The form of a folder with a self-test; C files alone if there is none.
    prefix
        Of names in C and of files; the model's name if there is none.
    """

    name: ClassVar[str] = "microcontroller"
    description: ClassVar[str] = "C99 for Cortex-M, without a runtime: firmware"
    core: Core = field(default_factory=lambda: load_core(DEFAULT_CORE))
    recipe: Recipe = STATIC_INT8
    wishes: SchemeWishes = field(default_factory=SchemeWishes)
    budget: Budget = Budget()
    project: Form | None = None
    prefix: str = ""

    @property
    def _tflite(self) -> Tflite:
        # What is constant goes from the program, where exact arithmetic proves more of it.
        # From the file it goes where that is delivered.
        drops = self.project == "tflm"
        return Tflite(recipe=self.recipe, wishes=self.wishes, drop_constants=drops)

    @override
    def named(self, stem: str) -> Microcontroller:
        return replace(self, prefix=stem)

    @override
    def scheme(self) -> Scheme:
        if not self.recipe.needs_samples:
            raise OptionError(
                f"recipe {self.recipe.name} leaves activations in float, which cores without a "
                f"large float unit compute slowly: take {STATIC_INT8.name}, or no recipe"
            )
        if self.recipe.weight_bits == 4:
            raise OptionError(
                f"recipe {self.recipe.name} stores weights in 4 bits, and the kernels for "
                f"microcontrollers take 8: take {STATIC_INT8.name}"
            )
        return self._tflite.scheme()

    def require_emulation(self) -> None:
        """Raise ``OptionError`` if the code cannot be compiled and run here."""
        from edgec.targets.microcontroller.emulation.extra import require
        from edgec.targets.microcontroller.emulation.model import require_emulation

        require("ziglang", "Compiling for microcontrollers")
        require("elftools", "Emulating microcontrollers")
        if self.core.emulator:
            require_emulation(self.core)
            return
        try:
            require_emulation(self.core)
        except OptionError as error:
            known = [name for name in core_names() if load_core(name).emulator]
            raise OptionError(
                f"code for {self.core.name} cannot be proven: {error.summary}",
                [
                    Diagnostic(
                        f"without more, emulated are {', '.join(known)}",
                        hint="--no-proof writes it unproven; a cortex-m55 runs what is made "
                        "for cortex-m33, too",
                    )
                ],
            ) from error

    @property
    @override
    def runs_here(self) -> bool:
        return False

    @property
    @override
    def is_emulated(self) -> bool:
        return True

    @property
    @override
    def channel_multiple(self) -> int:
        return 4  # kernels take four channels from a word

    @override
    def precisions(self, op: Op | None = None) -> Mapping[Precision, float]:
        return {"int8": 1.0}

    @override
    def settings(self) -> dict[str, str]:
        kernels = ", ".join(self.core.tiers)
        return {
            "device": self.core.name,
            "why": f"kernels: {kernels}",
            "scheme": str(self.scheme()),
        }

    @override
    def prepare(self) -> tuple[Pass, ...]:
        return self._tflite.prepare()

    @override
    def finish(self) -> tuple[Pass, ...]:
        return self._tflite.finish()

    @override
    def check(self, graph: Graph) -> tuple[Diagnostic, ...]:
        return self._tflite.check(graph)

    @override
    def emit(self, graph: Graph) -> Artifact:
        from edgec.program.reading import parse_program
        from edgec.targets.microcontroller.generate import Options, generate

        if self._io_dtype(graph) != "float32" and (problems := tuple(_floats(graph))):
            raise UnsupportedError(
                "generated C of a quantized model takes and returns integers", problems
            )
        made = replace(self._tflite, io_dtype=self._io_dtype(graph), io_layout="nhwc").emit(
            graph
        )
        name = self.prefix or graph.name
        program = parse_program(made.data, name, "what was made of the model")
        price = made.records[-1].after if made.records else cost(graph)
        program, changes, records = _without_waste(program, price)
        generated = generate(program, self.core, options=Options(name, max_ram=self.budget.ram))
        main = generated.files[f"{generated.prefix}.c"]
        return Sources(
            main.encode(),
            ".c",
            made.inputs,
            made.outputs,
            made.operators,
            (*made.notes, *generated.notes),
            made.layers,
            records=(*made.records, *records),
            program=program,
            flatbuffer=made.data,
            generated=generated,
            core=self.core,
            changes=changes,
        )

    def _io_dtype(self, graph: Graph) -> IoDtype:
        """Return what inputs and outputs are: nothing is converted on the device."""
        if not any(isinstance(node.op, Quantize) for node in graph.nodes):
            return "float32"
        return "int16" if self.recipe.activations == "int16" else "int8"

    @override
    def load(self, artifact: Artifact) -> Runner:
        return _Emulated(artifact)

    @override
    def measured(
        self, artifact: Artifact, samples: Iterable[Mapping[str, Array]]
    ) -> Mapping[str, Any]:
        from edgec.targets.microcontroller.emulation.measure import measure

        assert isinstance(artifact, Sources)
        stored = (
            [port.encode(feeds[port.name]) for port in artifact.inputs] for feeds in samples
        )
        found = measure(
            artifact.program,
            artifact.flatbuffer,
            self.core,
            samples=_distinct(stored, _COMPARED),
            changes=artifact.changes,
            generated=artifact.generated,
        )
        return found.to_dict()

    @override
    def delivered(self, runner: Runner, feeds: Mapping[str, Array]) -> Artifact:
        from edgec.targets.microcontroller.emulation.selftest import run_selftest
        from edgec.targets.microcontroller.emulation.toolchain import compiler
        from edgec.targets.microcontroller.projects import project
        from edgec.targets.microcontroller.selftest import Golden
        from edgec.targets.microcontroller.tflm import package_for_tflm

        artifact = runner.artifact
        if self.project is None:
            return artifact
        assert isinstance(artifact, Sources)
        stored = runner.encode(feeds)
        results = runner.raw(stored)
        golden = Golden(
            tuple(stored[port.name] for port in artifact.inputs),
            tuple(results[port.name] for port in artifact.outputs),
        )
        if wrong := run_selftest(artifact.generated, golden, self.core, compiler("zig")):
            raise NumericsError(
                f"the self-test of {artifact.generated.prefix} fails on {self.core.name} with "
                f"exit code {wrong}"
            )
        if self.project != "tflm":
            folder = project(artifact.generated, self.core, self.project, golden)
            return replace(artifact, folder=folder)
        packed = package_for_tflm(artifact.flatbuffer, artifact.generated.prefix)
        beside = {f"tflm/{name}": text for name, text in packed.files.items()}
        return replace(artifact, folder={**artifact.generated.files, **beside})

    @override
    def over_budget(self, measured: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
        return self.budget.over(measured["ram"]["total"], measured["flash"]["total"], self.name)


def _distinct(samples: Iterable[list[Array]], most: int) -> list[list[Array]]:
    """Return the first samples of which no two are equal."""
    found: dict[bytes, list[Array]] = {}
    for sample in samples:
        if len(found) == most:
            break
        found.setdefault(b"".join(array.tobytes() for array in sample), sample)
    return list(found.values())


def _floats(graph: Graph) -> Iterator[Diagnostic]:
    """Yield the inputs and outputs of a quantized model that have no integers."""
    for value in graph.inputs:
        readers = graph.users.get(value, ())
        if value.type.dtype is not DType.FLOAT32:
            continue
        if not readers:
            hint = "remove it from the inputs of the model"
            yield Diagnostic("is read by no layer", f"input {value.name}", hint)
        elif not all(isinstance(node.op, Quantize | Identity) for node in readers):
            yield Diagnostic("is read by a layer in float", f"input {value.name}", _WHOLE)
    for value in graph.outputs:
        maker = graph.producers.get(value)
        if value.type.dtype is not DType.FLOAT32 or isinstance(maker and maker.op, Dequantize):
            continue
        where, hint = f"output {value.name}", "remove it from the outputs of the model"
        same = maker.inputs[0] if maker and isinstance(maker.op, Identity) else value
        if same in graph.inputs:
            yield Diagnostic(f"is the input {same.name} as it came in", where, hint)
        elif graph.constant(same) is not None:
            yield Diagnostic("is the same for every input", where, hint)
        elif same != value:
            yield Diagnostic(f"is the same as {same.name}", where, hint)
        else:
            yield Diagnostic("is computed in float", where, _WHOLE)


def _without_waste(
    program: Program, price: Cost
) -> tuple[Program, tuple[Change, ...], tuple[PassRecord, ...]]:
    """Return the program without what no output needs, and what was done to each layer."""
    from edgec.program.passes import LOSSLESS
    from edgec.program.passes.ledger import ledger_line

    changes: list[Change] = []
    records: list[PassRecord] = []
    for each in LOSSLESS:
        start = time.perf_counter()
        outcome = each.run(program)
        seconds = time.perf_counter() - start
        programs = (program, outcome.program)
        records.append(ledger_line(each.name, outcome.changes, programs, price, seconds))
        program, price = outcome.program, records[-1].after
        changes += outcome.changes
    return program, tuple(changes), tuple(records)


class _Emulated(Runner):
    """Generated code on the emulated core, without counting."""

    def __init__(self, artifact: Artifact) -> None:
        from edgec.targets.microcontroller.emulation.model import EmulatedModel, build_model
        from edgec.targets.microcontroller.emulation.toolchain import compiler

        super().__init__(artifact)
        assert isinstance(artifact, Sources)
        build = build_model(artifact.generated, artifact.core, compiler("zig"))
        self._model = EmulatedModel(artifact.generated, build, artifact.core)

    @override
    def raw(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        found = self._model.run([feeds[port.name] for port in self.artifact.inputs])
        return {
            port.name: array for port, array in zip(self.artifact.outputs, found, strict=True)
        }
