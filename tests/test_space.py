"""Test reading the space of a sweep, which does not need Optuna."""

from dataclasses import replace
from pathlib import Path

import pytest

from jaxrec import presets
from jaxrec.errors import InputError
from jaxrec.sweep import Range, read_space, with_values

BASE = presets.get("mf")


def space_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return path


def test_a_space_is_read_with_ranges_and_choices(tmp_path):
    path = space_file(
        tmp_path,
        '["optim.learning-rate"]\nlow = 1e-3\nhigh = 0.1\nlog = true\n'
        "[model.dim]\nchoices = [8, 16]\n[train.batch_size]\nlow = 64\nhigh = 256\nstep = 64\n",
    )
    assert read_space(path) == {
        "optim.learning_rate": Range(1e-3, 0.1, None, True, False),
        "model.dim": (8, 16),
        "train.batch_size": Range(64, 256, 64, False, True),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no field"),
        ("[model.dim\n", "is not valid TOML"),
        ("[model.dim]\nlow = 3\nhigh = 2\n", "low must be below high"),
        ("[model.dim]\nlow = 0\nhigh = 2\nlog = true\n", "low above 0"),
        ("[model.dim]\nchoices = []\n", "must be a list of values"),
        ("[model.dim]\nlow = 1\nhihg = 2\nhigh = 3\n", "unknown 'hihg'.*'high'"),
    ],
)
def test_a_space_that_cannot_be_used_is_refused_with_its_file(text, words, tmp_path):
    with pytest.raises(InputError, match=rf"space\.toml.*{words}"):
        read_space(space_file(tmp_path, text))


def test_values_go_into_the_configuration_by_dotted_name():
    made = with_values(BASE, {"model.dim": 8, "optim.learning_rate": 1, "seed": 3})
    assert made == replace(
        BASE,
        model=replace(BASE.model, dim=8),
        optim=replace(BASE.optim, learning_rate=1.0),
        seed=3,
    )
    with pytest.raises(InputError, match=r"'model\.dmi', which is not a field"):
        with_values(BASE, {"model.dmi": 8})
