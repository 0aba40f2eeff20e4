"""Which kernel computes each layer."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from edgec.errors import Diagnostic, UnsupportedError
from edgec.program import Layer, Program
from edgec.targets.microcontroller.bands import Bands, bands_code
from edgec.targets.microcontroller.cores import Core, Tier
from edgec.targets.microcontroller.kernels import KERNELS, Code

__all__ = ["Choosing"]


class Choosing:
    """Chooses kernels, and remembers what they gave.

    Parameters
    ----------
    tier
        The best kernels that may be used; ``None`` for the best of the core.

    Raises
    ------
    UnsupportedError
        If the core does not run that tier.
    """

    def __init__(self, core: Core, tier: Tier | None) -> None:
        tiers: Sequence[Tier] = core.tiers
        if tier is not None:
            if tier not in tiers:
                raise UnsupportedError(f"{core.name} does not run {tier} kernels")
            tiers = tiers[tiers.index(tier) :]
        self._core, self._tiers = core, tiers
        self._known: dict[Hashable, tuple[Layer, tuple[Code, Tier] | None]] = {}

    def all(self, program: Program) -> list[tuple[Code, Tier]]:
        """Return the code of every layer.

        Raises
        ------
        UnsupportedError
            With every layer that there is none for.
        """
        found: list[tuple[Code, Tier]] = []
        missing: list[Diagnostic] = []
        for layer in program.layers():
            try:
                code = self.code(layer)
            except (ValueError, OverflowError) as error:
                missing.append(
                    Diagnostic(f"{layer.op.code} cannot be computed: {error}.", layer.name)
                )
                continue
            if code is not None:
                found.append(code)
                continue
            tensors = (*(t for t in layer.inputs if t is not None), *layer.outputs)
            types = ", ".join(t.dtype.value for t in tensors)
            missing.append(
                Diagnostic(f"There is no kernel for {layer.op.code} of {types}.", layer.name)
            )
        if missing:
            summary = "Some layers cannot be computed on microcontrollers"
            raise UnsupportedError(summary, missing)
        return found

    def code(self, layer: Layer) -> tuple[Code, Tier] | None:
        """Return the code of the first kernel that has some."""
        # Tensors compare without their contents, which stay the same object for a constant.
        contents = tuple(None if t is None else id(t.data) for t in layer.inputs)
        key = (layer, contents, *_inside(layer))
        if key not in self._known:
            self._known[key] = layer, self._first(layer)
        return self._known[key][1]

    def _first(self, layer: Layer) -> tuple[Code, Tier] | None:
        if isinstance(layer.op, Bands):
            return bands_code(layer, self.code)
        for tier in self._tiers:
            for kernel in KERNELS.get(tier, ()):
                code = kernel(layer, self._core)
                if code is not None:
                    return code, tier
        return None


def _inside(layer: Layer) -> tuple[int, ...]:
    """Return what tells the constants of layers in bands apart."""
    if not isinstance(layer.op, Bands):
        return ()
    return tuple(id(t.data) for inner in layer.op.layers for t in inner.inputs if t is not None)
