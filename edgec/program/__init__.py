"""Models as microcontrollers run them: typed operators on integers, in a fixed order."""

from edgec.program.operators import OPERATORS, Operator
from edgec.program.program import Layer, Program, Step
from edgec.program.tensors import Tensor

__all__ = ["OPERATORS", "Layer", "Operator", "Program", "Step", "Tensor"]
