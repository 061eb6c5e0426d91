"""Test the evaluation of item models by pairs against loops over a dense score matrix."""

import math

import numpy as np
import pytest

import oracle
from jaxrec.config import PairsConfig
from jaxrec.data import synthetic_items
from jaxrec.data.itemgraph import ItemGraph, LabelledPairs, PairSplits
from jaxrec.data.pair_split import split_pairs
from jaxrec.errors import InputError, RunError
from jaxrec.evaluation import item_pairs as module
from jaxrec.evaluation.item_pairs import PairEvaluator, baselines, item_scorer

N = 60


def _case() -> tuple[ItemGraph, PairSplits]:
    """Build a graph in which items 50 to 59 have no train pair, but some have held-out pairs."""
    graph = synthetic_items.make(N, 170, communities=4, seed=3)
    splits = split_pairs(graph, PairsConfig(), 1)
    known = splits.train.dst < 50
    return graph, splits._replace(train=splits.train.take(known))


GRAPH, SPLITS = _case()
SEEN = SPLITS.train.degree() > 0
RNG = np.random.default_rng(0)
ITEM = RNG.integers(-2, 3, (N, 3)).astype(np.float32)
CONTEXT = RNG.integers(-2, 3, (N, 3)).astype(np.float32)
BIAS = RNG.integers(-2, 3, N).astype(np.float32)
LEARNED = {
    "dot": {"item": ITEM},
    "biases": {"item": ITEM, "item_bias": BIAS},
    "context": {"item": ITEM, "item_context": CONTEXT, "item_bias": BIAS},
}


def dense(kind: str) -> np.ndarray:
    score = ITEM @ ITEM.T
    if kind == "context":
        score = (ITEM @ CONTEXT.T + CONTEXT @ ITEM.T) / 2
    return score if kind == "dot" else score + BIAS[:, None] + BIAS[None, :]


def neighbours(*parts: LabelledPairs | ItemGraph) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in range(N)]
    for part in parts:
        a, b = (part.src, part.dst) if isinstance(part, ItemGraph) else (part.a_P, part.b_P)
        there = np.ones(len(a), bool) if isinstance(part, ItemGraph) else part.label_P
        for x, y in zip(a[there].tolist(), b[there].tolist(), strict=True):
            found[x].add(y)
            found[y].add(x)
    return found


