"""Test that planted structure is found with cold items, exposed negatives and frozen items."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrec
from jaxrec.config import (
    Config,
    EvalConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset, Exposed
from jaxrec.data.split import split
from jaxrec.errors import InputError
from jaxrec.training.problem import Problem

COLD = Config(
    split=SplitConfig("cold-items", test=0.3, validation=0.1),
    model=ModelConfig("two-tower", dim=16, layers=0, id_dropout=0.3),
    loss=LossConfig("softmax"),
    negatives=NegativesConfig("in-batch"),
    optim=OptimConfig(learning_rate=0.02),
    train=TrainConfig(epochs=20, batch_size=128, l2=1e-3),
    eval=EvalConfig(k=(5, 20), every=10),
)


@pytest.fixture(scope="module")
def featured() -> Dataset:
    return synthetic.make(150, 120, 3000, communities=6, seed=2, features=True)


@pytest.mark.long
def test_items_that_training_never_saw_rank_by_their_features(featured, tmp_path):
    run = jaxrec.train(COLD, data=featured, run=tmp_path / "run", quiet=True)
    found, others = run.metrics, run.evaluation["baselines"]
    assert found["recall@5"] > 2 * others["random"]["recall@5"]
    assert found["recall@5"] > 1.5 * others["popularity"]["recall@5"]
    # Of the 36 ranked items, 5 at random hold 5 / 36 of the relevant ones.
    assert others["random"]["recall@5"] == pytest.approx(5 / 36, abs=0.05)
    assert "of the held-out items" in run.evaluation["protocol"]
    again = jaxrec.evaluate(run.folder, "test", (5, 20), data=featured)
    assert again["metrics"] == pytest.approx(run.metrics, abs=1e-6)


@pytest.mark.parametrize(
    "negatives",
    [*(NegativesConfig(name, 9) for name in ("uniform", "shared", "exposed")), COLD.negatives],
    ids=lambda negatives: negatives.name,
)
def test_held_out_items_are_no_negatives(featured, negatives):
    config = dataclasses.replace(COLD, negatives=negatives, loss=LossConfig())
    pairs = {*zip(featured.user.tolist(), featured.item.tolist(), strict=True)}
    left = [(0, item) for item in range(120) if (0, item) not in pairs]  # all belong to one user
    data = dataclasses.replace(featured, exposed=Exposed(*np.array(left, np.int32).T))
    parts = split(data, config.split, 0)
    p = Problem.build(config, parts)
    seen = set(parts.train.item.tolist())
    draw = jax.jit(p.stepper.batch)
    drawn = [np.unique(draw(p.data, jnp.int32(step)).neg) for step in range(8)]
    assert set(np.concatenate(drawn).tolist()) <= seen


def test_negatives_that_would_show_held_out_items_are_refused():
    for negatives in (NegativesConfig("all"), NegativesConfig(hard=1)):
        with pytest.raises(InputError, match=r"split\.name cold-items holds out of training"):
            dataclasses.replace(COLD, negatives=negatives, loss=LossConfig())


def shown_data(seed: int = 0) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Return users who click the shown items in their direction, and ignore the others."""
    rng = np.random.default_rng(seed)
    taste_UD, item_ID = rng.normal(size=(60, 4)), rng.normal(size=(80, 4)).astype(np.float32)
    pairs = [[], []]
    for user, taste in enumerate(taste_UD):
        for item in np.sort(rng.choice(80, 30, replace=False)):
            pairs[int(taste @ item_ID[item] > 0)].append((user, int(item)))
    left, liked = (np.array(part, np.int32).T for part in pairs)
    ids = np.array([f"u{n}" for n in range(60)]), np.array([f"i{n}" for n in range(80)])
    return Dataset(*liked, *ids, exposed=Exposed(*left)), taste_UD, item_ID


FROZEN = Config(
    split=SplitConfig(test=0.1, validation=0.0),
    model=ModelConfig("mf", dim=4, layers=0, frozen_items="vectors"),
    negatives=NegativesConfig("exposed", 4),
    optim=OptimConfig(learning_rate=0.05),
    train=TrainConfig(epochs=30, batch_size=64, l2=0.0),
    eval=EvalConfig(k=(20,), every=0, select_on="none"),
)


