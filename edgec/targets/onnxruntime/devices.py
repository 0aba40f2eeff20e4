"""CPUs that ONNX Runtime runs on, and how each wants its integers."""

from __future__ import annotations

import platform
from pathlib import Path

from edgec.errors import OptionError
from edgec.ir import DType
from edgec.ops import (
    ConvTranspose,
    Elu,
    Gelu,
    GlobalMaxPool,
    HardSigmoid,
    HardSwish,
    Max,
    Min,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceSum,
    Resize,
    Sub,
    Swish,
    Tanh,
    Where,
)
from edgec.passes import Scheme
from edgec.targets.device import Device, names_of

__all__ = ["DEVICES", "Device", "device_named", "this_device"]

# Probed on ONNX Runtime 1.31: pairs around these are not fused into integer kernels.
_FLOATING = (
    *(ConvTranspose, Elu, Gelu, GlobalMaxPool, HardSigmoid, HardSwish, Max, Min),
    *(ReduceMax, ReduceMean, ReduceMin, ReduceSum, Resize, Sub, Swish, Tanh, Where),
)


DEVICES: tuple[Device, ...] = (
    Device(
        "x86-64-vnni",
        Scheme(DType.UINT8, 127, _FLOATING, prescribes=False),
        "VNNI multiplies unsigned activations with signed weights; signed ones are 15x slower",
    ),
    Device(
        "x86-64",
        Scheme(DType.UINT8, 63, _FLOATING, prescribes=False),
        "without VNNI, pairs of products are added in 16 bits and saturate; 7-bit weights fit",
    ),
    Device(
        "arm64",
        Scheme(DType.INT8, 127, _FLOATING, prescribes=False),
        "dot product instructions take signed operands",
    ),
)


def device_named(name: str | None) -> Device:
    """Return a device by its name, or this machine for ``None`` and "auto"."""
    if name in (None, "auto"):
        return this_device()
    for device in DEVICES:
        if device.name == name:
            return device
    raise OptionError(f"there is no device {name!r}; known are {names_of(DEVICES)}")


def this_device(cpuinfo: Path = Path("/proc/cpuinfo")) -> Device:
    """Return the description of the CPU of this machine.

    Where the flags of an x86 CPU cannot be read, VNNI is assumed missing: its results are
    right everywhere, the other way round they are not.
    """
    if platform.machine().lower() in ("arm64", "aarch64"):
        return DEVICES[2]
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return DEVICES[1]
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    flags = line.partition(":")[2].split()
    return DEVICES[0] if {"avx512_vnni", "avx_vnni"}.intersection(flags) else DEVICES[1]
