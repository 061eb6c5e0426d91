"""The sections of a configuration, each checked when it is made."""

from dataclasses import dataclass
from typing import Annotated, Literal

from jaxrec.config.checks import (
    FINITE,
    INT32,
    POSITIVE,
    Count,
    Number,
    Range,
    Share,
    check,
    check_cutoffs,
    check_fields,
)
from jaxrec.config.objectives import METRIC_NAMES, OWN_METRICS
from jaxrec.errors import nearest

IN_MEMORY = "(a Dataset in memory)"
"""What ``Config.data`` says where a run was given a Dataset instead of a path."""
OPTIMIZER_NAMES = ("adam", "adamw", "sgd", "adagrad", "rowwise_adagrad")
"""jaxrec's own optimizers; any other name is that of one that a user has registered."""
SplitName = Literal["auto", "given", "random", "hashed", "leave-last-out", "temporal", "cold-items"]


@dataclass(frozen=True)
class SplitConfig:
    """How interactions become train, validation and test."""

    name: SplitName = "auto"
    """auto takes the split that the data gives, and a random one where it gives none. hashed is
    random by a hash of each pair, as `jaxrec data partition` draws it. cold-items holds out whole
    items: training sees and draws none of them, and they are ranked among themselves."""
    test: Share = 0.2
    """Share of the pairs held out as test (by chance or time), or of the items (cold-items)."""
    validation: Share = 0.1
    """Share of the remaining pairs, or items, held out as validation; 0 for none."""
    per_user: bool = True
    """By chance or time: hold out the share within each user, or over all pairs."""
    test_time: Annotated[float | None, FINITE] = None
    """Temporal split: pairs at or after this time are test (then `test` is not used). A number like
    the data's times; the command line takes a date too (2014-04-15, in UTC)."""
    validation_time: Annotated[float | None, FINITE] = None
    """Temporal split: remaining pairs at or after this time are validation."""
    repeats: Literal["drop", "keep", "refuse"] = "drop"
    """Given splits: held-out pairs that an earlier part has too are left out and counted, kept (for
    eval.repeatable: else they are masked as known), or refused."""
    seed: Annotated[int | None, Range(0, 2**32 - 1)] = None
    """Of the draw, and of ties in time; the run's seed if not given."""

    def __post_init__(self) -> None:
        check_fields(self, "split")
        check(
            self.name == "temporal" or self.test_time is self.validation_time is None,
            "split.test_time and split.validation_time need split.name temporal",
        )
        check(
            self.repeats == "drop" or self.name in ("auto", "given"),
            f"split.repeats is for splits that the data gives; {self.name} takes each pair once",
        )
        if self.test_time is not None and self.validation_time is not None:
            check(
                self.validation_time <= self.test_time,
                "split.validation_time must not be later than split.test_time",
            )


@dataclass(frozen=True)
class FilterConfig:
    """Which interactions count, before the split; in the order of these options."""

    min_rating: Annotated[float | None, FINITE] = None
    """Keep pairs rated at least this much (explicit ratings to implicit feedback)."""
    since: Annotated[float | None, FINITE] = None
    """Keep pairs at or after this time: a number like the data's times, on the command line a date
    too."""
    until: Annotated[float | None, FINITE] = None
    """Keep pairs before this time."""
    first: Count = 0
    """Keep each user's earliest pairs, so many; equal times in an order by chance, always the
    same; 0 for all."""
    last: Count = 0
    """Keep each user's latest pairs, so many."""
    drop_most_active: Share = 0.0
    """Drop users with more pairs than all but this share of users have: 0.01 drops those beyond the
    99th percentile, as bots are."""
    min_user_count: Count = 0
    """Drop users with fewer pairs."""
    min_item_count: Count = 0
    """Drop items with fewer pairs (counted before users are dropped)."""
    k_core: Count = 0
    """Drop users and items with fewer than k pairs until none is left."""
    user_core: Count = 0
    """The same with a number of its own for users."""
    item_core: Count = 0
    """And for items."""

    def __post_init__(self) -> None:
        check_fields(self, "filter")
        check(
            not (self.k_core and (self.user_core or self.item_core)),
            "filter.k_core is for users and items alike; leave it out beside filter.user_core and "
            "filter.item_core",
        )
        check(not (self.first and self.last), "filter.first and filter.last: give one of them")
        if self.since is not None and self.until is not None:
            check(self.since < self.until, "filter.since must be before filter.until")


NEGATIVES_NAMES = ("uniform", "shared", "in-batch", "all", "exposed")
"""jaxrec's own negatives; any other name is that of a sampler that a user has registered."""


