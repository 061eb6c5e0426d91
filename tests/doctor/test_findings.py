"""Rules on records made by hand: what is planted is named first, and sound figures name nothing."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from jaxrec.config import Config, LossConfig, ModelConfig, OptimConfig, TrainConfig
from jaxrec.doctor import thresholds
from jaxrec.doctor.course import Course
from jaxrec.doctor.findings import RULES, findings

START = {
    **dict.fromkeys(("user_cosine", "item_cosine", "pair_cosine", "moved", "user_simplex"), 0.0),
    "user_norm": 0.8,
    "item_norm": 0.8,
    "table_norm": 0.1,
    "user_rank": 30.0,
    "item_rank": 30.0,
    "train_auc": 0.5,
    "validation_auc": 0.5,
    "train_gap_loss": 0.693,
    "list_overlap": 0.03,
    "train_saturated": 0.0,
    "train_saturated_wrong": 0.0,
    "parameters": 1e5,
    "stride": 0.05,
    "observations": 1e5,
    "item_cosine_sd": 0.1,
    "user_cosine_sd": 0.1,
    "list_popular": 0.05,
    "item_first": 0.05,
    "user_first": 0.05,
    "item_simplex": 0.0,
    "dead": 0.0,
}
SOUND = START | {
    "user_cosine": 0.2,
    "item_cosine": 0.1,
    "moved": 3.0,
    "user_norm": 2.0,
    "item_norm": 2.0,
    "train_auc": 0.95,
    "validation_auc": 0.88,
    "train_gap_loss": 0.2,
    "table_norm": 0.3,
}
TRAINED = {"loss": 0.25, "l2": 0.01, "gradient": 0.01, "fed_gradient": 0.01}
TRAINED |= {"false_negatives": 0.02, "identical_inputs": 0.001}
CONFIG = Config(loss=LossConfig("bpr"), train=TrainConfig(l2=1e-3))
RATINGS = dataclasses.replace(CONFIG, loss=LossConfig("mse"))


def named(
    config: Config | None = CONFIG,
    start: dict[str, Any] | None = None,
    trained: dict[str, Any] | None = None,
    judged: tuple[float, ...] = (0.2, 0.3, 0.3),
    **end: float,
) -> list[str]:
    """What is found in a run of 300 steps whose newest figures are sound but for those given."""
    metric = config.metric if config else "recall@20"
    lines = [
        {"step": 0, "split": "doctor"} | START | (start or {}),
        *({"step": 100, "split": "validation", metric: value} for value in judged),
        {"step": 300, "split": "train"} | TRAINED | (trained or {}),
        {"step": 300, "split": "doctor"} | SOUND | end,
    ]
    return [finding.name for finding in findings(Course(config, lines))]


def test_sound_figures_name_nothing():
    assert named() == []
    assert named(RATINGS, judged=(1.0, 0.9, 0.9), rating_sd=1.1, rating_mean=3.5) == []


DEEP = dataclasses.replace(CONFIG, model=ModelConfig(layers=20))
COSINE = dataclasses.replace(
    CONFIG, model=ModelConfig(score="cosine"), loss=LossConfig("bpr", temperature=20.0)
)
SHARP = dataclasses.replace(COSINE, loss=LossConfig("bpr", temperature=0.01))
AT_LOG2 = {"loss": 0.70, "l2": 0.007}

PLANTED: dict[str, dict[str, Any]] = {
    "accumulated-gradients": {"trained": {"fed_gradient": 5.0}},
    "sum-in-sigmoid": {"trained": {"loss": 1e-6, "l2": 0.0}, "train_gap_loss": 0.5},
    "softmax-outputs": {"item_simplex": 1.0},
    "identical-negatives": {"trained": AT_LOG2 | {"identical_inputs": 0.87}},
    "narrow-negatives": {"train_auc": 0.55, "trained": {"loss": 0.2}},
    "false-negatives": {"trained": {"false_negatives": 0.4}},
    "ratings-not-centred": {"config": RATINGS, "carried": 3.2, "pair_cosine": 0.8}
    | {"rating_mean": 3.5, "rating_sd": 1.1, "judged": (1.0, 0.9)},
    "learning-rate-high": {"trained": {"loss": 5.0}, "train_saturated_wrong": 0.3},
    "learning-rate-low": {"trained": AT_LOG2, "moved": 1e-3},
    "l2-strong": {"trained": AT_LOG2, "user_norm": 0.01, "item_norm": 0.02, "table_norm": 0.05},
    "temperature-high": {"config": COSINE},
    "temperature-low": {"config": SHARP, "train_saturated": 0.9},
    "over-smoothing": {"config": DEEP, "start": {"item_cosine": 0.5}, "item_cosine": 0.93},
    "overfitting": {"judged": (0.3, 0.25, 0.2), "train_auc": 1.0, "validation_auc": 0.78},
    "dead-relus": {"dead": 0.8},
    "exploding-norms": {"user_norm": 90.0, "train_saturated": 0.99},
    "nothing-learned": {"trained": AT_LOG2, "moved": 2.0},
    "popularity-only": {"list_overlap": 0.95, "list_popular": 0.8},
    "same-lists": {"list_overlap": 0.95},
    "collapse": {"item_cosine": 0.99},
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_named_first(name):
    assert named(**PLANTED[name])[0] == name


def test_every_rule_can_speak():
    assert len(PLANTED) >= len(RULES)


@pytest.mark.parametrize("name", PLANTED)
def test_a_finding_tells_figures_a_cause_and_what_to_change(name):
    planted = dict(PLANTED[name])
    config = planted.pop("config", CONFIG)
    start, trained = planted.pop("start", {}), planted.pop("trained", {})
    judged = planted.pop("judged", (0.3,))
    lines = [
        {"step": 0, "split": "doctor"} | START | start,
        *({"step": 9, "split": "validation", config.metric: value} for value in judged),
        {"step": 9, "split": "train"} | TRAINED | trained,
        {"step": 9, "split": "doctor"} | SOUND | planted,
    ]
    first = findings(Course(config, lines))[0]
    assert any(c.isdigit() for c in " ".join(first.evidence))
    assert all((first.cause, first.changes, first.title))
    assert set(first.to_dict()) == {"name", "title", "evidence", "cause", "changes"}
    assert first.lines()[0] == f"{name}: {first.title}"


def test_mistakes_are_told_by_figures_and_never_by_the_configuration():
    confessed = dataclasses.replace(CONFIG, mistakes=("accumulated-gradients", "sum-in-sigmoid"))
    assert named(confessed) == []
    for name in ("accumulated-gradients", "sum-in-sigmoid"):
        assert named(**PLANTED[name]) == named(confessed, **PLANTED[name])


def test_a_run_that_broke_is_told_by_what_it_left():
    lines = [
        {"step": 0, "split": "doctor"} | START,
        {"step": 40, "split": "doctor", "not_finite": 1.0, "gradient": 1e9, "fed_gradient": 1e9},
    ]
    config = dataclasses.replace(CONFIG, optim=OptimConfig(learning_rate=5.0))
    (found,) = findings(Course(config, lines))
    assert found.name == "learning-rate-high"
    assert "not finite" in " ".join(found.evidence)
    assert "now 5" in found.changes[0]


def test_negatives_that_are_picked_are_not_taken_for_a_sum_in_a_sigmoid():
    hard = named(trained={"loss": 0.19, "l2": 0.0}, train_gap_loss=5.0)
    assert "sum-in-sigmoid" not in hard


BY_HEART = {"train_auc": 1.0, "validation_auc": 0.8, "train_gap_loss": 0.001}


def test_pairs_learnt_by_heart_before_the_first_evaluation_are_told_by_what_they_cost():
    by_heart = BY_HEART | {"validation_gap_loss": 0.5}
    assert named(judged=(0.3, 0.3, 0.299, 0.298), **by_heart) == ["overfitting"]
    # It still learns; pairs of validation cost little more; validation is as good as train.
    assert named(judged=(0.3, 0.31, 0.32, 0.33), **by_heart) == []
    assert named(judged=(0.3, 0.3, 0.299, 0.298), **BY_HEART, validation_gap_loss=0.005) == []
    assert named(judged=(0.3, 0.3, 0.299), **by_heart | {"validation_auc": 0.95}) == []


def test_propagation_is_told_from_other_collapses_by_noise_that_it_aligned_already():
    alike = {"item_cosine": 0.999, "list_overlap": 0.9}
    sparse = {"start": {"item_cosine": 0.05}}
    assert named(DEEP, **sparse, **alike)[0] == "over-smoothing"
    assert "over-smoothing" not in named(DEEP, start={"item_cosine": 0.01}, **alike)


def test_thresholds_are_numbers_with_a_reason_each():
    source = Path(thresholds.__file__).read_text()
    names = [name for name in vars(thresholds) if name.isupper()]
    assert len(names) > 15
    for name in names:
        assert isinstance(getattr(thresholds, name), float | int)
        _, _, after = source.partition(f"\n{name} = ")
        assert after.splitlines()[1].startswith('"""')


def test_nothing_measured_is_nothing_found():
    assert findings(Course(CONFIG, [])) == []