@pytest.mark.long
@pytest.mark.parametrize("sparse", [False, True])
def test_users_find_their_taste_in_a_frozen_space_from_what_they_left_alone(sparse, tmp_path):
    data, taste_UD, item_ID = shown_data()
    order = np.random.default_rng(1).permutation(79)  # the last item has no vector
    path = tmp_path / "vectors.npz"
    np.savez(path, item=item_ID[order], item_ids=data.item_ids[order])
    config = dataclasses.replace(
        FROZEN,
        model=dataclasses.replace(FROZEN.model, frozen_items=str(path)),
        optim=dataclasses.replace(FROZEN.optim, sparse=sparse),
        train=dataclasses.replace(FROZEN.train, l2=1e-3),
    )
    run = jaxrec.train(config, data=data, run=tmp_path / "run", quiet=True)
    with np.load(run.folder / "embeddings.npz") as stored:
        np.testing.assert_array_equal(stored["item"][:79], item_ID[:79])
        np.testing.assert_array_equal(stored["item"][79], 0)
        user_UD = stored["user"]
    cosine = (user_UD * taste_UD).sum(1)
    cosine /= np.linalg.norm(user_UD, axis=1) * np.linalg.norm(taste_UD, axis=1)
    assert np.median(cosine) > 0.9
    # A run folder can serve as the file too, and a resumed run needs neither.
    path.unlink()
    again = dataclasses.replace(
        config, model=dataclasses.replace(config.model, frozen_items=str(run.folder))
    )
    other = jaxrec.train(again, data=data, run=tmp_path / "other", quiet=True)
    assert other.metrics == run.metrics


def test_vectors_that_cannot_be_used_are_refused_before_there_is_a_folder(tmp_path):
    data, _, item_ID = shown_data()
    path, ids = tmp_path / "v.npz", data.item_ids
    for arrays, fault in (
        ({"item": item_ID}, "not item embeddings"),
        ({"item": item_ID[:, 0], "item_ids": ids}, r"item has shape \(80,\), for 80 item_ids"),
        ({"item": item_ID[:, :3], "item_ids": ids}, "have width 3, not model.dim 4; set --model"),
        ({"item": np.full_like(item_ID, np.nan), "item_ids": ids}, "not finite"),
        ({"item": item_ID, "item_ids": np.array(["i0"] * 80)}, "an item has two vectors"),
        ({"item": item_ID, "item_ids": np.arange(80)}, r"none of its items .* such as i0"),
    ):
        np.savez(path, **arrays)
        model = dataclasses.replace(FROZEN.model, frozen_items=str(path))
        config = dataclasses.replace(FROZEN, model=model)
        with pytest.raises(InputError, match=fault):
            jaxrec.train(config, data=data, run=tmp_path / "run", quiet=True)
        assert not (tmp_path / "run").exists()
    model = dataclasses.replace(FROZEN.model, frozen_items=str(tmp_path / "nowhere.npz"))
    with pytest.raises(InputError, match=r"nowhere\.npz: not item embeddings"):
        jaxrec.train(dataclasses.replace(FROZEN, model=model), data=data, quiet=True)


def test_exposed_negatives_need_exposure_data():
    data = dataclasses.replace(shown_data()[0], exposed=None)
    config = dataclasses.replace(FROZEN, model=ModelConfig("mf", dim=4, layers=0))
    with pytest.raises(InputError, match=r"--event-weights shown=0 click=1"):
        Problem.build(config, split(data, config.split, 0))


def test_columns_choose_the_features_and_unknown_ones_are_refused(featured):
    def sizes(*columns):
        model = dataclasses.replace(COLD.model, columns=columns)
        config = dataclasses.replace(COLD, model=model)
        return Problem.build(config, split(featured, config.split, 0)).takes.sizes

    user, item = sizes("tags", "level")
    assert item is not None
    assert (user.numbers, user.categories, len(user.bags)) == (2, (), 1)
    with pytest.raises(InputError, match=r"names 'tagz' \(did you mean 'tags'.*group, tags, level"):
        sizes("tagz")
