"""Rules about how a model was trained: each names one cause, or nothing."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from jaxrec.doctor import thresholds as limit
from jaxrec.doctor.course import Course
from jaxrec.doctor.finding import Finding


def constant_loss(course: Course) -> float | None:
    """The loss of the best prediction that is the same for all pairs; None where it is unknown.

    log 2 for bpr, 2 log 2 for bce, log(1 + S) for sampled softmax, 1/2 for the triplet form, the
    margin for hinge; for ratings their variance, and nothing for the decoder of levels.
    """
    config = course.config
    if config is None:
        return None
    name, spread = config.loss.name, course.last("rating_sd")
    if name == "softmax":
        in_batch = config.negatives.name == "in-batch"
        against = config.train.batch_size - 1 if in_batch else config.negatives.count
        return None if config.corrects else math.log1p(against + config.negatives.hard)
    if name == "mse":
        return None if spread is None else spread**2
    known = {"bpr": math.log(2), "bce": 2 * math.log(2), "triplet": 0.5}
    return config.loss.margin if name == "hinge" else known.get(name)


def data_loss(course: Course) -> float | None:
    """The newest loss of the steps, without L2."""
    loss, l2 = course.last("loss"), course.last("l2")
    return None if loss is None else loss - (l2 or 0.0)


def against_constant(course: Course) -> float | None:
    """The newest loss over the constant's."""
    loss, constant = data_loss(course), constant_loss(course)
    return None if loss is None or not constant else loss / constant


def _said(course: Course) -> tuple[str, ...]:
    ratio = against_constant(course)
    if ratio is None:
        return ()
    return (f"loss {data_loss(course):.4g}, {ratio:.3g} times that of a constant prediction",)


def accumulated(course: Course) -> Finding | None:
    """Gradients that add up from step to step."""
    fed, fresh = course.last("fed_gradient"), course.last("gradient")
    if fed is None or fresh is None or fed <= limit.FED * fresh:
        return None
    first = course.first("fed_gradient") or 0.0
    ratio = f"{fed / fresh:.3g}" if fresh > 0 else "unbounded"
    return Finding(
        "accumulated-gradients",
        "the optimizer is given far more than the gradient of its step",
        (
            f"norm {fed:.3g}, and the step's own gradient has {fresh:.3g}; it was {first:.3g} at "
            "the first reading",
            f"the ratio is {ratio}, and 1 in a sound loop",
            *_said(course),
        ),
        "gradients are never reset, so each step takes the sum of all before it",
        (
            "clear the gradients before each step (PyTorch: optimizer.zero_grad(); here: take "
            "accumulated-gradients out of --mistakes)",
            "a chain given as tx=: take out the stage that sums",
        ),
    )


def summed(course: Course) -> Finding | None:
    """A sum over the batch inside one sigmoid."""
    config, pair, loss = course.config, course.last("train_gap_loss"), data_loss(course)
    if config is None or config.loss.name != "bpr" or pair is None or loss is None:
        return None
    too_little = loss < min(pair / limit.SUMMED, limit.NOTHING)
    too_much = loss > limit.SUMMED * max(pair, math.log(2))
    if not too_little and not too_much:
        return None
    won = course.last("train_auc") or 0.0
    return Finding(
        "sum-in-sigmoid",
        "the loss is not the mean of what single pairs cost",
        (
            f"the steps' loss is {loss:.3g}; pairs taken one by one cost {pair:.3g} on average",
            f"{100 * (1 - won):.3g} % of the train pairs are ranked the wrong way round, and the "
            f"gradient has a norm of {course.last('gradient') or 0:.3g}",
        ),
        "the scores of all pairs are summed inside one log-sigmoid, which saturates: then no pair "
        "has a gradient any more",
        (
            "take -log sigmoid of each pair, and the mean over the pairs outside of it (here: take "
            "sum-in-sigmoid out of --mistakes)",
        ),
    )


