"""Test that the doctor finds nothing in runs of the presets on their built-in data.

Only cheap presets are run here, for fewer epochs; `python -m bench doctor-presets` runs them all.
Item models are trained in tests/training/items.
"""

from dataclasses import replace

import pytest

import jaxrec
from jaxrec import presets
from jaxrec.diagnosis.diagnose import diagnose

EPOCHS = {"quickstart": 4, "mf": 10, "biased-mf": 10, "two-tower": 4, "triplet": 6}


@pytest.mark.long
@pytest.mark.parametrize("name", EPOCHS)
def test_a_run_of_a_preset_is_called_healthy(name, tmp_path):
    preset = presets.get(name)
    config = replace(preset, train=replace(preset.train, epochs=EPOCHS[name], refit=False))
    run = jaxrec.train(config, run=tmp_path / "run", quiet=True)
    told = diagnose(run.folder)
    assert told.findings == []
    assert {"user_rank", "item_cosine_sd", "moved"} <= told.figures.keys()
    assert told.course.steps > 50
