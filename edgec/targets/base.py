"""What a target is, and what it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgec.contents import Contents
from edgec.errors import Diagnostic, UnsupportedError
from edgec.export import Outside
from edgec.ir import Array, ContainerType, DType, Graph, Op, QuantParams, Value
from edgec.ops import quantize_array
from edgec.passes import Pass, PassRecord, Precision, Recipe, Scheme

__all__ = ["Artifact", "Port", "Runner", "Target"]


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of an artifact, and how it differs from the model's.

    Parameters
    ----------
    name
        As in the model.
    perm
        Axis ``i`` of the artifact's tensor is axis ``perm[i]`` of the model's.
    params
        How real numbers are stored; ``None`` where they are stored as they are.
    container
        The whole type where the value is no tensor, such as a sequence.
    """

    name: str
    dtype: DType
    shape: tuple[int | str, ...]
    perm: tuple[int, ...]
    params: QuantParams | None = None
    container: str | None = None

    @classmethod
    def like(cls, value: Value) -> Port:
        """Return the port that is just as in the model."""
        dims = value.type.dims or ()
        whole = str(value.type) if isinstance(value.type, ContainerType) else None
        return cls(value.name, value.type.dtype, dims, tuple(range(len(dims))), None, whole)

    def encode(self, array: Array) -> Array:
        """Return what to feed for an array of the model's input."""
        if self.perm != tuple(range(len(self.perm))):
            array = np.ascontiguousarray(array.transpose(self.perm))
        if self.params is not None:
            array = quantize_array(array, self.params, self.dtype)
        elif self.container is None and self.dtype is DType.FLOAT32:
            # The model's own may be another float.
            array = array.astype(np.float32, copy=False)
        return array

    def decode(self, array: Array) -> Array:
        """Return the model's output for what came out."""
        if self.params is not None:
            zero, scale = self.params.zero_point[0], self.params.scale[0]
            array = ((array.astype(np.int32) - zero) * np.float32(scale)).astype(np.float32)
        if self.perm != tuple(range(len(self.perm))):
            array = array.transpose(np.argsort(self.perm))
        return array


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file that a target made, and one beside it; nothing is written to disk here.

    Parameters
    ----------
    suffix
        Of the file, with the dot.
    operators
        How often each operator of the runtime occurs.
    notes
        What the user should know about this artifact.
    layers
        Pairs of each operator of the runtime and the user's layer it is for, in their order;
        empty where the file itself tells.
    outside
        What the file needs beside it; ``None`` where it holds everything.
    records
        What was done to the file itself, after all passes on the graph.
    """

    data: bytes
    suffix: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: Mapping[str, int]
    notes: tuple[Diagnostic, ...] = ()
    layers: tuple[tuple[str, str], ...] = ()
    outside: Outside | None = None
    records: tuple[PassRecord, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of both files."""
        return len(self.data) + (self.outside.contents.size if self.outside else 0)

    def inside(self, stem: str) -> dict[str, bytes]:
        """Return the artifact itself, by name of the file; the first is the one to name."""
        return {f"{stem}{self.suffix}": self.data}

    def files(self, stem: str) -> dict[str, Contents]:
        """Return the contents of all files by name."""
        found: dict[str, Contents] = {**self.inside(stem)}
        if self.outside is not None:
            found[self.outside.file] = self.outside.contents
        return found


class Runner(ABC):
    """An artifact loaded into its runtime."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    @abstractmethod
    def raw(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once on tensors as the artifact stores them, by name."""

    def encode(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the model's inputs as the artifact stores them."""
        return {port.name: port.encode(feeds[port.name]) for port in self.artifact.inputs}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Return the model's outputs for the model's inputs, whatever the artifact stores."""
        results = self.raw(self.encode(feeds))
        return {port.name: port.decode(results[port.name]) for port in self.artifact.outputs}


class Target(ABC):
    """A runtime that edgec compiles for.

    Subclasses are frozen dataclasses whose fields are the target's options.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    recipe: Recipe

    @abstractmethod
    def scheme(self) -> Scheme:
        """How this target wants integers."""

    @property
    def runs_here(self) -> bool:
        """Whether this machine is what the target compiles for, as far as kernels go."""
        return True

    @property
    def is_emulated(self) -> bool:
        """Whether artifacts run in an emulator, which takes seconds to prepare."""
        return False

    @property
    def channel_multiple(self) -> int:
        """Channels that kernels compute at a time: a layer with fewer takes as long."""
        return 8

    def for_floats(self) -> Target:
        """Return the target with options that a model in float32 can have."""
        return self

    def named(self, stem: str) -> Target:
        """Return the target for a model, whose name may be in what is emitted."""
        del stem
        return self

    def precisions(self, op: Op | None = None) -> Mapping[Precision, float]:
        """What single layers may compute in, and how long that takes beside 8 bits.

        Of one operator, or of most. A prediction, to rank choices by: on CPUs floats take two
        to four times as long.
        """
        del op
        return {"int4": 1.0, "int8": 1.0, "float16": 3.0, "float32": 3.0}

    def settings(self) -> dict[str, str]:
        """What the artifact depends on beside the model, for the report."""
        return {}

    def prepare(self) -> tuple[Pass, ...]:
        """Rewrites of the float graph, before calibration."""
        return ()

    def finish(self) -> tuple[Pass, ...]:
        """Rewrites of the graph that `emit` gets, quantized or not."""
        return ()

    @abstractmethod
    def check(self, graph: Graph) -> tuple[Diagnostic, ...]:
        """Everything in `graph` that this target cannot express."""

    @abstractmethod
    def emit(self, graph: Graph) -> Artifact:
        """Serialise a graph that `check` found nothing in; equal graphs give equal bytes."""

    @abstractmethod
    def load(self, artifact: Artifact) -> Runner:
        """Load an artifact into its runtime on this machine, on one thread.

        Raises
        ------
        NumericsError
            If the runtime refuses it.
        """

    def measured(
        self, artifact: Artifact, samples: Iterable[Mapping[str, Array]]
    ) -> Mapping[str, Any] | None:
        """Return what an artifact takes on its device, as JSON, where that can be counted.

        Parameters
        ----------
        samples
            Of the model's inputs; as many are run as that needs.
        """
        del artifact, samples
        return None

    def delivered(self, runner: Runner, feeds: Mapping[str, Array]) -> Artifact:
        """Return an artifact that was proven, with what the user wants beside it.

        Parameters
        ----------
        feeds
            One sample of the model's inputs.
        """
        del feeds
        return runner.artifact

    def over_budget(self, measured: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
        """Return which limits of the user's an artifact breaks, given what it takes."""
        del measured
        return ()

    def left_out(self, artifact: Artifact) -> tuple[Diagnostic, ...]:
        """What of an artifact the device it is made for does not run itself."""
        return ()

    def compile(self, graph: Graph) -> Artifact:
        """Check, then emit.

        Raises
        ------
        UnsupportedError
            With everything that this target cannot express.
        """
        if problems := self.check(graph):
            raise UnsupportedError(f"{self.name} cannot express this model", problems)
        return self.emit(graph)
