"""Rules that find symptoms in embeddings and scores; they apply to any model."""

import math

from jaxrec import losses
from jaxrec.config import Config
from jaxrec.diagnosis import thresholds as limit
from jaxrec.diagnosis.causes import against_constant, constant_loss, learned, parameters
from jaxrec.diagnosis.finding import Change, Finding, changes, mistaken
from jaxrec.diagnosis.history import Course
from jaxrec.diagnosis.sample_measures import TOP

_COSINE: Change = (
    "--model.score cosine with --loss.temperature 0.1",
    lambda config: (
        config.model.score != "cosine" and config.loss.name != "levels" and config.objective.users
    ),
)
_LINEAR: Change = ("--model.final linear", lambda config: config.model.final != "linear")


def _cosines(course: Course) -> tuple[str, ...]:
    found = []
    for side in ("user", "item"):
        mean, sd = course.last(f"{side}_cosine"), course.last(f"{side}_cosine_sd")
        rank, first = course.last(f"{side}_rank"), course.last(f"{side}_first")
        if mean is None or sd is None:
            continue
        told = f"cosine among {side}s {mean:.3f}, standard deviation {sd:.3f}"
        if rank is not None and first is not None:
            told += f"; effective rank {rank:.3g}, first direction {100 * first:.0f} %"
        found.append(told)
    return tuple(found)


def not_centred(course: Course) -> Finding | None:
    """Find dot products that must reproduce the mean rating, because ratings are not centred."""
    carried, lean = course.last("carried"), course.last("pair_cosine")
    if carried is None or lean is None or carried <= limit.CARRIED or lean <= limit.LEANING:
        return None
    mean, sd = course.last("rating_mean"), course.last("rating_sd")
    return Finding(
        "ratings-not-centred",
        "all vectors share a direction, because dot products must reproduce the mean rating",
        (
            f"scores without the model's mean and biases are {carried:.3g} standard deviations of "
            f"the ratings on average (ratings: mean {mean:.3g}, standard deviation {sd:.3g})",
            f"mean cosine of users with items {lean:.3f}",
            *_cosines(course),
            *parameters(course),
        ),
        "a dot product is fitted to raw ratings; a rectifier on the outputs makes it worse",
        changes(
            course.config,
            ("--loss.center: predict the difference of a rating from the mean", _not_centred),
            (
                "--model.biases: a number for each user and item",
                lambda config: not config.model.biases,
            ),
            _LINEAR,
        ),
    )


def _not_centred(config: Config) -> bool:
    return not config.loss.center


def bounded(course: Course) -> Finding | None:
    """Find embeddings that are probability distributions."""
    sides = [x for x in (course.last("user_simplex"), course.last("item_simplex")) if x is not None]
    if not sides or max(sides) <= limit.SIMPLEX:
        return None
    ratio = against_constant(course)
    told = () if ratio is None else (f"loss {ratio:.3g} times that of a constant prediction",)
    return Finding(
        "softmax-outputs",
        "embeddings are probability distributions",
        (
            f"{100 * max(sides):.0f} % of the rows have no negative entry and sum to 1",
            "a product of two such rows lies in [0, 1], a gap of two scores in [-1, 1]: a loss of "
            "the form 1 - sigmoid(gap) cannot leave [0.269, 0.731]",
            *told,
            *_cosines(course),
        ),
        "a softmax on the outputs",
        changes(course.config, _LINEAR, _COSINE),
    )


def smoothed(course: Course) -> Finding | None:
    """Find propagation that makes all nodes alike."""
    layers = 0 if course.config is None else course.config.model.layers
    sides = ("user_cosine", "item_cosine")
    before = [x for x in map(course.first, sides) if x is not None]
    now = [x for x in map(course.last, sides) if x is not None]
    if layers < 2 or not now or not course.noise_first:
        return None
    if max(before) <= limit.BEFORE or max(now) <= limit.SMOOTHED:
        return None
    return Finding(
        "over-smoothing",
        "propagation makes all nodes alike",
        (
            f"before the first step, when the table is noise, {layers} layers gave embeddings a "
            f"mean cosine of {max(before):.3f}; it is {max(now):.3f} now",
            *_cosines(course),
        ),
        "each layer averages neighbours; after many layers only the graph's first eigenvector is "
        "left, the same for every node",
        changes(
            course.config,
            (f"--model.layers 2 or 3 (now {layers})", lambda config: config.model.layers > 3),
            (f"--model.layers fewer (now {layers})", lambda config: config.model.layers <= 3),
            (
                "--model.name lightgcn: the mean of all layers",
                lambda config: config.model.name != "lightgcn",
            ),
        ),
    )


