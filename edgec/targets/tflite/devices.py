"""What runs TFLite files, and how each wants its integers."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.errors import OptionError
from edgec.ir import DType
from edgec.passes import Recipe, Scheme
from edgec.targets.device import Device, names_of

__all__ = ["DEVICES", "ETHOS_U", "XNNPACK", "Npu", "device_named"]


@dataclass(frozen=True, slots=True)
class Npu(Device):
    """A processor beside the CPU that computes on integers only.

    Parameters
    ----------
    accelerator
        The configuration that its own compiler is asked for. Which operators it runs does not
        depend on its size.
    """

    accelerator: str

    def refuses(self, recipe: Recipe) -> str:
        """Return why a recipe cannot run here; empty if it can."""
        if not recipe.needs_samples:
            return "it computes on integers, and the recipe leaves activations in float"
        if recipe.weight_bits < 8:
            return f"it takes weights of 8 bits, not {recipe.weight_bits}"
        return ""


_INT8 = Scheme(DType.INT8, 127)

XNNPACK = Device("xnnpack", _INT8, "int8 kernels of XNNPACK, on CPUs of phones and boards")

_WHY = "runs operators whose data, weights and results are all quantized; the rest is the CPU's"

ETHOS_U: tuple[Npu, ...] = (
    Npu("ethos-u55", _INT8, _WHY, "ethos-u55-128"),
    Npu("ethos-u65", _INT8, _WHY, "ethos-u65-256"),
    Npu("ethos-u85", _INT8, _WHY, "ethos-u85-256"),
)

DEVICES: tuple[Device, ...] = (XNNPACK, *ETHOS_U)


def device_named(name: str) -> Device:
    """Return a device by its name, or the CPU for "auto"."""
    if name == "auto":
        return XNNPACK
    for device in DEVICES:
        if device.name == name:
            return device
    raise OptionError(f"there is no device {name!r}; known are {names_of(DEVICES)}")
