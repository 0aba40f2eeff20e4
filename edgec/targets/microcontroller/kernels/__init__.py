"""How layers are computed: portable C99, and faster forms for cores that have them."""

from collections.abc import Mapping
from types import MappingProxyType

from edgec.targets.microcontroller.cores import Tier
from edgec.targets.microcontroller.kernels import dsp, mve, portable
from edgec.targets.microcontroller.kernels.base import Code, Function, Kernel, Kind, Table

__all__ = ["KERNELS", "Code", "Function", "Kernel", "Kind", "Table"]

KERNELS: Mapping[Tier, tuple[Kernel, ...]] = MappingProxyType(
    {"mve": mve.KERNELS, "dsp": dsp.KERNELS, "portable": portable.KERNELS}
)
"""By tier, as they are tried."""
