"""Test each metric against numbers computed by hand or by a slow form of its definition."""

import itertools
import json
import math

import numpy as np
import pytest

import jaxrec
from jaxrec.data import synthetic
from jaxrec.data.dataset import Csr, items_by_user
from jaxrec.errors import InputError
from jaxrec.evaluation import beyond_accuracy
from jaxrec.evaluation.ranking import Lists, Scorer
from jaxrec.evaluation.run import evaluate
from jaxrec.evaluation.sampled import uni100

# Of four users, 4, 2, 1 and 1 have items 0 to 3, and none has item 4.
HAD = [[0, 1], [0, 1], [0, 2], [0, 3]]
LISTS = [[1, 2], [1, 4], [2, 4], [1, 2]]
POPULAR = [[1, 2], [2, 3], [1, 2], [1, 2]]
HITS = [[True, True], [False, True], [True, False], [False, False]]


def csr(rows: list[list[int]], n_items: int) -> Csr:
    user = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    return items_by_user(user, np.concatenate(rows).astype(np.int64), len(rows), n_items)


def measured(*names: str, lists=LISTS, had=HAD, hits=HITS, popular=POPULAR, n_items=5):
    def made(items) -> Lists:
        relevant = np.full(len(items), 2)
        return Lists(np.arange(len(items)), np.array(items), np.array(hits), relevant)

    k = len(lists[0])
    found = beyond_accuracy.beyond(
        names, made(lists), made(popular), csr(had, n_items), n_items, (k,)
    )
    return [found[f"{name}@{k}"] for name in names]


def test_by_hand():
    # In the lists, items 1 and 2 each fill three places, and item 4 fills two.
    (gini,) = measured("gini")
    # By definition, Gini is the mean absolute difference divided by twice the mean.
    c = [0, 3, 3, 0, 2]
    slow = sum(abs(a - b) for a in c for b in c) / (2 * len(c) ** 2 * np.mean(c))
    assert gini == pytest.approx(slow)
    (entropy,) = measured("entropy")
    assert entropy == pytest.approx(-(2 * 3 / 8 * math.log(3 / 8) + 2 / 8 * math.log(2 / 8)))
    (novelty,) = measured("novelty")
    # Item 1 has 2 of 4 users (1 bit), item 2 has one (2 bits); item 4 has none, counted as one.
    assert novelty == pytest.approx((1.5 + 1.5 + 2 + 1.5) / 4)
    (epc,) = measured("epc")
    d = 1 / math.log2(3)
    by_user = [(0.5 + 0.75 * d), (0.5 + 1.0 * d), (0.75 + 1.0 * d), (0.5 + 0.75 * d)]
    assert epc == pytest.approx(np.mean(by_user) / (1 + d))
    popularity, lift = measured("popularity", "popularity_lift")
    assert popularity == pytest.approx((1.5 + 1 + 0.5 + 1.5) / 4)
    tastes = (3 + 3 + 2.5 + 2.5) / 4
    assert lift == pytest.approx((popularity - tastes) / tastes)
    (personalisation,) = measured("personalisation")
    shared = [len(set(a) & set(b)) for a, b in itertools.combinations(LISTS, 2)]
    assert personalisation == pytest.approx(1 - np.mean(shared) / 2)
    # The only hit outside the popular list is item 4 of the second user.
    assert measured("serendipity") == [pytest.approx(1 / 4 / 2)]


def test_diversity_is_the_mean_distance_within_lists():
    rng = np.random.default_rng(0)
    had = [sorted(rng.choice(12, 4, replace=False).tolist()) for _ in range(30)]
    lists = [rng.choice(12, 5, replace=False).tolist() for _ in range(30)]
    hits = np.zeros((30, 5), bool)
    held = np.zeros((30, 12))
    for user, row in enumerate(had):
        held[user, row] = 1

    def cosine(a: int, b: int) -> float:
        lengths = np.linalg.norm(held[:, a]) * np.linalg.norm(held[:, b])
        return held[:, a] @ held[:, b] / lengths if lengths else 0.0

    slow = [np.mean([1 - cosine(a, b) for a, b in itertools.combinations(L, 2)]) for L in lists]
    (fast,) = measured("diversity", lists=lists, had=had, hits=hits, popular=lists, n_items=12)
    assert fast == pytest.approx(np.mean(slow))


def test_miscalibration_is_0_for_lists_like_the_users_tastes_and_steck_s_divergence_else():
    group = beyond_accuracy.popularity_groups(np.array([60, 20, 10, 6, 4]))
    assert group.tolist() == [0, 1, 2, 2, 2]
    assert measured("miscalibration", lists=[row[::-1] for row in HAD], popular=POPULAR) == [
        pytest.approx(0, abs=1e-12)
    ]
    p, q = np.array([[0.5, 0.5, 0.0]]), np.array([[1.0, 0.0, 0.0]])
    mixed = 0.99 * q + 0.01 * p
    slow = sum(a * math.log(a / b) for a, b in zip(p[0], mixed[0], strict=True) if a)
    assert beyond_accuracy.divergence(p, q)[0] == pytest.approx(slow)


def test_user_gap_is_of_the_most_active_twentieth():
    had = [[0, 1, 2]] + [[0]] * 19
    lists, hits = [[3, 4]] * 20, [[True, True]] + [[True, False]] * 19
    (gap,) = measured("user_gap", lists=lists, had=had, hits=hits, popular=lists)
    assert gap == pytest.approx(1.0 - 0.5)


def test_uni100_of_chance_is_k_in_101_and_of_the_truth_1():
    rng = np.random.default_rng(1)
    relevant, seen = (
        csr([[int(i)] for i in rng.integers(0, 200, 2000)], 200),
        csr([[0]] * 2000, 200),
    )
    score = rng.normal(size=(2000, 200)).astype(np.float32)
    chance = uni100(Scorer(lambda p, u: p[u], score, 200), relevant, seen, (10,), 0)
    assert chance["hit_rate@10"] == pytest.approx(10 / 101, abs=0.02)
    score[np.arange(2000), relevant.indices] = 99
    truth = uni100(Scorer(lambda p, u: p[u], score, 200), relevant, seen, (10,), 0)
    assert truth == {"hit_rate@10": 1.0, "ndcg@10": 1.0}


@pytest.mark.long
def test_evaluate_adds_what_is_asked_for_and_marks_the_sample_as_biased(tmp_path):
    from made_run import CONFIG

    data = synthetic.make(60, 40, 600, communities=2, seed=1)
    run = jaxrec.train(CONFIG, data=data, run=tmp_path / "run", quiet=True).folder
    before = json.loads((run / "eval.json").read_text())
    assert "gini@20" not in before["metrics"]
    with pytest.raises(
        InputError, match=r"'ginni' is not a metric beyond accuracy .did you mean 'gini'"
    ):
        evaluate(run, data=data, metrics=("ginni",))
    content = evaluate(run, data=data, metrics=("all",))
    assert {f"{name}@20" for name in beyond_accuracy.METRICS} <= set(content["metrics"])
    assert content["sampled"]["protocol"].startswith("BIASED")
    assert content["sampled"]["metrics"]["hit_rate@20"] > content["metrics"]["recall@20"] / 2
    again = evaluate(run, data=data)
    assert again["sampled"] == content["sampled"]
    assert again["metrics"] == content["metrics"]
