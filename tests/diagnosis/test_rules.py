"""Test that rules name a problem planted in the records of real runs first, and no others."""

import dataclasses
from pathlib import Path
from typing import Any

import made_run
import pytest

from jaxrec.config import Config, LossConfig, ModelConfig, NegativesConfig, OptimConfig
from jaxrec.diagnosis import thresholds
from jaxrec.diagnosis.diagnose import diagnose
from jaxrec.diagnosis.finding import Finding
from jaxrec.diagnosis.history import Course
from jaxrec.diagnosis.rules import AT_ONCE, RULES, findings
from jaxrec.runfolder import read_metrics

CONFIG = made_run.CONFIG
RATINGS = dataclasses.replace(CONFIG, loss=LossConfig("mse"), negatives=NegativesConfig())


def planted_in(
    records: list[dict[str, Any]],
    metric: str,
    start: dict[str, Any],
    trained: dict[str, Any],
    judged: tuple[float, ...],
    end: dict[str, Any],
) -> list[dict[str, Any]]:
    """Return a run's records with figures replaced at its start, in its last steps and at its end.

    Only figures that the doctor records can be planted.
    """
    lines = [dict(r) for r in records if r["split"] in ("doctor", "train")]
    measured = [r for r in lines if r["split"] == "doctor"]
    steps = [r for r in lines if r["split"] == "train"]
    names = {name for r in lines for name in r} | {"not_finite"}
    assert {*start, *trained, *end} <= names
    measured[0] |= start
    measured[-1] |= end
    for line in steps[-4:]:  # the newest loss is a mean over several lines of the log
        line |= trained
    seen = [r for r in records if r["split"] == "validation"][: len(judged)]
    return [*lines, *(r | {metric: value} for r, value in zip(seen, judged, strict=True))]


def of(
    config: Config = CONFIG,
    start: dict[str, Any] | None = None,
    trained: dict[str, Any] | None = None,
    judged: tuple[float, ...] = (0.7, 0.76, 0.76),
    **end: float,
) -> list[Finding]:
    """Return the findings in a sound run whose newest figures are replaced by the given ones."""
    run = made_run.trained_on_ratings() if config.objective.errors else made_run.trained()
    records = read_metrics(run / "metrics.jsonl")
    parts = start or {}, trained or {}, judged, end
    return findings(Course(config, planted_in(records, config.metric, *parts)))


def named(*args: Any, **kwargs: Any) -> list[str]:
    """Return the names of the findings of :func:`of`."""
    return [finding.name for finding in of(*args, **kwargs)]


@pytest.mark.long
def test_sound_runs_name_nothing():
    for run in (made_run.trained(), made_run.trained_on_ratings()):
        assert diagnose(run).findings == []
    assert named() == []
    assert named(RATINGS, judged=(0.9, 0.8, 0.8)) == []


DEEP = dataclasses.replace(CONFIG, model=ModelConfig(layers=20))
COSINE = dataclasses.replace(
    CONFIG, model=ModelConfig(score="cosine"), loss=LossConfig("bpr", temperature=20.0)
)
SHARP = dataclasses.replace(COSINE, loss=LossConfig("bpr", temperature=0.01))
L2 = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, l2=10.0))
AT_LOG2 = {"loss": 0.70, "l2": 0.007}
BLIND = {"train_auc": 0.52, "validation_auc": 0.5, "train_gap_loss": 0.69}

