"""A generated model on an emulated core: feed it, run it, read what it says, count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from edgec.errors import InternalError, OptionError, UnsupportedError
from edgec.ir import Array
from edgec.program import Program
from edgec.targets.microcontroller.cores import Core
from edgec.targets.microcontroller.emulation.emulated_board import EmulatedBoard, require_qemu
from edgec.targets.microcontroller.emulation.machine import Counts, Machine, require_emulator
from edgec.targets.microcontroller.emulation.startup import STACK_BYTES, Memory
from edgec.targets.microcontroller.emulation.toolchain import Build, Compiler
from edgec.targets.microcontroller.files import Place
from edgec.targets.microcontroller.generate import Generated

__all__ = ["EmulatedModel", "build_model", "emulated", "memory_for", "require_emulation"]

_GARBAGE = b"\x5a"


def require_emulation(core: Core) -> None:
    """Raise ``OptionError``, with what is missing, if programs for a core cannot run here."""
    if core.emulator or core.qemu is None:
        require_emulator(core)
    else:
        require_qemu(core)


def memory_for(core: Core) -> Memory:
    """Return the memory of what emulates a core: as much as any board has, or that of one."""
    if core.emulator or core.qemu is None:
        return Memory()
    return Memory(core.qemu.flash, core.qemu.ram)


def emulated(build: Build, core: Core, *, seconds: float = 120.0) -> Machine | EmulatedBoard:
    """Start a program that was linked for :func:`memory_for` its core."""
    if core.emulator or core.qemu is None:
        return Machine(build.image, core, seconds=seconds)
    return EmulatedBoard(build.image, build.elf, core, seconds=seconds)


def build_model(
    generated: Generated, core: Core, compiler: Compiler, *, level: str = "-O2"
) -> Build:
    """Compile a generated model for a core.

    Raises
    ------
    UnsupportedError
        If it needs more memory than the emulated processor has.
    InternalError
        If the compiler refuses it, or warns.
    """
    memory = memory_for(core)
    _require_room(generated, memory)
    names = ["run", "input", "output"]
    build = compiler.build(
        generated.files,
        core,
        keep=[f"{generated.prefix}_{n}" for n in names],
        level=level,
        memory=memory,
    )
    if build.warnings:
        said = build.warnings.splitlines()[0]
        raise InternalError(
            f"{build.compiler} warns about the generated code: {said}",
            dump={name: text.encode() for name, text in generated.files.items()},
        )
    return build


def _require_room(generated: Generated, memory: Memory) -> None:
    """Raise where the linker would refuse, before anything is compiled."""
    arena = generated.arena.plan.size
    most = memory.ram.size - STACK_BYTES
    if arena > most:
        raise UnsupportedError(
            f"{generated.prefix} cannot be emulated: its tensors take {arena} bytes of RAM "
            f"at once, and the emulator has {most} for them"
        )
    constants = sum(sum(layer.flash.values()) for layer in generated.layers)
    if constants > memory.flash.size:
        raise UnsupportedError(
            f"{generated.prefix} cannot be emulated: its constants take {constants} bytes of "
            f"flash, and the emulator has {memory.flash.size} for them and the code"
        )


class EmulatedModel:
    """Runs one model; what it keeps from run to run starts as it does on a board.

    Parameters
    ----------
    seconds
        How long one run may take on this machine.
    """

    def __init__(
        self, generated: Generated, build: Build, core: Core, *, seconds: float = 120.0
    ) -> None:
        self.generated = generated
        self._prefix = generated.prefix
        self._machine = emulated(build, core, seconds=seconds)
        self._arena = build.image.symbol(f"{self._prefix}_arena")
        self._keeps = f"{self._prefix}_reset" in build.image.symbols
        if not self._keeps:  # what is read before it is written shows, from the first run on
            self._machine.write(self._arena.address, _GARBAGE * self._arena.size)
        self._inputs = self._addresses("input", generated.inputs)
        self._outputs = self._addresses("output", generated.outputs)

    def _addresses(self, what: str, places: Sequence[Place]) -> list[int]:
        """Ask the program itself where its inputs or outputs lie."""
        found = [self._machine.call(f"{self._prefix}_{what}", k) for k in range(len(places))]
        planned = [self._arena.address + place.offset for place in places]
        if found != planned:
            raise InternalError(f"The {what}s of {self._prefix} do not lie where they should.")
        return found

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Return the outputs for one set of inputs, without counting."""
        self._feed(inputs)
        self._machine.call(f"{self._prefix}_run")
        return self._results()

    def run_poisoned(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Return the outputs of a run before each layer of which all that is dead is destroyed.

        They differ from those of :meth:`run` if a layer reads what the plan of the memory does
        not keep for it.
        """
        if self._keeps:
            raise OptionError(f"{self._prefix} keeps a state, which would be destroyed too.")
        self._feed(inputs)
        there = set(self._functions())
        layers = enumerate(self.generated.layers)
        before = {
            layer.symbol: self._poison(step) for step, layer in layers if layer.symbol in there
        }
        self._machine.call(f"{self._prefix}_run", before=before)
        return self._results()

    def run_layers(self, inputs: Sequence[Array], program: Program) -> dict[int, Array]:
        """Return what every layer wrote, by the number of the tensor in the program.

        Each is read before the next layer begins, whatever becomes of its place then. Layers
        that are views write nothing.
        """
        self._feed(inputs)
        there = set(self._functions())
        steps = [k for k, each in enumerate(self.generated.layers) if each.symbol in there]
        found: dict[int, Array] = {}

        def reading(step: int) -> Callable[[], None]:
            return lambda: found.update(self._written(program, step))

        before = {
            self.generated.layers[following].symbol: reading(step)
            for step, following in pairwise(steps)
        }
        self._machine.call(f"{self._prefix}_run", before=before)
        found.update(self._written(program, steps[-1]) if steps else {})
        return found

    def _written(self, program: Program, step: int) -> dict[int, Array]:
        found: dict[int, Array] = {}
        for number in program.steps[step].outputs:
            tensor, offset = program.tensors[number], self.generated.arena.places[number]
            contents = self._machine.read(self._arena.address + offset, tensor.size_bytes)
            found[number] = np.frombuffer(contents, tensor.dtype.numpy).reshape(tensor.shape)
        return found

    def _poison(self, step: int) -> Callable[[], None]:
        dead = np.ones(self._arena.size, np.bool_)
        plan = self.generated.arena.plan
        for buffer in self.generated.arena.buffers:
            if buffer.first < step <= buffer.last:
                at = plan.offsets[buffer.name]
                dead[at : at + buffer.size] = False
        for place in self.generated.inputs if step == 0 else ():
            dead[place.offset : place.offset + place.tensor.size_bytes] = False

        def destroy() -> None:
            contents = self._machine.read(self._arena.address, self._arena.size)
            arena = np.frombuffer(contents, np.uint8).copy()
            arena[dead] = (0x5A + step) % 256  # another byte each time
            self._machine.write(self._arena.address, arena.tobytes())

        return destroy

    def count(self, inputs: Sequence[Array]) -> tuple[tuple[Array, ...], Counts]:
        """Return the outputs, and what was executed from when the input lay ready."""
        self._feed(inputs)
        counts = self._machine.count(f"{self._prefix}_run", self._functions())
        return self._results(), counts

    def _functions(self) -> list[str]:
        """Return the functions of layers: a compiler leaves out those that change nothing."""
        symbols = self._machine.image.symbols
        return [layer.symbol for layer in self.generated.layers if layer.symbol in symbols]

    def _feed(self, inputs: Sequence[Array]) -> None:
        places = self.generated.inputs
        if len(inputs) != len(places):
            raise OptionError(f"The model has {len(places)} inputs, not {len(inputs)}.")
        for address, place, given in zip(self._inputs, places, inputs, strict=True):
            tensor = place.tensor
            array = np.asarray(given)
            if array.dtype != tensor.dtype.numpy or array.size != tensor.size:
                raise OptionError(
                    f"{tensor.name} takes {tensor.size} numbers of {tensor.dtype.numpy}, "
                    f"not {array.size} of {array.dtype}."
                )
            self._machine.write(address, np.ascontiguousarray(array).tobytes())

    def _results(self) -> tuple[Array, ...]:
        found = []
        for address, place in zip(self._outputs, self.generated.outputs, strict=True):
            contents = self._machine.read(address, place.tensor.size_bytes)
            flat = np.frombuffer(contents, place.tensor.dtype.numpy)
            found.append(flat.reshape(place.tensor.shape))
        return tuple(found)
