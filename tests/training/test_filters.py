"""Test a run of a filter from data to lists: its files, refusals and served lists."""

import dataclasses
import json
import re

import numpy as np
import polars as pl
import pytest

import jaxrec
from jaxrec import presets
from jaxrec.config import EvalConfig, LossConfig, ModelConfig, OptimConfig, SplitConfig, TrainConfig
from jaxrec.config.models.filter import FilterOptions
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.diagnosis.diagnose import diagnose
from jaxrec.errors import InputError
from jaxrec.evaluation import baselines
from jaxrec.recommend import Recommender
from jaxrec.runfolder import RUN_FILES, read_embeddings
from jaxrec.training import filters
from jaxrec.training.filters import FilterTask

KINDS = ("cheby-cf", "gf-cf", "turbo-cf", "ease")
BLENDED = {"neighbour_weight": 1.0}
PRESET = presets.get("filter")


def config(kind: str = "cheby-cf", **model):
    made = ModelConfig("filter", dim=12, layers=0, filter=kind, **model)
    return dataclasses.replace(PRESET, model=made)


def data() -> Dataset:
    return synthetic.make(90, 60, 1200, communities=4, seed=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory, reports):
    folder = tmp_path_factory.mktemp("filter") / "run"
    with reports():
        jaxrec.train(config(), data=data(), run=folder, quiet=True)
    return folder


@pytest.mark.long_but("gf-cf-options1")
@pytest.mark.parametrize(
    ("kind", "options"),
    [*((kind, {}) for kind in KINDS), ("cheby-cf", BLENDED | {"ease_weight": 0.5})],
)
def test_every_kind_finds_what_was_planted_and_serves_it(kind, options, tmp_path):
    made = jaxrec.train(config(kind, **options), data=data(), run=tmp_path / "run", quiet=True)
    baseline = made.evaluation["baselines"]["popularity"]["recall@20"]
    assert made.metrics["recall@20"] > 1.2 * baseline
    recommender = Recommender.load(tmp_path / "run")
    asked = recommender.user_ids[:3]
    lists = recommender.recommend(asked, k=5)
    assert lists["user"].unique(maintain_order=True).to_list() == asked
    near = recommender.similar_items(recommender.item_ids[:2], k=4)
    assert len(near) == 8
    assert not (near["item"] == near["similar"]).any()
    assert made.evaluation["protocol"].endswith("then fitted on train and validation")
    before = made.evaluation["metrics"]
    again = jaxrec.evaluate(tmp_path / "run", data=data())["metrics"]
    assert again == pytest.approx(before, abs=1e-6)


def test_the_folder_holds_what_a_filter_is(run):
    assert {path.name for path in run.iterdir()} <= RUN_FILES | {".lock"}
    table, arrays = read_embeddings(run), np.load(run / "filter.npz")
    assert table.user.shape[1] == table.item.shape[1] == 12
    assert len(arrays["indices"]) == np.load(run / "seen.npz")["indices"].size
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["split"] for line in lines] == ["validation", "test", "train_ranking"]
    assert [line["phase"] for line in lines][:2] == ["search", "refit_final"]


def test_known_users_and_their_histories_get_the_same_lists(run):
    recommender = Recommender.load(run)
    train = data()
    seen = np.load(run / "seen.npz")
    names, columns = recommender.item_ids, {"user": [], "item": []}
    asked = recommender.user_ids[:4]
    for row, name in enumerate(asked):
        items = seen["indices"][seen["indptr"][row] : seen["indptr"][row + 1]]
        columns["user"] += [name] * len(items)
        columns["item"] += [names[i] for i in items]
    assert len(columns["user"]) < train.n_edges
    known = recommender.recommend(asked, k=7, held_out="keep")
    new = recommender.recommend_history(pl.DataFrame(columns), k=7)
    assert new.drop("score").equals(known.drop("score"))
    np.testing.assert_allclose(new["score"], known["score"], rtol=1e-5)


def test_a_new_interaction_counts_at_once(run):
    recommender = Recommender.load(run)
    ids = recommender.item_ids
    one = recommender.recommend_history(ids[:3], k=10)
    two = recommender.recommend_history([*ids[:3], one["item"][0]], k=10)
    assert one["item"][0] not in two["item"].to_list()
    assert one["item"].to_list()[1:] != two["item"].to_list()[:9]


