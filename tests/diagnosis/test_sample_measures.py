"""Test that the measures of a sample equal those of its rows, pairs and lists, one by one."""

import itertools

import numpy as np
import pytest

from jaxrec.diagnosis import measures, sample_measures
from jaxrec.diagnosis.sample import of_rows
from jaxrec.diagnosis.sample_measures import Pairs, Sample
from jaxrec.evaluation.scorers import dot_scorer


def rows(n: int = 7, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def test_figures_of_a_whole_sample_are_those_of_its_rows():
    user, item = rows(12, 4), rows(30, 4, seed=1)
    item_m, listed = [1, 2, 20, 29, 4], [3, 7, 1, 0, 5]
    pairs = [(2, 5, 9), (4, 1, 0), (4, 9, 12), (7, 3, 3), (8, 28, 4)]
    sample = Sample(
        user_n=np.array([0, 3, 7], np.int32),
        item_m=np.array(item_m, np.int32),
        listed_l=np.array(listed, np.int32),
        popular_K=np.arange(20, dtype=np.int32),
        train=Pairs(*np.array(pairs, np.int32).T),
        validation=None,
    )
    found, seen, _ = sample_measures.measured(dot_scorer(user, item), sample)
    assert np.array_equal(seen, np.concatenate([user[[0, 3, 7]], item[item_m]]))
    whole = user @ item.T
    score = whole[np.ix_([3, 5], [1, 4])]  # every fourth user and item
    assert found["score_mean"] == pytest.approx(score.mean(), rel=1e-5)
    assert found["score_spread"] == pytest.approx(score.std(axis=1).mean(), rel=1e-5)
    own = score - score.mean(axis=0)
    assert found["score_personal"] == pytest.approx(own.std(axis=1).mean(), rel=1e-5)
    dots = user[[0, 3, 7]] @ item[item_m].T
    assert found["dot_mean"] == pytest.approx(dots.mean(), abs=1e-5)
    cross = measures.cross_cosines(user[listed], item[item_m])
    assert found["pair_cosine"] == pytest.approx(cross.mean)
    assert found["item_cosine"] == pytest.approx(measures.cosines(item[item_m]).mean)
    top = [set(np.argsort(-whole[u], kind="stable")[:20].tolist()) for u in listed]
    shared = np.mean([len(a & b) / 20 for a, b in itertools.combinations(top, 2)])
    assert found["list_overlap"] == pytest.approx(shared)
    won = [1.0 if whole[u, i] > whole[u, o] else 0.5 * (i == o) for u, i, o in pairs]
    assert found["train_auc"] == pytest.approx(np.mean(won))
    assert found["train_alignment"] == measures.alignment(user[[2, 8]], item[[5, 28]])
    assert not any(name.startswith("validation") for name in found)


def test_scores_of_a_sample_are_the_models_own_with_its_biases():
    rng = np.random.default_rng(3)
    user, item = rows(4, 3), rows(30, 3, seed=1)
    bias_u, bias_i = (rng.normal(size=n).astype(np.float32) for n in (4, 30))
    sample = of_rows(4, 30)._replace(item_m=np.array([5, 11, 29], np.int32))
    scorer = dot_scorer(user, item, user_bias_U=bias_u, item_bias_I=bias_i)
    found = sample_measures.measured(scorer, sample).figures
    assert found["score_mean"] == pytest.approx(user[0] @ item[5] + bias_u[0] + bias_i[5], abs=1e-5)


def test_pairs_alone_score_as_they_do_beside_the_rest():
    user, item = rows(12, 4), rows(30, 4, seed=1)
    pairs = Pairs(*np.array([(2, 5, 9), (4, 1, 0), (4, 9, 12)], np.int32).T)
    scorer = dot_scorer(user, item)
    sample = of_rows(12, 30)._replace(train=pairs, validation=pairs)
    whole = sample_measures.measured(scorer, sample, 0.5).figures
    alone = sample_measures.pairs_of(scorer, {"train": pairs}, 0.5)
    assert alone == pytest.approx({name: whole[name] for name in alone})
    assert whole["validation_gap_loss"] == whole["train_gap_loss"]
    assert sample_measures.pairs_of(scorer, {}) == {}


def test_an_option_that_this_xla_does_not_know_is_left_out():
    assert sample_measures.takes("xla_backend_optimization_level", 0) == {
        "xla_backend_optimization_level": 0
    }
    assert sample_measures.takes("xla_no_such_option", 0) == {}
