"""Rules about the embeddings and the scores themselves: they hold for any model's."""

import math

from jaxrec.doctor import thresholds as limit
from jaxrec.doctor.causes import against_constant, constant_loss, parameters
from jaxrec.doctor.course import Course
from jaxrec.doctor.finding import Finding


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
    """Products that have to make the mean of the ratings."""
    carried, lean = course.last("carried"), course.last("pair_cosine")
    if carried is None or lean is None or carried <= limit.CARRIED or lean <= limit.LEANING:
        return None
    mean, sd = course.last("rating_mean"), course.last("rating_sd")
    return Finding(
        "ratings-not-centred",
        "all vectors lean one way, because products have to make the mean rating",
        (
            f"scores without the model's mean and biases are {carried:.3g} standard deviations of "
            f"the ratings on average (ratings: mean {mean:.3g}, standard deviation {sd:.3g})",
            f"mean cosine of users with items {lean:.3f}",
            *_cosines(course),
            *parameters(course),
        ),
        "a dot product is fitted to ratings as they are; a rectifier on the outputs makes it worse",
        (
            "--loss.center: predict what a rating is above the mean",
            "--model.biases: a number for each user and item",
            "--model.final linear",
        ),
    )


def bounded(course: Course) -> Finding | None:
    """Probabilities as embeddings."""
    sides = [x for x in (course.last("user_simplex"), course.last("item_simplex")) if x is not None]
    if not sides or max(sides) <= limit.SIMPLEX:
        return None
    ratio = against_constant(course)
    told = () if ratio is None else (f"loss {ratio:.3g} times that of a constant prediction",)
    return Finding(
        "softmax-outputs",
        "embeddings are probabilities",
        (
            f"{100 * max(sides):.0f} % of the rows have no negative entry and sum to 1",
            "a product of two such rows lies in [0, 1], a gap of two scores in [-1, 1]: a loss of "
            "the form 1 - sigmoid(gap) cannot leave [0.269, 0.731]",
            *told,
            *_cosines(course),
        ),
        "a softmax on the outputs",
        ("--model.final linear", "--model.score cosine with --loss.temperature 0.1"),
    )


def smoothed(course: Course) -> Finding | None:
    """Layers that make all nodes alike."""
    layers = 0 if course.config is None else course.config.model.layers
    sides = ("user_cosine", "item_cosine")
    before = [x for x in map(course.first, sides) if x is not None]
    now = [x for x in map(course.last, sides) if x is not None]
    if layers < 2 or not now or max(before) <= limit.BEFORE or max(now) <= limit.SMOOTHED:
        return None
    return Finding(
        "over-smoothing",
        "propagation makes all nodes alike",
        (
            f"before the first step, when the table is noise, {layers} layers gave embeddings a "
            f"mean cosine of {max(before):.3f}; it is {max(now):.3f} now",
            *_cosines(course),
        ),
        "each layer averages neighbours; after many of them what is left is the first eigenvector "
        "of the graph, the same for every node",
        (f"--model.layers 2 or 3 (now {layers})", "--model.name lightgcn: the mean of all layers"),
    )


def dead(course: Course) -> Finding | None:
    """Rectified units without life."""
    share = course.last("dead")
    if share is None or share <= limit.DEAD:
        return None
    return Finding(
        "dead-relus",
        "most rectified units are 0 whatever the input",
        (f"{100 * share:.3g} % of the units are 0 at every row of the sample", *_cosines(course)),
        "a step that was too large has pushed them below 0, where they have no gradient",
        (
            "--optim.learning-rate a tenth",
            "--model.activation gelu",
            "--optim.warmup-steps 100",
        ),
    )