def dead(course: Course) -> Finding | None:
    """Find rectified units that are always 0."""
    share = course.last("dead")
    if share is None or share <= limit.DEAD:
        return None
    return Finding(
        "dead-relus",
        "most rectified units are 0 whatever the input",
        (f"{100 * share:.3g} % of the units are 0 for every row of the sample", *_cosines(course)),
        "a step that was too large has pushed them below 0, where they have no gradient",
        changes(
            course.config,
            "--optim.learning-rate a tenth",
            (
                "--model.activation gelu",
                lambda config: (
                    config.model.name == "two-tower" and config.model.activation == "relu"
                ),
            ),
            ("--optim.warmup-steps 100", lambda config: config.optim.warmup_steps < 100),
        ),
    )


def temperature(course: Course) -> Finding | None:
    """Find a temperature that is too high or too low for bounded scores."""
    config = course.config
    if config is None or config.model.score != "cosine" or not config.objective.negatives:
        return None
    t, floor = config.loss.temperature, _floor(course)
    ratio = against_constant(course)
    if floor is not None and floor > limit.FLOOR:
        evidence = (
            f"cosines divided by {t:g}, the temperature, lie within +-{1 / t:.3g}: the loss cannot "
            f"fall below {100 * floor:.0f} % of a constant prediction's loss",
            *(() if ratio is None else (f"it is at {100 * ratio:.0f} %",)),
        )
        change = f"--loss.temperature 0.1 to 0.2 (now {t:g})"
        return Finding(
            "temperature-high",
            "the temperature keeps the loss from falling",
            evidence,
            "scores are bounded and too close to each other",
            (change,),
        )
    begin, sharp = (f("train_saturated") or 0.0 for f in (course.first, course.last))
    if not course.noise_first or min(begin, sharp) <= limit.SHARP:
        return None
    return Finding(
        "temperature-low",
        "the temperature saturates the sigmoid",
        (
            f"{100 * sharp:.0f} % of the train pairs have hardly a gradient; before the first "
            f"step, when cosines were noise, it was {100 * begin:.0f} %",
        ),
        "scores are divided by too small a number",
        (f"--loss.temperature 0.1 to 0.2 (now {t:g})",),
    )


def _floor(course: Course) -> float | None:
    """Return the ratio of the lowest loss of bounded scores to the loss of a constant prediction.

    Returns None if the ratio is unknown.
    """
    config, constant = course.config, constant_loss(course)
    if config is None or not constant or config.loss.name not in losses.AT_GAP:
        return None
    # Choose the number of negatives for which a constant prediction has the recorded loss.
    negatives = math.expm1(constant) if config.loss.name == "softmax" else 1.0
    gap = 2 / config.loss.temperature
    return losses.at_gap(config.loss.name, gap, negatives, config.loss.margin) / constant


def exploded(course: Course) -> Finding | None:
    """Find embeddings that grow without bound."""
    sides = [x for x in (course.growth("user_norm"), course.growth("item_norm")) if x is not None]
    full = course.last("train_saturated")
    if not sides or full is None or max(sides) <= limit.GROWN or full <= limit.SATURATED:
        return None
    l2 = "" if course.config is None else f" (now {course.config.train.l2:g})"
    return Finding(
        "exploding-norms",
        "embeddings grow without bound",
        (
            f"lengths are {max(sides):.3g} times those at the start",
            f"{100 * full:.0f} % of the train pairs are saturated: their gradients have vanished",
        ),
        "nothing limits the lengths once the train pairs are ranked right",
        changes(course.config, f"--train.l2 higher{l2}", _COSINE),
    )