def rate_high(course: Course) -> Finding | None:
    """Steps that overshoot."""
    moved, ratio = course.last("moved"), against_constant(course)
    wrong, bad = course.last("train_saturated_wrong") or 0.0, course.last("not_finite")
    # Of a table that L2 makes small any step is a large part.
    grown = (course.growth("table_norm") or 0.0) >= 1
    stride = (course.last("stride") or 0.0) if grown else 0.0
    worse = ratio is not None and ratio > 1
    leaps = worse and (wrong > limit.WRONG or (moved or 0.0) > limit.LEAP)
    if not bad and not leaps and stride <= limit.STRIDE:
        return None
    evidence = list(_said(course))
    if bad:
        evidence.append("numbers that are not finite (NaN or infinity)")
    if stride > limit.STRIDE:
        evidence.append(
            f"one step can move a row of the table by {100 * stride:.3g} % of its length"
        )
    if moved is not None:
        evidence.append(f"embeddings have moved {moved:.3g} times their first length")
    if wrong:
        evidence.append(f"{100 * wrong:.3g} % of the train pairs are far on the wrong side")
    rate = "" if course.config is None else f" (now {course.config.optim.learning_rate:g})"
    return Finding(
        "learning-rate-high",
        "training diverges: steps overshoot",
        tuple(evidence),
        "the learning rate is too high for this optimizer and loss",
        (
            f"--optim.learning-rate a tenth or less{rate}",
            "--optim.clip-norm 1",
            "--optim.warmup-steps 100",
        ),
    )


def rate_low(course: Course) -> Finding | None:
    """Steps that lead nowhere."""
    moved, ratio = course.last("moved"), against_constant(course)
    if moved is None or ratio is None or not course.steps:
        return None
    if moved >= limit.MOVED or ratio <= limit.AT_CONSTANT:
        return None
    rate = "" if course.config is None else f" (now {course.config.optim.learning_rate:g})"
    return Finding(
        "learning-rate-low",
        "the model has hardly been trained",
        (
            f"after {course.steps} steps embeddings have moved {moved:.2g} times their length",
            *_said(course),
        ),
        "the learning rate is too low, or there were too few steps",
        (f"--optim.learning-rate 10 to 100 times higher{rate}", "--train.epochs more"),
    )


def l2_strong(course: Course) -> Finding | None:
    """L2 that outweighs the loss: of the embeddings, or of the ids' table behind them."""
    if course.config is None or course.config.train.l2 == 0:
        return None
    sides = [x for x in (course.growth("user_norm"), course.growth("item_norm")) if x is not None]
    ratio, table = against_constant(course), course.growth("table_norm")
    shrunk = sides and max(sides) < limit.SHRUNK and ratio is not None and ratio > limit.AT_CONSTANT
    if not shrunk and (table is None or table >= limit.TABLE_SHRUNK):
        return None
    evidence = []
    if sides:
        evidence.append(f"embeddings have {max(sides):.2g} times their length at the start")
    if table is not None:
        evidence.append(f"the rows of the ids' table {table:.2g} times theirs")
    return Finding(
        "l2-strong",
        "L2 takes away what is learned",
        (*evidence, *_said(course)),
        "L2 outweighs what the loss has to say",
        (
            f"--train.l2 a tenth or less (now {course.config.train.l2:g})",
            "--train.l2-over batch: on a step's own rows, not on whole tables in every step",
        ),
    )


def false_negatives(course: Course) -> Finding | None:
    """Negatives that their users like."""
    share = course.last("false_negatives")
    if share is None or share <= limit.FALSE:
        return None
    return Finding(
        "false-negatives",
        "many negatives are items that their user has",
        (f"{100 * share:.3g} % of the negatives are in the user's own train items",),
        "negatives are drawn where the positives are (by popularity, in the batch, or from little "
        "data) and are not checked",
        (
            "--negatives.reject-known True",
            "--negatives.popularity 0",
            "--negatives.name uniform",
        ),
    )


