"""What a CPU wants its integers to be, from what it says of itself."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from edgec.errors import OptionError
from edgec.ir import DType
from edgec.passes import Scheme
from edgec.targets.onnxruntime.devices import DEVICES, device_named, this_device

X86 = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu sse2 {} avx2\n\nprocessor\t: 1\n"
)


FLOATING = DEVICES[0].scheme.floating


@pytest.fixture(autouse=True)
def on_x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def cpuinfo(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    return path


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni"])
def test_vnni_takes_all_of_int8(flag: str, tmp_path: Path) -> None:
    device = this_device(cpuinfo(tmp_path, X86.format(flag)))

    assert device.name == "x86-64-vnni"
    assert device.scheme == Scheme(DType.UINT8, 127, FLOATING, prescribes=False)


@pytest.mark.parametrize("flag", ["", "avx512f", "avx_vnni_int8", "xavx512_vnni"])
def test_without_vnni_weights_have_7_bits(flag: str, tmp_path: Path) -> None:
    device = this_device(cpuinfo(tmp_path, X86.format(flag)))

    assert device.name == "x86-64"
    assert device.scheme == Scheme(DType.UINT8, 63, FLOATING, prescribes=False)


def test_flags_that_cannot_be_read_count_as_none(tmp_path: Path) -> None:
    assert this_device(tmp_path / "missing").name == "x86-64"
    assert this_device(cpuinfo(tmp_path, "")).name == "x86-64"
    assert this_device(tmp_path).name == "x86-64"  # a folder


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "ARM64"])
def test_arm_takes_signed_activations(machine: str, monkeypatch: pytest.MonkeyPatch,
                                      tmp_path: Path) -> None:  # fmt: skip
    monkeypatch.setattr(platform, "machine", lambda: machine)

    device = this_device(cpuinfo(tmp_path, X86.format("avx_vnni")))

    assert device.name == "arm64"
    assert device.scheme == Scheme(DType.INT8, 127, FLOATING, prescribes=False)


@pytest.mark.parametrize("device", DEVICES, ids=lambda d: d.name)
def test_every_device_has_a_name(device: object) -> None:
    assert device_named(getattr(device, "name", None)) is device


@pytest.mark.parametrize("name", [None, "auto"])
def test_auto_is_this_machine(name: str | None) -> None:
    assert device_named(name) == this_device()


def test_an_unknown_device_is_refused_with_the_known_ones() -> None:
    with pytest.raises(OptionError) as caught:
        device_named("cortex-m4")

    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        "there is no device 'cortex-m4'; known are auto, x86-64-vnni, x86-64, arm64"
    )
