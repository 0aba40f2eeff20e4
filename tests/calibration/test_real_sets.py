"""Real models: right samples lead to no warning, wrong ones to the one they deserve."""

from __future__ import annotations

import pytest

from benchmarks.calibration_sets import MODELS, WRONG, kinds, right, wrong
from benchmarks.models import DATA

QUICK = ("resnet8", "kws_ds_cnn", "resnet20", "lenet5")
"""The others take longer, and are judged by the benchmark."""


@pytest.fixture(params=QUICK)
def name(request: pytest.FixtureRequest) -> str:
    found = str(request.param)
    if not (DATA / "models" / MODELS[found].file).exists():
        pytest.skip("the models are not there; set EDGEC_DATA")
    return found


@pytest.mark.parametrize("count", [42, 134])  # 32 and 101 are calibrated on
def test_right_samples_lead_to_no_warning(name: str, count: int) -> None:
    assert kinds(name, right(MODELS[name], count)) == ()


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_samples_lead_to_the_right_warning(name: str, kind: str) -> None:
    assert set(kinds(name, wrong(MODELS[name], kind))) & set(WRONG[kind])
