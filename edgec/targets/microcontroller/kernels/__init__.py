"""How layers are computed: portable C99, and faster forms for cores that have them."""

from edgec.targets.microcontroller.kernels.base import Code, Function, Kernel, Table

__all__ = ["Code", "Function", "Kernel", "Table"]
