"""Graphs run in PyTorch, so that gradients reach their inputs and constants.

PyTorch is an extra, ``edgec[recover]``, and loaded when it is first needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edgec.errors import OptionError
from edgec.later import later

if TYPE_CHECKING:
    from edgec.differentiable.determinism import deterministic
    from edgec.differentiable.network import RULES, Network, unsupported

__all__ = ["RULES", "Network", "deterministic", "require_torch", "unsupported"]


def require_torch() -> None:
    """Raise ``OptionError``, with what to install, if there is no PyTorch."""
    try:
        import_module("torch")
    except ImportError as error:
        raise OptionError(
            "recovery computes gradients with PyTorch, which is not installed: "
            "pip install 'edgec[recover]'"
        ) from error


_LATER = {
    "RULES": "network",
    "Network": "network",
    "deterministic": "determinism",
    "unsupported": "network",
}

__getattr__ = later(__name__, _LATER)
