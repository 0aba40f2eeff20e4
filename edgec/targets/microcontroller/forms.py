"""The forms of folders that generated code comes in."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["FORMS", "Form"]

Form = Literal["plain", "arduino", "zephyr"]
"""All files in one folder with a Makefile and a CMakeLists.txt, or a library."""

FORMS: tuple[Form, ...] = get_args(Form)
