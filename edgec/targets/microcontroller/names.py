"""Names in C for what users have named."""

from __future__ import annotations

import re

__all__ = ["comment", "identifier", "layer_word"]

# fmt: off
_KEYWORDS = frozenset(
    (
        "alignas", "alignof", "and", "asm", "auto", "bool", "break", "case", "catch",
        "char", "class", "const", "constexpr", "continue", "default", "delete", "do",
        "double", "else", "enum", "explicit", "export", "extern", "false", "float",
        "for", "friend", "goto", "if", "inline", "int", "long", "main", "mutable",
        "namespace", "new", "not", "operator", "or", "private", "protected", "public",
        "register", "restrict", "return", "short", "signed", "sizeof", "static",
        "struct", "switch", "template", "this", "throw", "true", "try", "typedef",
        "typename", "union", "unsigned", "using", "virtual", "void", "volatile",
        "wchar_t", "while", "xor",
    )
)
_HEADERS = frozenset(
    (
        "alloca", "arduino", "assert", "complex", "ctype", "errno", "features", "fenv",
        "inttypes", "iso646", "limits", "locale", "malloc", "math", "memory", "setjmp",
        "signal", "stdalign", "stdarg", "stdatomic", "stdbit", "stdbool", "stdckdint",
        "stddef", "stdint", "stdio", "stdlib", "stdnoreturn", "string", "strings",
        "tgmath", "threads", "time", "uchar", "unistd", "wchar", "wctype",
    )
)
# fmt: on

# A model's header would be found in place of one of C; edgec's own start-up has names, too.
_TAKEN = _KEYWORDS | _HEADERS | {"edgec"}


def identifier(name: str) -> str:
    """Return a name as C takes it: letters, digits and single underscores.

    Names of C itself and of its headers are not to be had.

    >>> identifier("my model-v2.tflite")
    'my_model_v2_tflite'
    >>> identifier("stdint")
    'stdint_model'
    """
    word = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    if not word or word[0].isdigit():
        word = f"model_{word}".rstrip("_")
    return f"{word}_model" if word.lower() in _TAKEN else word


def layer_word(name: str, limit: int = 32) -> str:
    """Return what is telling in the name of a layer: the last parts of a path.

    >>> layer_word("model/conv2d_1/Relu;model/conv2d_1/BiasAdd/ReadVariableOp")
    'conv2d_1_relu'
    """
    path = [part for part in name.split(";")[0].split(":")[0].split("/") if part]
    words = [re.sub(r"[^a-z0-9]+", "_", part.lower()).strip("_") for part in path]
    words = [word for word in words if word]
    found = words[-1] if words else ""
    if len(words) > 1 and len(words[-2]) + len(found) < limit and words[-2] != found:
        found = f"{words[-2]}_{found}"
    return found[:limit].strip("_")


def comment(text: str) -> str:
    """Return text that may stand in a comment of C, on one line."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    return plain.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").rstrip("\\")
