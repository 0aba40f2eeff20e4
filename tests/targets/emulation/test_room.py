"""Models that are larger than the emulated processor."""

from __future__ import annotations

import pytest

pytest.importorskip("ziglang", reason="of the extra mcu")
pytest.importorskip("unicorn", reason="of the extra mcu")
pytest.importorskip("elftools", reason="of the extra mcu")

from edgec.errors import UnsupportedError
from edgec.program.reading import parse_program
from edgec.targets.microcontroller.cores import load_core
from edgec.targets.microcontroller.datafiles import Region
from edgec.targets.microcontroller.emulation import model
from edgec.targets.microcontroller.emulation.measure import measure
from edgec.targets.microcontroller.emulation.startup import RAM, Memory
from tests.program.files import Sketch

M4 = load_core("cortex-m4")


def test_tensors_that_the_emulator_has_no_room_for_are_told_with_their_size() -> None:
    s = Sketch()
    x, y = s.input(1, 1 << 24), s.value(1, 1 << 24)
    s.op("LEAKY_RELU", [x], [y], "LeakyRelu", {"alpha": 0.5})
    data = s.data(y)

    with pytest.raises(UnsupportedError, match=r"tensors take 16777216 bytes .* has 16711680"):
        measure(parse_program(data, "large"), data, M4, verify=False)


def test_constants_that_the_emulator_has_no_room_for_are_told_with_their_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model, "memory_for", lambda core: Memory(Region(0, 4000), RAM))
    s = Sketch()
    x, y = s.input(1, 64), s.value(1, 64)
    s.op("FULLY_CONNECTED", [x, s.weights(64, 64), s.bias(64)], [y], "FullyConnected")
    data = s.data(y)

    with pytest.raises(UnsupportedError, match=r"constants take [45]\d{3} bytes .* has 4000"):
        measure(parse_program(data, "large"), data, M4, verify=False)
