"""The structure of the source: who may import whom, and what the explicit lists hold."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import edgec
from edgec.ir import Op
from edgec.ops import OPS
from edgec.passes import PASSES, Pass
from edgec.targets import TARGETS, Target

PACKAGE = Path(edgec.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Bottom to top: a layer imports from those before it.
LAYERS = [
    "errors",
    "later",
    "contents",
    "files",
    "cache",
    "placement",
    "demo",
    "ir",
    "ops",
    "frontend",
    "export",
    "evaluate",
    "numerics",
    "cost",
    "latency",
    "goals",
    "channels",
    "differentiable",
    "calibration",
    "passes",
    "program",
    "targets",
    "data",
    "split",
    "recovery",
    "interface",
    "original",
    "proof",
    "budgets",
    "options",
    "hotspots",
    "speed",
    "verdict",
    "calibrating",
    "report",
    "easing",
    "compression",
    "quantizing",
    "sharing",
    "pruning",
    "precision",
    "making",
    "shrinking",
    "sensitivity",
    "compiler",
    "preparation",
    "waterfall",
    "bisection",
    "debugging",
    "profiling",
    "gate",
    "structure",
    "support",
    "operators",
    "cli",
    "__main__",
]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in SOURCES}


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def runtime_imports(path: Path) -> Iterator[str]:
    """Yield what a file imports when it runs; not what only the type checker sees."""
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo.extend(node.orelse)
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        todo.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("name", MODULES)
def test_imports_look_down_only(name: str) -> None:
    if name == "edgec":
        return  # the public functions reach into every layer, when they are called
    layer = name.split(".")[1]
    used = {m.split(".")[1] for m in runtime_imports(MODULES[name]) if m.startswith("edgec.")}

    assert used <= set(LAYERS)  # a new file of the package needs a place among them
    above = [other for other in used if LAYERS.index(other) > LAYERS.index(layer)]
    assert not above, f"{name} is of the layer {layer} and imports {above}"


def test_every_layer_is_there() -> None:
    assert {name.split(".")[1] for name in MODULES if "." in name} == set(LAYERS)


def test_nothing_imports_through_the_links() -> None:
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.py")]:
        tops = {m.split(".")[0] for m in runtime_imports(path)}
        assert not tops & {"passes", "targets"}, path


@pytest.mark.parametrize("link", ["passes", "targets"])
def test_links_lead_into_the_package(link: str) -> None:
    path = ROOT / link
    if not path.is_symlink():
        pytest.skip("this checkout has no links")

    assert path.resolve() == PACKAGE / link


@pytest.mark.parametrize("name", MODULES)
def test_files_are_short_enough_to_read(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) <= 500


def test_files_have_names_of_things() -> None:
    stems = {path.stem for path in SOURCES}

    assert not stems & {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


# ---- explicit lists


def subclasses(cls: type) -> set[type]:
    """All subclasses of a class within the package."""
    for found in pkgutil.walk_packages([str(PACKAGE)], "edgec."):
        if found.name.endswith("__main__"):
            continue
        try:
            module(found.name)
        except ModuleNotFoundError as error:
            if error.name != "torch":  # of an extra that need not be installed
                raise
    todo: list[type] = [cls]
    seen: set[type] = set()
    while todo:
        below: list[type] = todo.pop().__subclasses__()
        for sub in below:
            if sub not in seen:
                seen.add(sub)
                todo.append(sub)
    return {s for s in seen if s.__module__.startswith("edgec.") and not inspect.isabstract(s)}


def test_every_operator_is_listed() -> None:
    found = {cls.__name__ for cls in subclasses(Op) if hasattr(cls, "onnx_name")}

    assert found == {cls.__name__ for cls in OPS}
    assert len(set(OPS)) == len(OPS)


def test_every_pass_is_listed() -> None:
    found = {cls for cls in subclasses(Pass) if cls.__module__.startswith("edgec.passes.")}

    assert {cls.__name__ for cls in found} == {cls.__name__ for cls in PASSES}
    assert len(set(PASSES)) == len(PASSES)


def test_every_target_is_listed() -> None:
    listed = TARGETS.values() if isinstance(TARGETS, dict) else TARGETS

    assert {c.__name__ for c in subclasses(Target)} == {c.__name__ for c in listed}


NAMED_OTHERWISE = {"QuantizeGraph": "quantize"}  # beside the operator Quantize


def test_passes_are_called_what_their_classes_are() -> None:
    for cls in subclasses(Pass):
        assert issubclass(cls, Pass)
        kebab = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", cls.__name__).lower()
        kebab = kebab.replace("batch-norm", "batchnorm")
        assert cls.name == NAMED_OTHERWISE.get(cls.__name__, kebab)
        assert cls.promise is not None


def test_passes_have_a_file_each() -> None:
    for cls in PASSES:
        assert cls.__module__ == f"edgec.passes.{cls.name.replace('-', '_')}"


# ---- what importing costs

HEAVY = (
    "PIL",
    "ai_edge_litert",
    "google",
    "ml_dtypes",
    "numpy",
    "onnx",
    "onnxruntime",
    "rich",
    "scipy",
    "sklearn",
    "torch",
)


@pytest.mark.parametrize("name", ["edgec", "edgec.cli", "edgec.errors", "edgec.gate"])
def test_importing_is_cheap(name: str) -> None:
    code = f"import sys, {name}; print(*(m for m in {HEAVY} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert done.stdout.split() == []
