"""All targets. To add one, write its folder and name it here."""

from edgec.targets.base import Artifact, Port, Runner, Target
from edgec.targets.microcontroller.target import Microcontroller
from edgec.targets.onnxruntime import OnnxRuntime
from edgec.targets.tflite import Tflite

__all__ = [
    "TARGETS",
    "Artifact",
    "Microcontroller",
    "OnnxRuntime",
    "Port",
    "Runner",
    "Target",
    "Tflite",
]

TARGETS: tuple[type[Target], ...] = (Tflite, OnnxRuntime, Microcontroller)