def temperature(course: Course) -> Finding | None:
    """Bounded scores that the loss cannot use."""
    config = course.config
    if config is None or config.model.score != "cosine" or config.loss.rates:
        return None
    t, constant = config.loss.temperature, constant_loss(course)
    sharp = course.last("train_saturated") or 0.0
    floor = _floor(config.loss.name, t, constant)
    ratio = against_constant(course)
    if floor is not None and floor > limit.FLOOR:
        evidence = (
            f"cosines over a temperature of {t:g} lie within +-{1 / t:.3g}: the loss cannot go "
            f"below {100 * floor:.0f} % of a constant prediction's",
            *(() if ratio is None else (f"it is at {100 * ratio:.0f} %",)),
        )
        change = f"--loss.temperature 0.1 to 0.2 (now {t:g})"
        return Finding(
            "temperature-high",
            "the temperature leaves the loss no room",
            evidence,
            "scores are bounded and too close to each other",
            (change,),
        )
    if sharp <= limit.SHARP:
        return None
    return Finding(
        "temperature-low",
        "the temperature saturates the sigmoid",
        (f"{100 * sharp:.0f} % of the train pairs have hardly a gradient",),
        "scores are divided by too small a number",
        (f"--loss.temperature 0.1 to 0.2 (now {t:g})",),
    )


def _floor(name: str, t: float, constant: float | None) -> float | None:
    """The least loss that cosines can have, over the constant's."""
    if constant is None:
        return None
    if name == "softmax":
        negatives = math.expm1(constant)
        return math.log1p(negatives * math.exp(-2 / t)) / constant
    least = {"bpr": math.log1p(math.exp(-2 / t)), "triplet": 1 / (1 + math.exp(2 / t))}
    return least[name] / constant if name in least else None


def exploded(course: Course) -> Finding | None:
    """Lengths without bound."""
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
        "nothing holds the lengths once the train pairs are in order",
        (f"--train.l2 higher{l2}", "--model.score cosine with --loss.temperature 0.1"),
    )


def stuck(course: Course) -> Finding | None:
    """A loss that stays where a constant has it."""
    ratio, moved = against_constant(course), course.last("moved")
    if ratio is None or moved is None or not course.steps or ratio <= limit.AT_CONSTANT:
        return None
    return Finding(
        "nothing-learned",
        "the loss stays at that of a constant prediction",
        (
            f"it is {ratio:.3g} times as large after {course.steps} steps",
            f"embeddings have moved {moved:.3g} times their first length",
            *_cosines(course),
        ),
        "not told by the figures; the other findings, if any, name it",
        ("--model.dim larger", "--optim.learning-rate three times higher", "--train.l2 lower"),
    )


def popular(course: Course) -> Finding | None:
    """The same list for everyone."""
    overlap, share = course.last("list_overlap"), course.last("list_popular")
    if overlap is None or overlap <= limit.OVERLAP:
        return None
    top = share is not None and share > limit.POPULAR
    evidence = [f"two users' top-20 lists share {100 * overlap:.0f} % of their items"]
    items = course.last("list_items")
    if items is not None:
        evidence.append(f"the lists hold {100 * items:.3g} % of the items that they could")
    if share is not None:
        evidence.append(f"{100 * share:.0f} % of the lists are the 20 most popular items")
    return Finding(
        "popularity-only" if top else "same-lists",
        "everyone is given the same items",
        (*evidence, *_cosines(course)),
        "scores depend on the item alone" + (", on how popular it is" if top else ""),
        (
            "score each user with the items of their own pair, row by row: a batch x batch product "
            "averages users away (here: take batch-scores out of --mistakes)",
            "--model.dim larger",
            "--train.epochs more: popularity is what is learned first",
            "--negatives.popularity 0.5, so that popular items are pushed back as well",
        ),
    )


def collapsed(course: Course) -> Finding | None:
    """Rows that are one direction."""
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
                "not told by the figures; the other findings, if any, name it",
                (
                    "a lower --optim.learning-rate",
                    "--loss.name softmax, whose negatives push rows apart",
                    "--model.layers fewer",
                ),
            )
    return None
