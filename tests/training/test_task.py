"""Test what a run reports about its split before training, and its advice if a part is empty."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jaxrec.cli.train import configured
from jaxrec.config import Config, EvalConfig, ModelConfig, SplitConfig
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError
from jaxrec.training.task import UserTask


def sparse(users: int, pairs: int) -> Dataset:
    """Return data with ``pairs`` pairs per user, all at the same time."""
    user = np.repeat(np.arange(users), pairs)
    item = (user * 7 + np.tile(np.arange(pairs), users)) % 40
    order = np.lexsort((item, user))
    time = np.zeros(users * pairs)
    return Dataset(user[order], item[order], np.arange(users), np.arange(40), time=time)


def config(name: Any, **changes: Any) -> Config:
    return Config(model=ModelConfig("mf", layers=0), split=SplitConfig(name, **changes))


def test_sparse_users_train_by_default_and_the_run_says_how_many_select():
    lines = UserTask.of(config("auto"), sparse(100, 3)).describe()
    assert "20 of 100 users have validation pairs, which select the parameters" in lines
    spread = [line for line in lines if "drawn from all users at once" in line]
    assert spread == [
        "validation pairs drawn from all users at once, since every user's share is less than "
        "half a pair: 20"
    ]


@pytest.mark.parametrize("name", ["hashed", "temporal", "random"])
def test_a_part_that_is_missing_names_an_option_that_works(name):
    data, asked = sparse(100, 1 if name == "random" else 3), config(name)
    with pytest.raises(InputError, match=r"split\.validation is 0\.1\); .* with --split\.no-per-u"):
        UserTask.of(asked, data)
    cured = replace(asked, split=replace(asked.split, per_user=False))
    assert UserTask.of(cured, data).splits.validation.n_edges > 0


def test_options_that_would_not_help_are_not_named():
    for asked, words in (
        (config("random", validation=0.0), r"set --split\.validation above 0"),
        (config("leave-last-out"), "give users with three pairs"),
    ):
        with pytest.raises(InputError, match=words):
            UserTask.of(asked, sparse(100, 2))
    on_test = replace(config("random", test=0.0), eval=EvalConfig(select_on="test"))
    with pytest.raises(InputError, match=r"split\.test is 0\); set --split\.test above 0"):
        UserTask.of(on_test, sparse(100, 3))


def test_users_decided_by_a_tie_are_told():
    lines = UserTask.of(config("leave-last-out"), sparse(50, 4)).describe()
    assert "users whose held-out pairs were drawn among pairs of equal time: 50" in lines


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2014-04-15", 1397520000.0),
        ("2014-04-15T02:00:00+02:00", 1397520000.0),
        ("17", 17.0),
        ("-2.5e3", -2500.0),
    ],
)
def test_cut_times_are_numbers_or_dates(text, seconds):
    made = configured(["mf", "--split.name", "temporal", f"--split.test-time={text}"]).config
    assert made.split.test_time == seconds
    both = ["--split.validation_time", text, "--split.test-time", "2030-01-01"]
    made = configured(["mf", "--split.name", "temporal", *both]).config
    assert made.split.validation_time == seconds


def test_what_is_neither_a_number_nor_a_date_is_refused():
    with pytest.raises(InputError, match=r"--split\.test-time: '15\. April' is not a date"):
        configured(["mf", "--split.name", "temporal", "--split.test-time", "15. April"])
