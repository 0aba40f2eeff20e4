"""What instructions load, against encodings from the Armv7-M manual."""

from __future__ import annotations

import struct

import pytest

from edgec.targets.microcontroller.emulation.thumb import Block, decode


@pytest.mark.parametrize(
    ("halves", "words"),
    [
        ([0x4801], 1),  # ldr r0, [pc, #4]
        ([0x5888], 1),  # ldr r0, [r1, r2]
        ([0x5088], 0),  # str r0, [r1, r2]
        ([0x5288], 0),  # strh r0, [r1, r2]
        ([0x5488], 0),  # strb r0, [r1, r2]
        ([0x5688], 1),  # ldrsb r0, [r1, r2]
        ([0x5C88], 1),  # ldrb r0, [r1, r2]
        ([0x6808], 1),  # ldr r0, [r1]
        ([0x6008], 0),  # str r0, [r1]
        ([0x7808], 1),  # ldrb r0, [r1]
        ([0x7008], 0),  # strb r0, [r1]
        ([0x8808], 1),  # ldrh r0, [r1]
        ([0x8008], 0),  # strh r0, [r1]
        ([0x9801], 1),  # ldr r0, [sp, #4]
        ([0x9001], 0),  # str r0, [sp, #4]
        ([0xBDF0], 5),  # pop {r4-r7, pc}
        ([0xB5F0], 0),  # push {r4-r7, lr}
        ([0xC90F], 4),  # ldm r1, {r0-r3}
        ([0xC10F], 0),  # stm r1!, {r0, r2, r3}
        ([0x1888], 0),  # adds r0, r1, r2
        ([0xBF00], 0),  # nop
        ([0xE7FE], 0),  # b .
        ([0xE8B1, 0x00FC], 6),  # ldmia.w r1!, {r2-r7}
        ([0xE8BD, 0x8FF0], 9),  # pop.w {r4-r11, pc}
        ([0xE8A1, 0x00FC], 0),  # stmia.w r1!, {r2-r7}
        ([0xE9D1, 0x2300], 2),  # ldrd r2, r3, [r1]
        ([0xE8F1, 0x2302], 2),  # ldrd r2, r3, [r1], #8
        ([0xE9C1, 0x2300], 0),  # strd r2, r3, [r1]
        ([0xE8D0, 0xF001], 1),  # tbb [r0, r1]
        ([0xE851, 0x0F00], 1),  # ldrex r0, [r1]
        ([0xF8D1, 0x0800], 1),  # ldr.w r0, [r1, #2048]
        ([0xF8C1, 0x0800], 0),  # str.w r0, [r1, #2048]
        ([0xF851, 0x0B04], 1),  # ldr r0, [r1], #4
        ([0xF991, 0x0000], 1),  # ldrsb.w r0, [r1]
        ([0xF801, 0x0B01], 0),  # strb r0, [r1], #1
        ([0xF85D, 0xFB04], 1),  # pop.w {pc}
        ([0xF891, 0xF000], 0),  # pld [r1]
        ([0xED90, 0x0A01], 1),  # vldr s0, [r0, #4]
        ([0xED90, 0x0B01], 2),  # vldr d0, [r0, #4]
        ([0xED80, 0x0A01], 0),  # vstr s0, [r0, #4]
        ([0xECBD, 0x8A04], 4),  # vpop {s16-s19}
        ([0xECBD, 0x8B04], 4),  # vpop {d8, d9}
        ([0xEC51, 0x0B10], 0),  # vmov r0, r1, d0
        ([0xFB20, 0x1302], 0),  # smlad
        ([0xF000, 0xF800], 0),  # bl
    ],
)
def test_loaded_words(halves: list[int], words: int) -> None:
    code = struct.pack(f"<{len(halves)}H", *halves)

    assert decode(code) == Block(1, words)
    assert decode(code * 3) == Block(3, 3 * words)
