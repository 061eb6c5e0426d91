"""Test that shapes computed from sizes equal those of real data of the same sizes."""

import dataclasses

import jax
import pytest

from jaxrec import presets
from jaxrec.aot import shapes
from jaxrec.aot.programs import of_sizes
from jaxrec.config import SplitConfig
from jaxrec.data.synthetic import make
from jaxrec.errors import InputError
from jaxrec.training.run import task_of


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("lightgcn", {}),
        ("mf", {}),
        ("gowalla-fast", {}),
        ("ngcf", {}),
        ("gcmc", {}),
        ("pinsage", {}),
        ("two-tower", {}),
        ("mf", {"optim": {"sparse": True}}),
        ("lightgcn", {"negatives": {"popularity": 0.75}}),
    ],
)
def test_as_for_real_data(preset, changes):
    config = presets.get(preset)
    for section, values in changes.items():
        made = dataclasses.replace(getattr(config, section), **values)
        config = dataclasses.replace(config, **{section: made})
    config = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, epochs=1, batch_size=256),
        split=SplitConfig(),
    )
    task = task_of(config, make(300, 200, 6000, communities=4, seed=0))
    real = task.problem("search", None, None)
    train = real.splits.train
    assert (train.user_counts() > 0).all()
    found = of_sizes(config, shapes.Counts(train.n_users, train.n_items, train.n_edges), None)
    assert shapes.as_shapes(real.data) == found.data
    assert shapes.as_shapes(real.state_shape()) == found.state


def test_degrees_spread_about_their_mean():
    users, items = shapes.degrees(shapes.Counts(10**5, 10**4, 2 * 10**6))
    assert users.sum() == pytest.approx(2 * 10**6, rel=0.05)
    assert items.sum() == pytest.approx(2 * 10**6, rel=0.05)
    assert users.max() > 5 * users.mean()


@pytest.mark.parametrize("preset", ["biased-mf", "triplet", "skipgram", "gcmc-ratings"])
def test_what_sizes_do_not_tell_is_refused_by_name(preset):
    with pytest.raises(InputError, match="give --data PATH"):
        shapes.train_data(presets.get(preset), shapes.Counts(10, 10, 50))


def test_sizes_cost_nothing():
    config = presets.get("lightgcn")
    before = len(jax.live_arrays())
    found = of_sizes(config, shapes.Counts(20_000_000, 2_000_000, 10**9), None)
    assert found.state.params["embedding"].shape == (22_000_000, 64)
    assert len(jax.live_arrays()) - before < 10