def identical(course: Course) -> Finding | None:
    """Positives and negatives that are the same to the model."""
    share = course.last("identical_inputs")
    if share is None or share <= limit.ALIKE:
        return None
    return Finding(
        "identical-negatives",
        "a positive and its negative look the same to the model",
        (
            f"{100 * share:.3g} % of the pairs have the very same inputs on both sides",
            *_said(course),
        ),
        "the negative is chosen for its likeness in raw features: with equal features there is "
        "nothing to learn from the pair, whatever the model",
        (
            "--negatives.name uniform, without --negatives.pick same-features",
            "give items more features, or embeddings of their ids (--model.ids)",
        ),
    )


def narrow(course: Course) -> Finding | None:
    """Negatives that are unlike what is ranked."""
    ratio, won = against_constant(course), course.last("train_auc")
    if ratio is None or won is None or ratio >= limit.LEARNED or won >= limit.BLIND:
        return None
    return Finding(
        "narrow-negatives",
        "the model tells its own negatives from positives, and no others",
        (
            *_said(course),
            f"only {100 * won:.3g} % of the train pairs are ranked above a random item",
        ),
        "negatives are chosen by likeness, or from a few items: most of what is ranked is never "
        "pushed back",
        ("--negatives.name uniform", "--negatives.pick semi-hard", "--negatives.popularity 0"),
    )


def overfitted(course: Course) -> Finding | None:
    """Train pairs learnt by heart."""
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
    past = len(values) - 1 - values.index(best) >= limit.PAST
    dearer = _dearer(course)
    by_heart = past and dearer is not None and dearer > limit.BY_HEART
    if fall <= (limit.FALLEN_ERROR if error else limit.FALLEN) and not by_heart:
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
        evidence.append(f"a pair of validation costs {dearer:.3g} times what a train pair does")
    if error:
        fit, held = course.last("train_mse"), course.last("validation_mse")
        if fit is not None and held is not None:
            evidence.append(f"squared error {fit:.3g} in train, {held:.3g} in validation")
    return Finding(
        "overfitting",
        "the model learns the train pairs by heart",
        (*evidence, *parameters(course)),
        "too many parameters, too long, for so few observations",
        (
            "--train.patience 5: stop at the best evaluation, and keep it "
            "(--eval.select-on validation)",
            f"--train.l2 ten times higher (now {config.train.l2:g})",
            f"--model.dim smaller (now {config.model.dim})",
        ),
    )


def _dearer(course: Course) -> float | None:
    """What pairs of validation cost over what train pairs do."""
    train, held = course.last("train_gap_loss"), course.last("validation_gap_loss")
    return None if train is None or held is None else held / max(train, 1e-9)


def parameters(course: Course) -> tuple[str, ...]:
    """Parameters against observations, as evidence."""
    count, seen = course.last("parameters"), course.last("observations")
    if not count or not seen:
        return ()
    return (
        f"{count:,.0f} parameters for {seen:,.0f} observations: {count / seen:.3g} of one each",
    )


def known_test(start: Iterable[Mapping[str, Any]]) -> Finding | None:
    """Test pairs that the parameters which the run starts from have been trained on.

    Args:
      start: what the run starts from, as its ``env.json`` has it.
    """
    for source in start:
        known, total = source.get("trained", {}).get("test", (0, 0))
        if total and known > limit.KNOWN_TEST * total:
            return Finding(
                "trained-on-test",
                "test metrics count pairs that the start of the run has been trained on",
                (f"{known:,} of {total:,} test pairs; the start is {source['run']}",),
                f"the split does not go on with that run's ({source.get('reason', 'by its data')})",
                (
                    "leave out the options by which the split differs, so that the run keeps it",
                    f"begin anew, without {source['as']}",
                ),
            )
    return None