@dataclass(frozen=True)
class LossConfig:
    """What the scores of positives and negatives are trained towards."""

    name: str = "bpr"
    """bpr (pairwise), bce (binary), softmax (sampled softmax), triplet (bpr in the form of
    1 - sigmoid), hinge (by a margin). Of ratings, without negatives: mse (squared error), levels
    (likelihood of the rating by GC-MC's decoder). Of item pairs: sgns (skip-gram with negative
    sampling), weights (squared error of a pair's weight, which is 0 for a sampled one). Or the name
    of a loss that a plugin registers."""
    temperature: Annotated[float, Range(1e-6, 1e6)] = 1.0
    """Scores are divided by this before the loss."""
    margin: Annotated[float, Range(1e-6, 1e6)] = 1.0
    """hinge: how far a positive's score has to be above a negative's to cost nothing."""
    center: bool = True
    """mse: scores stand for what a rating is above the mean of all. Without, for the rating itself:
    then a dot product has to make the mean, and all vectors lean one way."""

    def __post_init__(self) -> None:
        check_fields(self, "loss")
        check(
            self.margin == 1 or self.name == "hinge",
            f"loss.margin needs loss.name hinge, not {self.name}",
        )
        check(
            self.center or self.name == "mse",
            f"loss.center is for loss.name mse, not {self.name}",
        )
        check(
            self.temperature == 1 or self.name != "levels",
            "loss.temperature is for scores, and loss.name levels has a decoder instead of one",
        )


@dataclass(frozen=True)
class NegativesConfig:
    """Which items stand against a positive."""

    name: str = "uniform"
    """uniform: private to each positive; shared: one set for the whole batch; in-batch: the
    positives of the batch's other pairs; all: every item there is; exposed: private, of what the
    user was shown and left alone, and uniform for users without such. Or the name of a sampler that
    a plugin registers, private to each positive."""
    count: Annotated[int, Range(1, 2**24)] = 1
    """Negatives a positive (uniform), or in the shared set."""
    popularity: Annotated[float, Range(0, 10)] = 0.0
    """Draw items by their train count to this power: 0 uniformly, 1 as they come up."""
    candidates: Annotated[int, Range(1, 2**16)] = 1
    """Dynamic negatives (uniform, exposed): of so many candidates one is taken."""
    pick: Literal["hardest", "semi-hard", "similar", "same-features"] | None = None
    """Which one is taken of the candidates, and of a set that all pairs share (shared, in-batch,
    all). hardest: the highest score, as by default of candidates; semi-hard: the highest below the
    positive's own; similar: the nearest to the positive by cosine of the embeddings;
    same-features: by cosine of the raw features."""
    hard: Annotated[int, Range(0, 2**16)] = 0
    """Besides, so many hard negatives a positive at most: items that the user's personalised
    PageRank ranks high, but not too high."""
    hard_ranks: Annotated[tuple[int, int], Range(0, INT32)] = (100, 500)
    """The ranks, from the first to before the last, that hard negatives are drawn from."""
    hard_schedule: Annotated[tuple[int, ...], Range(0, 2**16)] = ()
    """Hard negatives in the first epoch, the second, ...; the last number stays. Not given: n - 1
    in the n-th epoch, up to `hard` (the curriculum of PinSAGE)."""
    per_pair: Annotated[float, Range(1e-6, 1e6)] = 5.0
    """Models of items: the shared negatives stand for so many a pair."""
    groups: Annotated[int, Range(1, 2**20)] = 1
    """Models of items: the batch is cut into so many groups, each with `count` shared negatives."""
    log_q: bool | None = None
    """Take log(probability of being drawn) off the scores (softmax only). By default so for
    in-batch, where popular items would come out too low."""
    reject_known: bool | None = None
    """Never set a user's own train items against them. By default so for uniform, where it costs
    little, and for what is picked; not for shared and in-batch, where it takes B x S look-ups a
    step. In-batch negatives are never the pair's own item."""

    def __post_init__(self) -> None:
        check_fields(self, "negatives")
        check(
            self.count == 1 or self.name not in ("in-batch", "all"),
            "negatives.count is for uniform, exposed and shared; in-batch takes the batch's own "
            "items, and all takes all",
        )
        check(
            self.popularity == 0 or self.name in ("uniform", "shared"),
            f"negatives.popularity is for uniform and shared; {self.name} items come as they are",
        )
        check(
            self.candidates == 1 or self.private,
            f"negatives.candidates needs negatives.name uniform or exposed, not {self.name}",
        )
        check(
            self.pick is None or self.candidates > 1 or not self.private,
            f"negatives.pick {self.pick} needs negatives.candidates to pick from, or a set that "
            "all pairs share (negatives.name shared, in-batch or all)",
        )
        check(
            self.pick is None or self.hard == 0,
            "negatives.hard and negatives.pick are two ways to harder negatives; take one",
        )
        first, last = self.hard_ranks
        check(first < last, f"negatives.hard_ranks is a range of ranks, not {first} to {last}")
        check(
            self.hard == 0 or self.candidates == 1,
            "negatives.hard and negatives.candidates are two ways to harder negatives; take one",
        )
        check(
            all(n <= self.hard for n in self.hard_schedule),
            f"negatives.hard_schedule holds numbers up to negatives.hard ({self.hard})",
        )

    def against(self, batch_size: int, n_items: int) -> int:
        """How many negatives a pair has in the loss, without hard ones.

        Those that are left out because they are the pair's own item are not counted; those that
        are left out because their user knows them are.
        """
        if self.private:
            return self.count
        if self.picks is not None:
            return 1
        return {"shared": self.count, "in-batch": batch_size - 1, "all": n_items - 1}[self.name]

    def hard_in(self, epoch: int) -> int:
        """Hard negatives in an epoch, the first of which is 0."""
        by_epoch = self.hard_by_epoch()
        return by_epoch[min(epoch, len(by_epoch) - 1)]

    def hard_by_epoch(self) -> tuple[int, ...]:
        """Hard negatives in the first epoch, the second, ...; the last number stays."""
        return self.hard_schedule or tuple(range(self.hard + 1))

    @property
    def rejects(self) -> bool:
        """reject_known with its default resolved."""
        by_default = self.private or self.pick is not None
        return by_default if self.reject_known is None else self.reject_known

    @property
    def private(self) -> bool:
        """Whether each pair has negatives of its own."""
        return self.name in ("uniform", "exposed") or self.registered

    @property
    def registered(self) -> bool:
        """Whether a sampler of the user's own draws them."""
        return self.name not in NEGATIVES_NAMES

    @property
    def picks(self) -> str | None:
        """pick with its default resolved: None where all that is drawn stands against a pair."""
        return "hardest" if self.pick is None and self.candidates > 1 else self.pick