def stuck(course: Course) -> Finding | None:
    """Find a loss that stays at that of a constant prediction."""
    ratio, moved = against_constant(course), course.last("moved")
    if ratio is None or moved is None or ratio <= limit.AT_CONSTANT or learned(course):
        return None
    constant, recent = constant_loss(course), course.losses
    falling = len(recent) > 1 and recent[1] - recent[0] > limit.EVEN * (constant or 0.0)
    warmup = 0 if course.config is None else course.config.optim.warmup_steps
    if falling or course.steps < limit.STUCK + warmup:
        return None
    return Finding(
        "nothing-learned",
        "the loss stays at that of a constant prediction",
        (
            f"it is {ratio:.3g} times that loss after {course.steps} steps",
            f"embeddings have moved {moved:.3g} times their initial length",
            *_cosines(course),
        ),
        "unknown from the figures alone; the other findings, if any, name it",
        changes(
            course.config,
            "--optim.learning-rate three times higher",
            ("--train.l2 lower", lambda config: config.train.l2 > 0),
            "--model.dim larger",
        ),
    )


def popular(course: Course) -> Finding | None:
    """Find lists that are the same for everyone."""
    overlap, share = course.last("list_overlap"), course.last("list_popular")
    if overlap is None or overlap <= limit.OVERLAP:
        return None
    if course.watched and course.steps < limit.STUCK:
        return None  # Models learn popularity first.
    by_rating = course.config is not None and not course.config.objective.negatives
    if by_rating and learned(course):
        return None  # The best items have the highest predicted ratings for everyone.
    items = course.last("items")
    chance = min(1.0, TOP / items) if items else 0.0
    if chance == 1 or (overlap - chance) / (1 - chance) <= limit.OVERLAP:
        return None
    top = share is not None and share > limit.POPULAR
    evidence = [f"two users' top-20 lists share {100 * overlap:.0f} % of their items"]
    items = course.last("list_items")
    if items is not None:
        evidence.append(f"the lists have {100 * items:.3g} % of the distinct items they could have")
    if share is not None:
        evidence.append(f"{100 * share:.0f} % of the lists are the 20 most popular items")
    return Finding(
        "popularity-only" if top else "same-lists",
        "all users get the same items",
        (*evidence, *_cosines(course)),
        "scores depend on the item alone" + (", on how popular it is" if top else ""),
        changes(
            course.config,
            (
                "take batch-scores out of --mistakes: a batch x batch product averages over users",
                mistaken("batch-scores"),
            ),
            "--model.dim larger",
            (
                "--train.epochs more: popularity is learned first",
                lambda config: config.train.steps is None,
            ),
            (
                "--train.steps more: popularity is learned first",
                lambda config: config.train.steps is not None,
            ),
            (
                "--negatives.popularity 0.5, so that popular items are pushed back as well",
                _may_draw_popular,
            ),
        ),
    )


def _may_draw_popular(config: Config) -> bool:
    how = config.negatives
    return how.name in ("uniform", "shared") and how.popularity == 0 and config.objective.negatives


def collapsed(course: Course) -> Finding | None:
    """Find rows that share one direction."""
    for side in ("item", "user"):
        mean, rank = course.last(f"{side}_cosine"), course.last(f"{side}_rank")
        if mean is None or rank is None:
            continue
        narrow = course.config is not None and course.config.model.dim < limit.WIDE
        if abs(mean) > limit.ONE_DIRECTION or (rank < limit.LOW_RANK and not narrow):
            return Finding(
                "collapse",
                f"embeddings of {side}s have collapsed",
                _cosines(course),
                "unknown from the figures alone; the other findings, if any, name it",
                changes(
                    course.config,
                    "a lower --optim.learning-rate",
                    (
                        "--loss.name softmax, whose negatives push rows apart",
                        lambda config: config.loss.name in ("bpr", "bce", "triplet", "hinge"),
                    ),
                    ("--model.layers fewer", lambda config: config.model.layers > 1),
                ),
            )
    return None
