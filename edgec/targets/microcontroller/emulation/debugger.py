"""The remote protocol of GDB: memory, registers and breakpoints of a program in an emulator.

References
----------
GDB's manual, appendix E, "GDB Remote Serial Protocol".
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from edgec.errors import NumericsError

__all__ = ["Debugger"]

_CHUNK = 1536
"""Bytes of memory in a packet: two digits each, in packets of 4,096 bytes."""

_STATUS = 25
"""The number of the program status register."""


_SECONDS = 60.0
"""How long an answer of a program that stands still may take, on however busy a machine."""


class _SilentError(NumericsError):
    """Nothing came in time."""


@contextmanager
def _told() -> Iterator[None]:
    """Say what it means that a connection fails."""
    try:
        yield
    except TimeoutError as error:
        raise _SilentError("the emulator does not answer") from error
    except OSError as error:
        raise NumericsError("the emulator has ended") from error


class Debugger:
    """A program that stands still, or runs until a breakpoint.

    Parameters
    ----------
    connection
        To a stub for a processor with 32-bit registers, little-endian.

    Raises
    ------
    NumericsError
        If the stub has ended, or does not answer; from every method.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(_SECONDS)
        self._pending = b""
        # The stub gives single registers to those only who asked what there is.
        self._ask("qXfer:features:read:target.xml:0,fff")

    # ---- packets

    def _ask(self, question: str) -> str:
        self._send(question)
        return self._answer()

    def _send(self, text: str) -> None:
        packet = text.encode("ascii")
        self._put(b"$%s#%02x" % (packet, sum(packet) % 256))

    def _put(self, contents: bytes) -> None:
        with _told():
            self._connection.sendall(contents)

    def _answer(self) -> str:
        while self._byte() != b"$":
            pass  # an acknowledgement
        found = b""
        while (byte := self._byte()) != b"#":
            found += byte
        self._byte()
        self._byte()
        self._put(b"+")
        return found.decode("latin-1")

    def _byte(self) -> bytes:
        if not self._pending:
            with _told():
                self._pending = self._connection.recv(1 << 16)
            if not self._pending:
                raise NumericsError("the emulator has ended")
        byte, self._pending = self._pending[:1], self._pending[1:]
        return byte

    def _order(self, text: str) -> None:
        said = self._ask(text)
        if said != "OK":
            raise NumericsError(f"the emulator refuses {text.split(',')[0]!r}: {said or 'no'}")

    # ---- the program

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of the memory, or registers of devices."""
        found = b""
        while len(found) < size:
            part = min(_CHUNK, size - len(found))
            said = self._ask(f"m{address + len(found):x},{part:x}")
            if len(said) != 2 * part:
                raise NumericsError(f"the emulator has no memory at {address + len(found):#x}")
            found += bytes.fromhex(said)
        return found

    def write(self, address: int, contents: bytes) -> None:
        """Put bytes into the memory."""
        for start in range(0, len(contents), _CHUNK):
            part = contents[start : start + _CHUNK]
            self._order(f"M{address + start:x},{len(part):x}:{part.hex()}")

    def register(self, number: int) -> int:
        """Return one of r0 to r15."""
        return int.from_bytes(bytes.fromhex(self._ask(f"p{number:x}")), "little")

    def set_register(self, number: int, value: int) -> None:
        """Set one of r0 to r15."""
        self._order(f"P{number:x}={(value & 0xFFFFFFFF).to_bytes(4, 'little').hex()}")

    @property
    def exception(self) -> int:
        """The number of the exception that the processor handles; 0 if none."""
        return self.register(_STATUS) & 0x1FF

    def stop_at(self, address: int) -> None:
        """Set a breakpoint."""
        self._order(f"Z0,{address:x},2")

    def pass_by(self, address: int) -> None:
        """Remove a breakpoint."""
        self._order(f"z0,{address:x},2")

    def proceed(self, seconds: float) -> bool:
        """Run until a breakpoint; return whether one was reached in time."""
        self._send("c")
        self._connection.settimeout(seconds)
        try:
            self._answer()
        except _SilentError:
            self._connection.settimeout(_SECONDS)
            self._put(b"\x03")
            self._answer()
            return False
        finally:
            self._connection.settimeout(_SECONDS)
        return True
