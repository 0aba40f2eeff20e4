"""The packages that emulation needs, which are an extra."""

from __future__ import annotations

from importlib.util import find_spec

from edgec.errors import OptionError

__all__ = ["require"]


def require(package: str, what: str) -> None:
    """Raise ``OptionError``, with what to install, if a package is not there.

    Parameters
    ----------
    what
        What needs it, as the start of a sentence.
    """
    if find_spec(package) is None:
        raise OptionError(
            f"{what} needs the package {package}, which is not installed: "
            "pip install 'edgec[mcu]'"
        )
