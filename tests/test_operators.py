"""The table of operators: current, and true where it can be tried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgec.cli import main
from edgec.operators import Entry, entries, markdown

DOCUMENT = Path(__file__).parent.parent / "docs" / "operators.md"


@pytest.fixture(scope="module")
def table() -> dict[str, Entry]:
    return {e.name: e for e in entries()}


def test_the_document_is_current(table: dict[str, Entry]) -> None:
    wanted = markdown(tuple(table.values()))

    assert DOCUMENT.read_text() == wanted, "edgec operators --markdown > docs/operators.md"


def test_every_operator_of_the_standard_is_listed_once(table: dict[str, Entry]) -> None:
    assert len(table) > 190
    assert list(table) == sorted(table)
    assert "Upsample" not in table  # deprecated


def test_what_is_another_operators_special_case_has_its_row(table: dict[str, Entry]) -> None:
    flatten, reshape = table["Flatten"], table["Reshape"]

    assert flatten.read_as == "Reshape"
    assert (flatten.tflite, flatten.dtypes) == (reshape.tflite, reshape.dtypes)


def test_integers_are_told_apart_by_target(table: dict[str, Entry]) -> None:
    assert table["Conv"].tflite_int8
    assert table["Conv"].onnxruntime_int8
    assert table["Tanh"].tflite_int8
    assert not table["Tanh"].onnxruntime_int8  # stays in float there
    assert not table["Exp"].tflite_int8


def test_the_command_prints_the_same(table: dict[str, Entry]) -> None:
    run = CliRunner().invoke

    assert run(main, ["operators", "--markdown"]).output == DOCUMENT.read_text()
    listed = json.loads(run(main, ["operators", "--json"]).output)
    assert [e["name"] for e in listed] == list(table)
    assert run(main, ["operators"]).output.splitlines()[0].startswith("operator")