@dataclass(frozen=True)
class OptimConfig:
    """The optax chain."""

    name: str = "adam"
    """adam, adamw, sgd, adagrad, rowwise_adagrad; or the name of an optimizer that a plugin
    registers."""
    learning_rate: Annotated[float, Range(1e-30, 3e38)] = 1e-3
    rest_rate: Annotated[float, Range(1e-6, 1e6)] = 1.0
    """Learning rate of all parameters but the table of the ids' embeddings (matrices, biases), as a
    multiple of learning_rate."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Shape of the learning rate after warm-up, over the length of the run."""
    cycles: Annotated[int, Range(1, 10_000)] = 1
    """cosine: the rate falls from its peak to 0 so many times (warm restarts)."""
    warmup_steps: Count = 0
    """Steps of linear warm-up from 0."""
    clip_norm: Annotated[float | None, POSITIVE] = None
    """Clip the global norm of the gradient to this."""
    weight_decay: Annotated[float, Range(0, 1e6)] = 0.0
    """Decoupled weight decay (adamw only)."""
    momentum: Share = 0.0
    """Momentum (sgd only)."""
    sparse: bool | None = None
    """Read and write the rows of a batch only (a model without propagation). The same optimizer,
    Adam too, at a cost that does not grow with the table. By default where a step has at most one
    row in 16 (rowwise_adagrad: always)."""

    def __post_init__(self) -> None:
        check_fields(self, "optim")
        check(
            self.cycles == 1 or self.schedule == "cosine",
            f"optim.cycles needs optim.schedule cosine, not {self.schedule}",
        )
        check(
            self.weight_decay == 0 or self.name == "adamw",
            "optim.weight_decay needs optim.name adamw",
        )
        check(self.momentum == 0 or self.name == "sgd", "optim.momentum needs optim.name sgd")
        check(
            self.can_be_sparse or not self.sparse,
            "optim.sparse is for sgd without momentum, adagrad, rowwise_adagrad and adam, "
            "without optim.clip_norm",
        )
        check(
            self.name != "rowwise_adagrad" or self.sparse is not False,
            "optim.name rowwise_adagrad is sparse; for a dense one take adagrad",
        )

    @property
    def asks_for_rows(self) -> bool:
        """Whether a row-sparse form is asked for by name."""
        return bool(self.sparse) or self.name == "rowwise_adagrad"

    @property
    def registered(self) -> bool:
        """Whether it is an optimizer of the user's own."""
        return self.name not in OPTIMIZER_NAMES

    @property
    def can_be_sparse(self) -> bool:
        """Whether there is a row-sparse form."""
        if self.registered:
            return False
        return self.name != "adamw" and self.momentum == 0 and self.clip_norm is None