PLANTED: dict[str, dict[str, Any]] = {
    "accumulated-gradients": {"trained": {"fed_gradient": 5.0}},
    "sum-in-sigmoid": {"trained": {"loss": 1e-6, "l2": 0.0}, "train_gap_loss": 0.5},
    "softmax-outputs": {"item_simplex": 1.0},
    "identical-negatives": {"trained": AT_LOG2 | {"identical_inputs": 0.87}},
    "narrow-negatives": {"train_auc": 0.55, "trained": {"loss": 0.2}},
    "false-negatives": {"trained": {"false_negatives": 0.4}},
    "ratings-not-centred": {"config": RATINGS, "carried": 3.2, "pair_cosine": 0.8}
    | {"judged": (1.0, 0.9)},
    "learning-rate-high": {"trained": {"loss": 5.0}, "train_saturated_wrong": 0.3},
    "learning-rate-low": {"trained": AT_LOG2, "moved": 1e-3} | BLIND,
    "l2-strong": {"config": L2, "trained": AT_LOG2, "table_norm": 0.003}
    | {"user_norm": 0.01, "item_norm": 0.02}
    | BLIND,
    "temperature-high": {"config": COSINE},
    "temperature-low": {"config": SHARP, "start": {"train_saturated": 0.7}}
    | {"train_saturated": 0.9},
    "over-smoothing": {"config": DEEP, "start": {"item_cosine": 0.5}, "item_cosine": 0.93},
    "overfitting": {"judged": (0.8, 0.7, 0.6), "train_auc": 1.0, "validation_auc": 0.78},
    "dead-relus": {"config": RATINGS, "dead": 0.8, "judged": (1.0, 0.9)},
    "exploding-norms": {"user_norm": 90.0, "train_saturated": 0.99},
    "nothing-learned": {"trained": AT_LOG2, "moved": 2.0} | BLIND,
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
    first = of(**PLANTED[name])[0]
    assert any(c.isdigit() for c in " ".join(first.evidence))
    assert all((first.cause, first.changes, first.title))
    assert set(first.to_dict()) == {"name", "title", "evidence", "cause", "changes"}
    assert first.lines()[0] == f"{name}: {first.title}"


@pytest.mark.parametrize("name", PLANTED)
def test_no_change_is_one_that_the_configuration_has_already(name):
    planted = dict(PLANTED[name])
    config = planted.pop("config", CONFIG)
    for finding in of(config, **planted):
        told = "\n".join(finding.changes)
        assert "--mistakes" not in told  # no mistake was planted on purpose
        assert "--negatives.popularity 0," not in told
        assert "--negatives.popularity 0\n" not in told
        assert "--model.final linear" not in told
        assert ("--loss.center" not in told) or not config.loss.center
        assert ("--negatives.name uniform" not in told) or config.negatives.name != "uniform"
        assert ("--model.name lightgcn" not in told) or config.model.name != "lightgcn"
        assert ("--model.score cosine" not in told) or config.model.score != "cosine"
        assert ("--train.l2 lower" not in told) or config.train.l2 > 0


MISTAKES = {
    "accumulated-gradients": "accumulated-gradients",
    "sum-in-sigmoid": "sum-in-sigmoid",
    "batch-scores": "same-lists",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_made_on_purpose_is_the_first_thing_to_take_out(mistake):
    finding = MISTAKES[mistake]
    negatives = NegativesConfig("uniform", 1)
    config = dataclasses.replace(CONFIG, negatives=negatives, mistakes=(mistake,))
    found = {f.name: f for f in of(config, **PLANTED[finding])}[finding]
    assert found.changes[0].startswith(f"take {mistake} out of --mistakes")


def test_mistakes_are_told_by_figures_and_never_by_the_configuration():
    confessed = dataclasses.replace(CONFIG, mistakes=("accumulated-gradients", "sum-in-sigmoid"))
    assert named(confessed) == []
    for name in ("accumulated-gradients", "sum-in-sigmoid"):
        assert named(**PLANTED[name]) == named(confessed, **PLANTED[name])


# Figures of healthy runs that once led to a false finding.
HEALTHY: dict[str, dict[str, Any]] = {
    # The hardest negative of a set may always score above the positive.
    "a loss above the constant's, pairs in order": {"trained": {"loss": 0.9, "l2": 0.0}},
    "a loss at the constant's, pairs in order": {"trained": AT_LOG2, "moved": 2.0},
    "cosines of 0.8 over 0.1": {
        "config": dataclasses.replace(COSINE, loss=LossConfig("bpr", temperature=0.1)),
        "train_saturated": 0.9,
    },
    "dense data": {"trained": {"false_negatives": 0.24}},
    "a catalogue of 24": {
        "list_overlap": 0.86,
        "items": 24.0,
        "trained": {"false_negatives": 0.1},
    },
    "patience past the best": {
        "config": dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, patience=5)),
        "judged": (0.8, 0.7, 0.6),
        "train_auc": 1.0,
        "validation_auc": 0.78,
        "train_gap_loss": 0.001,
        "validation_gap_loss": 0.5,
    },
    "a warm start that leans": {
        "config": dataclasses.replace(CONFIG, warm_start="runs/mf-1"),
        "start": {"item_cosine": 0.8},
        "item_cosine": 0.8,
    },
    "L2 on what is learned all the same": {"config": L2, "table_norm": 0.003},
}


