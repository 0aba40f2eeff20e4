"""What every module says of itself: its public names, and what they are."""

from __future__ import annotations

import ast
import inspect

import pytest

from tests.test_layers import MODULES, module

PUBLIC = [name for name in MODULES if not name.endswith("__main__")]


def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name: str) -> None:
    text = ast.get_docstring(tree(name))

    assert text
    first = text.splitlines()[0]
    assert first.endswith((".", ":")), first


@pytest.mark.parametrize("name", PUBLIC)
def test_every_module_lists_its_public_names(name: str) -> None:
    listed = module(name).__all__

    assert len(set(listed)) == len(listed)
    assert all(hasattr(module(name), public) for public in listed)


@pytest.mark.parametrize("name", PUBLIC)
def test_what_another_module_imports_is_public(name: str) -> None:
    for node in ast.walk(tree(name)):
        source = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if isinstance(node, ast.ImportFrom) and source.split(".")[0] == "edgec":
            used = {f"{source}.{alias.name}" for alias in node.names}
            public = {f"{source}.{listed}" for listed in module(source).__all__}
            assert used <= public | set(MODULES)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_described(name: str) -> None:
    for public in module(name).__all__:
        found = getattr(module(name), public)
        own = getattr(found, "__module__", "") == name
        if own and (inspect.isclass(found) or inspect.isfunction(found)):
            assert inspect.getdoc(found), public


@pytest.mark.parametrize("name", PUBLIC)
def test_public_methods_are_described(name: str) -> None:
    """Where a base class describes it, it need not be said again."""
    for public in module(name).__all__:
        cls = getattr(module(name), public)
        if not inspect.isclass(cls) or cls.__module__ != name:
            continue
        for member, found in vars(cls).items():
            if member.startswith("_"):
                continue
            if inspect.isfunction(found) or isinstance(found, property | classmethod):
                assert inspect.getdoc(getattr(cls, member)), f"{public}.{member}"
