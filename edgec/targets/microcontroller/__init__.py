"""C for microcontrollers: what a program becomes, and how it is measured."""

from edgec.targets.microcontroller.cores import Core

__all__ = ["Core"]