@pytest.mark.parametrize("name", HEALTHY)
def test_figures_of_healthy_runs_name_nothing(name):
    assert named(**HEALTHY[name]) == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_run_that_has_hardly_begun_is_not_judged(name):
    """Find problems that show at once, but do not miss what the run has yet to learn."""
    planted = dict(PLANTED[name])
    config = planted.pop("config", CONFIG)
    run = made_run.trained_on_ratings() if config.objective.errors else made_run.trained()
    start, trained = (planted.pop(n, {}) for n in ("start", "trained"))
    planted.pop("judged", ())
    records = read_metrics(run / "metrics.jsonl")
    lines = planted_in(records, config.metric, start, trained, (), planted)
    # Keep the first measures, the last steps and the measures after them, as if at step 20.
    steps = [r for r in lines if r["split"] == "train"][-4:]
    measured = [r for r in lines if r["split"] == "doctor"]
    begun = [measured[0], *(r | {"step": 20} for r in (*steps, measured[-1]))]
    rules = {rule.__name__ for rule in AT_ONCE}
    found = {f.name for f in findings(Course(config, begun))}
    assert rules == {"accumulated", "summed", "identical", "rate_high", "bounded"}
    at_once = {"accumulated-gradients", "sum-in-sigmoid", "identical-negatives", "softmax-outputs"}
    assert found <= at_once
    assert name not in at_once or name in found


def test_a_low_rate_is_told_early_where_the_run_will_not_get_further():
    low = PLANTED["learning-rate-low"]
    long = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, epochs=1000))
    assert named(long, **low)[0] == "learning-rate-low"
    assert "learning-rate-low" not in named(long, **low | {"moved": 0.03})
    warm = dataclasses.replace(long, optim=OptimConfig(warmup_steps=1000))
    assert named(warm, **low) == []


def test_a_run_that_broke_is_told_by_what_it_left():
    first = read_metrics(made_run.trained() / "metrics.jsonl")[0]
    lines = [
        first,
        {"step": 4, "split": "doctor", "not_finite": 1.0, "gradient": 1e9, "fed_gradient": 1e9},
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
    # The run still learns, validation pairs cost little more, or validation is as good as train.
    assert named(judged=(0.3, 0.31, 0.32, 0.33), **by_heart) == []
    assert named(judged=(0.3, 0.3, 0.299, 0.298), **BY_HEART, validation_gap_loss=0.005) == []
    assert named(judged=(0.3, 0.3, 0.299), **by_heart | {"validation_auc": 0.95}) == []


def test_propagation_is_told_from_other_collapses_by_noise_that_it_aligned_already():
    alike = {"item_cosine": 0.999, "list_overlap": 0.9}
    sparse = {"start": {"item_cosine": 0.05, "user_cosine": 0.05}}
    assert named(DEEP, **sparse, **alike)[0] == "over-smoothing"
    apart = {"start": {"item_cosine": 0.01, "user_cosine": 0.01}}
    assert "over-smoothing" not in named(DEEP, **apart, **alike)


def test_a_mean_of_few_steps_is_not_taken_for_the_loss():
    """Log the loss at every step, so that each value is that of one batch."""
    records = read_metrics(made_run.trained() / "metrics.jsonl")
    last = max(r["step"] for r in records)
    steps = [
        {"step": last + n, "split": "train", "phase": "search", "loss": 0.4 + 0.3 * (n % 2)}
        for n in range(1, 65)
    ]
    course = Course(CONFIG, [*records, *steps])
    assert course.losses[:2] == [pytest.approx(0.55), pytest.approx(0.55)]


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