@dataclass(frozen=True)
class TrainConfig:
    """Length and shape of the training run."""

    epochs: Count = 100
    """Passes over the train pairs."""
    steps: Annotated[int | None, Range(0, INT32)] = None
    """Optimizer steps instead of epochs; eval.every and checkpoint.every then count steps."""
    batch_size: Annotated[int, Range(1, 2**26)] = 2048
    """Positive pairs B a step."""
    l2: Annotated[float, Range(0, 1e30)] = 1e-4
    """L2 on the rows of the batch: l2 / 2 · mean over pairs of the squared norms."""
    l2_over: Literal["batch", "embeddings", "tables", "parameters"] = "batch"
    """What L2 is put on. batch: rows of the ids' table; embeddings: those that the batch is scored
    with, which layers cannot grow behind its back; tables: l2 / 2 · the sum of all squared rows of
    the ids' table, in every step; parameters: of all parameters (PyTorch's weight_decay)."""
    positives: Literal["edges", "users", "walks"] = "edges"
    """edges: a shuffled pass over the pairs; users: a uniform user, then one of their items; walks
    (models of items): the pairs in random walks, B walks a step."""
    patience: Count = 0
    """Stop after this many evaluations without a better selection metric; 0: never."""
    refit: bool = False
    """Then train the chosen number of steps once more on train and validation together."""

    def __post_init__(self) -> None:
        check_fields(self, "train")

    @property
    def l2_of_all(self) -> bool:
        """Whether L2 is on more than what a batch touches."""
        return self.l2_over in ("tables", "parameters")


@dataclass(frozen=True)
class EvalConfig:
    """Ranking over all items, and errors of predicted ratings."""

    k: Annotated[tuple[int, ...], Range(1, INT32)] = (10, 20, 50)
    """Cut-offs K of the metrics."""
    every: Annotated[int | None, Range(0, INT32)] = None
    """Epochs between evaluations (steps where train.steps is set); 0: only at the end; an epoch
    where not given."""
    select_on: Literal["validation", "test", "none"] = "validation"
    """Whose metric chooses the parameters that are kept; none keeps the last ones."""
    metric: str | None = None
    """The metric that selects. Where not given recall@20 (recall at the largest of eval.k where 20
    is not there); rmse where the loss is of ratings; auc where the model is of items."""
    repeatable: bool = False
    """Rank known items too, as people may have them again: nothing is masked. What they did have
    again is in a given split with split.repeats keep."""
    cold: Literal["keep", "drop"] = "keep"
    """drop: users and items without a train pair are left out of validation and test, and such
    items are not ranked. Either way every result counts them, and has the model's metrics the other
    way too."""
    block: Annotated[int | None, Range(1, INT32)] = None
    """Users scored at once on a device; chosen from the memory at hand where not given."""

    def __post_init__(self) -> None:
        check_fields(self, "eval")
        check_cutoffs(self.k)
        if self.metric is not None:
            self.check_metric(self.metric)

    def check_metric(self, metric: str) -> None:
        """Raise InputError unless the metric can select, where one does."""
        if self.select_on == "none" or metric in OWN_METRICS:
            return
        name, _, k = metric.partition("@")
        names = (*METRIC_NAMES, *OWN_METRICS)
        hint = "" if name in names else nearest(name, names)
        check(
            k in map(str, self.k),
            f"eval.metric {metric!r} needs a cut-off among eval.k {self.k}{hint}",
        )


@dataclass(frozen=True)
class CheckpointConfig:
    """When the state is written, and how much of it is kept."""

    every: Annotated[int | None, Range(0, INT32)] = None
    """Epochs between checkpoints (steps where train.steps is set); 0: best and last only; an
    epoch where not given."""
    minutes: Annotated[float, Range(1e-6, 1e9)] = 10.0
    """Also after this much wall time."""
    keep: Number = 3
    """How many of the last checkpoints stay; the best one stays besides."""

    def __post_init__(self) -> None:
        check_fields(self, "checkpoint")


@dataclass(frozen=True)
class LogConfig:
    """Where metrics go besides metrics.jsonl and the console."""

    tensorboard: bool = False
    """Also write event files to RUN/tensorboard (extra `tensorboard`)."""
    wandb: str | None = None
    """Also log to this Weights & Biases project (extra `wandb`)."""
    doctor: bool = True
    """Watch for collapse and its causes: measures beside every evaluation, a warning when one
    starts."""

    def __post_init__(self) -> None:
        check_fields(self, "log")