@pytest.mark.parametrize("kind", LEARNED)
@pytest.mark.parametrize("block", [7, 1 << 15])
def test_equals_loops_over_the_dense_scores(kind, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", block)
    evaluator = PairEvaluator(SPLITS.test, SPLITS.train, (2, 5), masked=SPLITS.validation)
    scorer = item_scorer(LEARNED[kind], evaluator.scored_I, context=kind == "context")
    found = evaluator(scorer)
    assert found is not None

    score, (a, b, label) = dense(kind), SPLITS.test
    seen = [bool(SEEN[x] and SEEN[y]) for x, y in zip(a, b, strict=True)]
    told = [float(score[x, y]) for x, y in zip(a, b, strict=True)]
    middle = float(np.median([s for s, there in zip(told, seen, strict=True) if there]))
    assert 0 < sum(seen) < len(seen)
    whole = [s if there else middle for s, there in zip(told, seen, strict=True)]
    kept = [n for n, there in enumerate(seen) if there]
    few, labels = [told[n] for n in kept], [bool(label[n]) for n in kept]
    expected = {
        "auc": oracle.roc_auc(whole, label.tolist()),
        "average_precision": oracle.average_precision(whole, label.tolist()),
        "auc_seen": oracle.roc_auc(few, labels),
        "average_precision_seen": oracle.average_precision(few, labels),
    }
    score[~SEEN], score[:, ~SEEN] = -np.inf, -np.inf
    masked = neighbours(SPLITS.train, SPLITS.validation)
    hidden = [near | {n} for n, near in enumerate(masked)]
    relevant = neighbours(SPLITS.test)
    expected |= oracle.ranking_metrics(score, relevant, hidden, (2, 5))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert evaluator.users == sum(map(bool, relevant))


def test_items_that_the_model_can_score_are_its_own_to_name():
    everything = np.ones(N, bool)
    evaluator = PairEvaluator(SPLITS.test, SPLITS.train, (5,), scored_I=everything, ranked=0)
    found = evaluator(item_scorer(LEARNED["dot"], everything))
    assert found is not None
    score, (a, b, label) = dense("dot"), SPLITS.test
    expected = oracle.roc_auc(score[a, b].tolist(), label.tolist())
    assert found["auc"] == pytest.approx(expected, abs=1e-12)
    assert found["auc_seen"] != found["auc"]
    assert not any("@" in name for name in found)


def test_ranking_for_some_of_the_items_is_the_mean_over_these():
    whole = PairEvaluator(SPLITS.test, SPLITS.train, (5,))
    some = [PairEvaluator(SPLITS.test, SPLITS.train, (5,), ranked=9, seed=s) for s in (1, 1, 2)]
    scorer = item_scorer(LEARNED["dot"], whole.scored_I)
    detail = whole.breakdown(scorer, 5)
    assert detail is not None
    by_item = dict(zip(detail.user_n.tolist(), detail.recall_n.tolist(), strict=True))
    drawn = []
    for evaluator in some:
        part = evaluator.breakdown(scorer, 5)
        assert part is not None
        assert len(part.user_n) == evaluator.users == 9
        assert [by_item[n] for n in part.user_n.tolist()] == part.recall_n.tolist()
        drawn.append(part.user_n.tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_true_communities_beat_popularity_and_popularity_chance():
    graph = synthetic_items.make(800, 6000, communities=8, seed=5)
    splits = split_pairs(graph, PairsConfig(), 0)
    planted = synthetic_items.planted(800, communities=8, seed=5)
    evaluator = PairEvaluator(splits.test, splits.train, (20,))
    own = np.eye(8, dtype=np.float32)[planted.item_community] * 3
    bias = np.log(planted.popularity).astype(np.float32)
    scorers = baselines(splits.train, evaluator.scored_I, 0)
    scorers["truth"] = item_scorer({"item": own, "item_bias": bias}, evaluator.scored_I)
    found = {name: evaluator(scorer) for name, scorer in scorers.items()}
    auc, recall = ({n: f[m] for n, f in found.items() if f} for m in ("auc", "recall@20"))
    assert auc["truth"] > 0.85 > auc["popularity"] > 0.65
    assert auc["random"] == pytest.approx(0.5, abs=0.03)
    assert recall["truth"] > 2 * recall["popularity"] > 4 * recall["random"]


def test_where_no_pair_can_be_scored_the_area_is_a_half():
    nothing = np.zeros(N, bool)
    evaluator = PairEvaluator(SPLITS.test, SPLITS.train, (5,), scored_I=nothing)
    found = evaluator(item_scorer(LEARNED["dot"], nothing))
    assert found is not None
    assert (found["auc"], found["average_precision"]) == (0.5, 0.5)
    assert found["recall@5"] == 0


def test_it_stops_when_told_and_refuses_what_is_not_there():
    evaluator = PairEvaluator(SPLITS.test, SPLITS.train, (5,))
    scorer = item_scorer(LEARNED["dot"], evaluator.scored_I)
    assert evaluator(scorer, lambda: True) is None
    spoilt = {"item": np.full_like(ITEM, math.nan)}
    with pytest.raises(RunError, match="NaN"):
        evaluator(item_scorer(spoilt, evaluator.scored_I))
    empty = LabelledPairs(*(np.zeros(0, t) for t in (np.int32, np.int32, bool)))
    with pytest.raises(InputError, match="no pairs are held out"):
        PairEvaluator(empty, SPLITS.train, (5,))
