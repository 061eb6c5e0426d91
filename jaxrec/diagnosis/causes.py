"""Rules that find causes of problems in how a model was trained."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from jaxrec import losses
from jaxrec.config import Config
from jaxrec.diagnosis import thresholds as limit
from jaxrec.diagnosis.finding import Finding, changes, mistaken
from jaxrec.diagnosis.history import Course


def constant_loss(course: Course) -> float | None:
    """Return the loss of the best constant prediction; None if unknown.

    Takes the loss from the run's records, or else computes it from the configuration if possible.
    """
    recorded, config = course.last("constant_loss"), course.config
    if recorded is not None or config is None:
        return recorded
    name, spread = config.loss.name, course.last("rating_sd")
    if name == "mse":
        return None if spread is None else spread**2
    if name not in losses.AT_GAP:
        return None
    items, how = course.last("items"), config.negatives
    unknown = config.corrects or (items is None and how.name == "all" and how.picks is None)
    if name == "softmax" and unknown:
        return None
    negatives = how.against(config.train.batch_size, int(items or 0)) + how.hard
    return losses.at_gap(name, 0.0, float(negatives), config.loss.margin)


def data_loss(course: Course) -> float | None:
    """Return the newest mean of the training loss without L2; None if there is none."""
    return course.losses[0] if course.losses else None


def against_constant(course: Course) -> float | None:
    """Return the ratio of the newest loss to that of a constant prediction; None if unknown."""
    loss, constant = data_loss(course), constant_loss(course)
    return None if loss is None or not constant else loss / constant


def learned(course: Course) -> bool:
    """Return whether the model predicts its train pairs better than a constant prediction.

    The rating error or the AUC decides if one is recorded, since the loss may mislead. With hard
    negatives, even a good model has a higher loss than a constant prediction. With small scores,
    the loss falls late.
    """
    auc, error, spread = (course.last(n) for n in ("train_auc", "train_mse", "rating_sd"))
    if error is not None and spread:
        return error < limit.AT_CONSTANT * spread**2
    if auc is not None:
        return auc >= limit.TOLD
    ratio = against_constant(course)
    return ratio is not None and ratio < limit.LEARNED


def _said(course: Course) -> tuple[str, ...]:
    ratio = against_constant(course)
    if ratio is None:
        return ()
    return (f"loss {data_loss(course):.4g}, {ratio:.3g} times that of a constant prediction",)


def accumulated(course: Course) -> Finding | None:
    """Find gradients that accumulate from step to step."""
    fed, fresh = course.last("fed_gradient"), course.last("gradient")
    if fed is None or fresh is None or fed <= limit.FED * fresh:
        return None
    first = course.first("fed_gradient") or 0.0
    ratio = f"{fed / fresh:.3g}" if fresh > 0 else "unbounded"
    return Finding(
        "accumulated-gradients",
        "the optimizer receives far more than the gradient of its step",
        (
            f"norm {fed:.3g} against {fresh:.3g} of the step's own gradient; it was {first:.3g} at "
            "the first record",
            f"the ratio is {ratio}; it should be 1",
            *_said(course),
        ),
        "gradients are never reset, so each step applies the sum of all earlier ones",
        changes(
            course.config,
            ("take accumulated-gradients out of --mistakes", mistaken("accumulated-gradients")),
            "clear the gradients before each step (PyTorch: optimizer.zero_grad())",
            "in a chain given as tx=, remove the stage that sums",
        ),
    )


def summed(course: Course) -> Finding | None:
    """Find a loss that sums over the batch inside one sigmoid."""
    config, pair, loss = course.config, course.last("train_gap_loss"), data_loss(course)
    if config is None or config.loss.name != "bpr" or pair is None or loss is None:
        return None
    if config.negatives.name == "exposed" or config.negatives.picks in ("similar", "same-features"):
        return None  # train_gap_loss has random negatives, so the losses are not comparable
    too_little = loss < min(pair / limit.SUMMED, limit.NOTHING)
    too_much = loss > limit.SUMMED * max(pair, math.log(2))
    if not too_little and not too_much:
        return None
    won = course.last("train_auc") or 0.0
    return Finding(
        "sum-in-sigmoid",
        "the loss is not the mean over single pairs",
        (
            f"the steps' loss is {loss:.3g}; the mean loss of single pairs is {pair:.3g}",
            f"{100 * (1 - won):.3g} % of the train pairs are ranked the wrong way round, and the "
            f"gradient has a norm of {course.last('gradient') or 0:.3g}",
        ),
        "the scores of all pairs are summed inside one log-sigmoid, which saturates and leaves "
        "no pair a gradient",
        changes(
            config,
            ("take sum-in-sigmoid out of --mistakes", mistaken("sum-in-sigmoid")),
            "apply -log sigmoid to each pair, then take the mean over pairs",
        ),
    )


def _rate(course: Course) -> str:
    return "" if course.config is None else f" (now {course.config.optim.learning_rate:g})"


def rate_high(course: Course) -> Finding | None:
    """Find a learning rate so high that steps overshoot."""
    moved, ratio = course.last("moved"), against_constant(course)
    wrong, bad = course.last("train_saturated_wrong") or 0.0, course.last("not_finite")
    # If L2 has shrunk a table, every step is large relative to the table.
    grown = (course.growth("table_norm") or 0.0) >= 1
    stride = (course.last("stride") or 0.0) if grown else 0.0
    worse = ratio is not None and ratio > limit.WORSE
    far = (moved or 0.0) > limit.LEAP and not learned(course)
    leaps = worse and (wrong > limit.WRONG or far)
    if not bad and not (course.begun and (leaps or stride > limit.STRIDE)):
        return None
    evidence = list(_said(course))
    if bad:
        evidence.append("some numbers are not finite (NaN or infinity)")
    if stride > limit.STRIDE:
        evidence.append(f"one step can move a table row by {100 * stride:.3g} % of its length")
    if moved is not None:
        evidence.append(f"embeddings have moved {moved:.3g} times their initial length")
    if wrong:
        evidence.append(f"{100 * wrong:.3g} % of the train pairs are saturated in the wrong order")
    return Finding(
        "learning-rate-high",
        "training diverges: steps overshoot",
        tuple(evidence),
        "the learning rate is too high for this optimizer and loss",
        changes(
            course.config,
            f"--optim.learning-rate a tenth or less{_rate(course)}",
            ("--optim.clip-norm 1", _may_clip),
            ("--optim.warmup-steps 100", lambda config: config.optim.warmup_steps < 100),
        ),
    )


def _may_clip(config: Config) -> bool:
    by_rows = config.optim.asks_for_rows or config.mesh.memory == "host"
    return config.optim.clip_norm is None and config.objective.users and not by_rows


def rate_low(course: Course) -> Finding | None:
    """Find a learning rate too low, or a training too short, to move the embeddings."""
    moved, ratio, config = course.last("moved"), against_constant(course), course.config
    if moved is None or ratio is None or config is None:
        return None
    # Extrapolate the movement to the end of an unfinished run, and do not count warm-up steps.
    further = min(limit.AHEAD, 1 / course.progress)
    warm = course.steps < config.optim.warmup_steps + limit.BEGUN
    if warm or further * moved >= limit.MOVED or ratio <= limit.AT_CONSTANT:
        return None
    return Finding(
        "learning-rate-low",
        "the model has hardly been trained",
        (
            f"after {course.steps} steps, embeddings have moved by {moved:.2g} times their length",
            *_said(course),
        ),
        "the learning rate is too low, or there were too few steps",
        changes(
            config,
            f"--optim.learning-rate 10 to 100 times higher{_rate(course)}",
            (
                f"--train.epochs more (now {config.train.epochs})",
                lambda config: config.train.steps is None,
            ),
            (
                f"--train.steps more (now {config.train.steps})",
                lambda config: config.train.steps is not None,
            ),
        ),
    )


def l2_strong(course: Course) -> Finding | None:
    """Find L2 that outweighs the loss, on the embeddings or on the table of id embeddings."""
    if course.config is None or course.config.train.l2 == 0:
        return None
    sides = [x for x in (course.growth("user_norm"), course.growth("item_norm")) if x is not None]
    ratio, table = against_constant(course), course.growth("table_norm")
    shrunk = sides and max(sides) < limit.SHRUNK and ratio is not None and ratio > limit.AT_CONSTANT
    # With only the hardest of many negatives, even a healthy model has the loss of a constant
    # prediction.
    shrunk = shrunk and not (course.config.negatives.picks and learned(course))
    gone = table is not None and table < limit.TABLE_SHRUNK and not learned(course)
    if not shrunk and not gone:
        return None
    evidence = []
    if sides:
        evidence.append(f"embeddings have shrunk to {max(sides):.2g} times their initial length")
    if table is not None:
        evidence.append(
            f"rows of the table of id embeddings have shrunk to {table:.2g} times their initial "
            "length"
        )
    return Finding(
        "l2-strong",
        "L2 regularization undoes the training",
        (*evidence, *_said(course)),
        "the gradient of L2 outweighs that of the loss",
        changes(
            course.config,
            f"--train.l2 a tenth or less (now {course.config.train.l2:g})",
            (
                "--train.l2-over batch: regularize only the rows of each step",
                lambda config: config.train.l2_of_all,
            ),
        ),
    )


def false_negatives(course: Course) -> Finding | None:
    """Find negatives that are too often train items of their user."""
    share = course.last("false_negatives")
    users, items, seen = (course.last(name) for name in ("users", "items", "observations"))
    density = seen / (users * items) if users and items and seen else 0.0
    if share is None or share <= max(limit.FALSE, limit.DENSE * density):
        return None
    told = f"; for items drawn uniformly it would be {100 * density:.3g} %" if density else ""
    return Finding(
        "false-negatives",
        "many negatives are train items of their user",
        (f"{100 * share:.3g} % of the negatives are train items of their user{told}",),
        "negatives are drawn from popular items, from the batch or from little data, and not "
        "checked against the user's items",
        changes(
            course.config,
            ("--negatives.reject-known True", lambda config: not config.negatives.rejects),
            (
                "--negatives.popularity 0, or lower",
                lambda config: config.negatives.popularity > 0,
            ),
            ("--negatives.name uniform", _not_uniform),
        ),
    )


def _not_uniform(config: Config) -> bool:
    return config.negatives.name != "uniform"


def identical(course: Course) -> Finding | None:
    """Find pairs whose positive and negative have the same inputs."""
    share = course.last("identical_inputs")
    if share is None or share <= limit.ALIKE:
        return None
    return Finding(
        "identical-negatives",
        "a positive and its negative look the same to the model",
        (
            f"in {100 * share:.3g} % of the pairs, both items have the same inputs",
            *_said(course),
        ),
        "the negative has the same features as the positive, so no model can learn from the pair",
        changes(
            course.config,
            (
                "--negatives.name uniform, without --negatives.pick same-features",
                lambda config: config.negatives.picks == "same-features",
            ),
            "give items more features",
            ("--model.ids, an embedding for each item", lambda config: not config.model.ids),
        ),
    )


def narrow(course: Course) -> Finding | None:
    """Find negatives that do not represent the items that are ranked."""
    ratio, won = against_constant(course), course.last("train_auc")
    if ratio is None or won is None or ratio >= limit.LEARNED or won >= limit.BLIND:
        return None
    return Finding(
        "narrow-negatives",
        "the model separates positives from its training negatives, but not from other items",
        (
            *_said(course),
            f"only {100 * won:.3g} % of the train pairs are ranked above a random item",
        ),
        "negatives are chosen by similarity or from few items, so most ranked items never serve as "
        "negatives",
        changes(
            course.config,
            ("--negatives.name uniform", _not_uniform),
            (
                f"--negatives.candidates fewer (now {_of(course, 'candidates')})",
                lambda config: config.negatives.candidates > 1,
            ),
            (
                "--negatives.pick semi-hard",
                lambda config: config.negatives.picks not in (None, "semi-hard"),
            ),
            ("--negatives.popularity 0", lambda config: config.negatives.popularity > 0),
            ("--negatives.hard 0", lambda config: config.negatives.hard > 0),
        ),
    )


def _of(course: Course, field: str) -> object:
    return None if course.config is None else getattr(course.config.negatives, field)


def overfitted(course: Course) -> Finding | None:
    """Find overfitting to the train pairs."""
    values, config = course.judged, course.config
    ratio = against_constant(course)
    if config is None or len(values) < 2 or (ratio is not None and ratio >= limit.LEARNED):
        return None
    best, last = max(values), values[-1]
    error = best < 0
    fall = (best - last) / abs(best) if best else 0.0
    train, held = course.last("train_auc"), course.last("validation_auc")
    gap = None if train is None or held is None else train - held
    if not error and (gap is None or gap <= limit.GAP):
        return None
    dearer = _dearer(course)
    past = len(values) - 1 - values.index(best) >= limit.PAST
    by_heart = past and dearer is not None and dearer > limit.BY_HEART
    if config.train.patience:
        # The run stops early and keeps its best parameters, so judge the records up to these.
        kept = course.upto(values.index(best))
        dearer = _dearer(kept)
        if not by_heart or dearer is None or dearer <= limit.BY_HEART:
            return None
    elif not by_heart:
        users = course.last("users")
        noise = limit.NOISE / math.sqrt(users) if users and not error else 0.0
        if fall <= (limit.FALLEN_ERROR if error else limit.FALLEN) or best - last <= noise:
            return None
    evidence = [
        f"{config.metric} on {config.eval.select_on} was {abs(best):.4g} at best and is "
        f"{abs(last):.4g} now"
    ]
    if gap is not None and train is not None and held is not None:
        evidence.append(
            f"{100 * train:.3g} % of the train pairs and {100 * held:.3g} % of the validation "
            "pairs are ranked above an item unknown to the user"
        )
    if dearer is not None:
        evidence.append(f"the loss of a validation pair is {dearer:.3g} times that of a train pair")
    if error:
        fit, held = course.last("train_mse"), course.last("validation_mse")
        if fit is not None and held is not None:
            evidence.append(f"squared error {fit:.3g} in train, {held:.3g} in validation")
    return Finding(
        "overfitting",
        "the model memorizes the train pairs",
        (*evidence, *parameters(course)),
        "too many parameters, trained too long, for the number of observations",
        changes(
            config,
            (
                "--train.patience 5: stop after the best evaluation and keep its parameters "
                "(--eval.select-on validation)",
                lambda config: config.train.patience == 0,
            ),
            f"--train.l2 {'1e-3' if config.train.l2 == 0 else 'ten times higher'} "
            f"(now {config.train.l2:g})",
            f"--model.dim smaller (now {config.model.dim})",
        ),
    )


def _dearer(course: Course) -> float | None:
    """Return the ratio of the validation pairs' loss to the train pairs' loss; None if unknown."""
    train, held = course.last("train_gap_loss"), course.last("validation_gap_loss")
    return None if train is None or held is None else held / max(train, 1e-9)


def parameters(course: Course) -> tuple[str, ...]:
    """Report the number of parameters per observation, as evidence."""
    count, seen = course.last("parameters"), course.last("observations")
    if not count or not seen:
        return ()
    return (
        f"{count:,.0f} parameters for {seen:,.0f} observations: {count / seen:.3g} per observation",
    )


def known_test(start: Iterable[Mapping[str, Any]]) -> Finding | None:
    """Find test pairs on which the warm start was trained.

    Args:
      start: the sources of the warm start, from ``env.json``.
    """
    for source in start:
        known, total = source.get("trained", {}).get("test", (0, 0))
        if total and known > limit.KNOWN_TEST * total:
            return Finding(
                "trained-on-test",
                "test metrics count pairs on which the run's warm start was trained",
                (f"{known:,} of {total:,} test pairs; the warm start is {source['run']}",),
                f"the run does not keep that run's split ({source.get('reason', 'by its data')})",
                (
                    "drop the options that change the split",
                    f"train from scratch, without {source['as']}",
                ),
            )
    return None