def test_a_run_is_repeated_to_the_bit_and_resumed_from_nothing(run, tmp_path):
    jaxrec.train(config(), data=data(), run=tmp_path / "run", quiet=True)
    (tmp_path / "run" / "eval.json").unlink()
    jaxrec.resume(tmp_path / "run", data=data(), quiet=True)
    for name in ("filter.npz", "embeddings.npz"):
        ours, theirs = np.load(run / name), np.load(tmp_path / "run" / name)
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs.files)
    for name in ("metrics.jsonl", "eval.json"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes()


def test_the_doctor_and_the_report_read_it(run):
    assert diagnose(run).healthy
    page = (run / "report.html").read_text()
    recommender = Recommender.load(run)
    users = re.findall(r"<h4>User (\S+)</h4>.*?<ol><li>(?:<strong>)?(\w+)", page)
    assert len(users) == 5
    for user, first in users:
        assert recommender.recommend(user, 1, held_out="keep")["item"].to_list() == [first]
    jaxrec.export(run, "npz", run.parent / "out.npz")
    assert np.load(run.parent / "out.npz")["item"].shape == (60, 12)


def test_a_matrix_of_items_that_does_not_fit_is_refused_with_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "free_memory", lambda: 10_000)
    with pytest.raises(InputError, match=r"EASE on 60 items needs 0\.0 GB and 0\.0 GB are free"):
        jaxrec.train(config("ease"), data=data(), run=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_damaged_filter_is_told(run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    jaxrec.train(config(**BLENDED), data=data(), run=folder, quiet=True)
    arrays = dict(np.load(folder / "filter.npz"))
    halved = {name: array for name, array in arrays.items() if name != "neighbour_user_U"}
    for damaged in (halved, arrays | {"in_I": arrays["in_I"][1:]}):
        np.savez(folder / "filter.npz", **damaged)
        recommender = Recommender.load(folder)
        with pytest.raises(InputError, match=r"filter\.npz: does not fit embeddings\.npz"):
            recommender.recommend(recommender.user_ids[:1])
    (folder / "filter.npz").unlink()
    with pytest.raises(InputError, match=r"filter\.npz is missing"):
        recommender.recommend(recommender.user_ids[:1])


def test_ease_leaves_the_weights_of_pairs_out_and_other_filters_do_not():
    plain = data()
    weight = np.linspace(0.5, 4, plain.n_edges, dtype=np.float32)
    both = plain, dataclasses.replace(plain, weight=weight)
    fitted = {
        kind: [FilterTask.of(config(kind), of).problem("search", None, None).fit() for of in both]
        for kind in ("ease", "gf-cf")
    }
    ours, theirs = fitted["ease"]
    np.testing.assert_array_equal(ours.weight_II, theirs.weight_II)
    assert theirs.weight_E is None
    ours, theirs = fitted["gf-cf"]
    assert not np.allclose(ours.item_I, theirs.item_I)
    assert theirs.weight_E is not None


def test_numbers_of_the_options_are_those_of_the_fit():
    plain = FilterOptions()
    fitted = {f.name for f in dataclasses.fields(plain) if not f.name.startswith("ease_")}
    fitted -= {"filter", "learned_steps"}  # tests/training/test_learned_filters.py
    assert fitted <= set(filters.filters.fit.__annotations__)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss": LossConfig("softmax")}, "loss.name is for models that are trained"),
        ({"optim": OptimConfig(learning_rate=1.0)}, "optim.learning_rate is for models"),
        ({"train": TrainConfig(epochs=3)}, "train.epochs is for models that are trained"),
        ({"split": SplitConfig("cold-items")}, "cold-items holds out whole items"),
        ({"warm_start": "runs/x"}, "warm_start is for models that are trained"),
        ({"mistakes": ("sum-in-sigmoid",)}, "mistakes"),
    ],
)
def test_what_belongs_to_training_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        dataclasses.replace(config(), **change)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"filter": "gf-cf", "order": 3}, "model.order is for model.filter cheby-cf and turbo-cf"),
        ({"filter": "turbo-cf", "order": 4}, "model.order is at most 3"),
        ({"score": "cosine"}, "model.score is for models that are trained"),
        ({"ease_l2": 2.0}, "model.ease_l2 is for model.filter ease"),
        ({"filter": "ease", **BLENDED}, "neighbour_weight is for model.filter cheby-cf and gf-cf"),
        ({"filter": "ease", "ease_weight": 1.0}, "ease_weight is for model.filter cheby-cf"),
        ({"neighbour_sharpness": 2.0}, "needs a model.neighbour_weight above 0"),
        (
            {"filter": "popularity", "learned_steps": 5},
            "learned_steps is for model.filter cheby",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        ModelConfig("filter", layers=0, **options)


def test_an_option_of_filters_is_not_for_other_models():
    with pytest.raises(InputError, match=r"model\.flatness is for filter"):
        ModelConfig("lightgcn", flatness=3.0)


def test_an_optax_chain_has_nothing_to_do(tmp_path):
    import optax

    with pytest.raises(InputError, match="takes no optax chain"):
        jaxrec.train(config(), data=data(), run=tmp_path / "r", tx=optax.sgd(1.0), quiet=True)


def test_select_on_none_fits_once_and_reads_test_once(tmp_path, monkeypatch):
    plain = dataclasses.replace(
        config(),
        train=TrainConfig(),
        split=SplitConfig(validation=0.0),
        eval=EvalConfig(select_on="none"),
    )
    made = jaxrec.train(plain, data=data(), run=tmp_path / "run", quiet=True)
    assert made.evaluation["split"] == "test"
    lines = (tmp_path / "run" / "timing.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert events == ["fitted", "finished"]
