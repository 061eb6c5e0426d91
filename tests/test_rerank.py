"""Test re-ranking against plain implementations of its definitions."""

from pathlib import Path

import numpy as np
from made_run import write_embeddings

from jaxrec.recommend import Recommender
from jaxrec.rerank import Quota, Rerank

RNG = np.random.default_rng(0)
ITEM = RNG.normal(size=(30, 4)).astype(np.float32)
SCORE = np.sort(RNG.normal(size=(3, 30)).astype(np.float32), axis=1)[:, ::-1].copy()
PLACE = np.stack([RNG.permutation(30) for _ in range(3)]).astype(np.int32)
USERS = ["a", "b", "c"]


def mmr(items: np.ndarray, scores: np.ndarray, k: int, weight: float) -> list[int]:
    """Re-rank one list by the definition of maximal marginal relevance."""
    relevance = (scores - scores.min()) / (scores.max() - scores.min())
    unit = ITEM / np.linalg.norm(ITEM, axis=1, keepdims=True)
    chosen: list[int] = []
    while len(chosen) < k:
        value = {
            c: (1 - weight) * relevance[c]
            - weight * max((unit[items[c]] @ unit[items[s]] for s in chosen), default=0)
            for c in range(len(items))
            if c not in chosen
        }
        chosen.append(max(value, key=lambda c: value[c]))
    return items[chosen].tolist()


def test_diversity_is_maximal_marginal_relevance() -> None:
    items, scores = Rerank(diversity=0.4).choose(USERS, PLACE, SCORE, 8, ITEM)
    for row in range(3):
        assert items[row].tolist() == mmr(PLACE[row], SCORE[row], 8, 0.4)
        where = {int(i): s for i, s in zip(PLACE[row], SCORE[row], strict=True)}
        assert scores[row].tolist() == [where[i] for i in items[row].tolist()]


def test_without_diversity_the_order_is_the_models() -> None:
    kept, _ = Rerank(quotas=(Quota(np.zeros(30, np.int64), 30),)).choose(
        USERS, PLACE, SCORE, 8, ITEM
    )
    assert (kept == PLACE[:, :8]).all()


def test_quotas_hold_and_take_the_best_that_they_allow() -> None:
    code = np.arange(30) % 3
    code[::7] = -1  # items without a value, for which any number may be stored
    items, _ = Rerank(quotas=(Quota(code, 2),)).choose(USERS, PLACE, SCORE, 9, ITEM)
    for row in range(3):
        count, expected = {}, []
        for item in PLACE[row].tolist():
            value = int(code[item])
            if value < 0 or count.get(value, 0) < 2:
                expected.append(item)
                count[value] = count.get(value, 0) + 1
        assert items[row].tolist() == (expected + [-1] * 9)[:9]


def test_noise_is_of_the_seed_and_the_user_alone() -> None:
    noisy = Rerank(noise=1.0, seed=3)
    items, _ = noisy.choose(USERS, PLACE, SCORE, 8, ITEM)
    alone, _ = noisy.choose(["b"], PLACE[1:2], SCORE[1:2], 8, ITEM)
    assert (items[1] == alone[0]).all()
    assert (items != PLACE[:, :8]).any()
    other, _ = Rerank(noise=1.0, seed=4).choose(USERS, PLACE, SCORE, 8, ITEM)
    assert (items != other).any()


def test_candidates_that_are_none_are_never_chosen(tmp_path: Path) -> None:
    run = write_embeddings(tmp_path / "run", np.ones((1, 4)), ITEM[:5], [[0, 1]])
    found = Recommender.load(run).recommend("u0", 4, rerank=Rerank(diversity=0.5, noise=0.1))
    assert sorted(found["item"]) == ["i2", "i3", "i4"]
