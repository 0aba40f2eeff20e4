"""The forms of folders that generated code comes in."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["FOLDERS", "FORMS", "Folder", "Form"]

Folder = Literal["plain", "arduino", "zephyr"]
"""All files in one folder with a Makefile and a CMakeLists.txt, or a library."""

Form = Folder | Literal["tflm"]
"""A folder that builds, or sources for those who run TFLite Micro beside the C."""

FOLDERS: tuple[Folder, ...] = get_args(Folder)
FORMS: tuple[Form, ...] = (*FOLDERS, "tflm")
