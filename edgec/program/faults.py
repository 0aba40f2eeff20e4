"""What is wrong with one layer of a program, raised where it is found."""

from __future__ import annotations

__all__ = ["Fault", "require"]


class Fault(Exception):  # noqa: N818 - it is caught and told as a diagnostic
    """Why a layer cannot be taken; becomes part of a ``ModelError`` or ``UnsupportedError``.

    Parameters
    ----------
    hint
        A way out; empty if there is none.
    valid
        Whether the layer makes sense and it is only edgec that does not take it.
    """

    def __init__(self, message: str, hint: str = "", *, valid: bool = False) -> None:
        super().__init__(message)
        self.hint = hint
        self.valid = valid
        self.where = ""


def require(holds: bool, message: str, hint: str = "", *, valid: bool = False) -> None:
    """Raise a :class:`Fault` if something does not hold."""
    if not holds:
        raise Fault(message, hint, valid=valid)
