"""The sections of a configuration; each is checked on creation."""

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
"""Value of ``Config.data`` for a run on a Dataset in memory."""
OPTIMIZER_NAMES = ("adam", "adamw", "sgd", "adagrad", "rowwise_adagrad")
"""Built-in optimizers; other names are user-registered."""
SplitName = Literal[
    "auto",
    "given",
    "random",
    "hashed",
    "leave-last-out",
    "temporal",
    "cold-items",
    "folds",
    "windows",
]
FOLDED = ("folds", "windows")
"""Values of ``split.name`` that define several splits; ``split.fold`` selects one of them."""


@dataclass(frozen=True)
class SplitConfig:
    """Split of the interactions into train, validation and test."""

    name: SplitName = "auto"
    """auto: the split that the data gives, or random if it gives none. hashed: random by a hash of
    each pair, as in `jaxrec data partition`. cold-items: hold out whole items, which training never
    sees and which are ranked among themselves. folds: each pair is test in one of several runs.
    windows: each of several runs tests on a period of time and trains on the pairs before it."""
    test: Share = 0.2
    """Share of the pairs held out as test in splits by chance or time; cold-items: of the items;
    windows: share that all windows cover together. Folds do not use it."""
    validation: Share = 0.1
    """Share of the remaining pairs, or items, held out as validation; 0 for none."""
    per_user: bool = True
    """Splits by chance or time: hold out the share of each user's pairs; if off, of all pairs.
    Windows are over all pairs in any case."""
    folds: Annotated[int, Range(2, 1000)] = 5
    """Number of folds, or of windows."""
    fold: Annotated[int, Range(0, 999)] = 0
    """Number of the fold or window that is test in this run, from 0; the earliest window is 0."""
    test_time: Annotated[float | None, FINITE] = None
    """Temporal split: pairs at or after this time are test (then `test` is not used). Give a number
    in the unit of the data's times or, on the command line, a date (2014-04-15, in UTC)."""
    validation_time: Annotated[float | None, FINITE] = None
    """Temporal split: remaining pairs at or after this time are validation."""
    repeats: Literal["drop", "keep", "refuse"] = "drop"
    """Given splits: what to do with held-out pairs that an earlier part also has: drop and count
    them, keep them (for eval.repeatable; otherwise they are masked as known), or refuse them."""
    seed: Annotated[int | None, Range(0, 2**32 - 1)] = None
    """Seed of the split, and of the order of equal times; by default the run's seed."""

    def __post_init__(self) -> None:
        check_fields(self, "split")
        check(
            self.name == "temporal" or self.test_time is self.validation_time is None,
            "split.test_time and split.validation_time need split.name temporal",
        )
        check(
            self.fold < self.folds,
            f"split.fold {self.fold} does not exist: {self.folds} folds are numbered from 0 to "
            f"{self.folds - 1}",
        )
        check(
            self.name in FOLDED or (self.folds, self.fold) == (5, 0),
            f"split.folds and split.fold need split.name folds or windows, not {self.name}",
        )
        check(
            self.repeats == "drop" or self.name in ("auto", "given"),
            f"split.repeats needs split.name given; {self.name} has no repeated pairs",
        )
        if self.test_time is not None and self.validation_time is not None:
            check(
                self.validation_time <= self.test_time,
                "split.validation_time must not be later than split.test_time",
            )


@dataclass(frozen=True)
class FilterConfig:
    """Filters that are applied to the interactions before the split, in this order."""

    min_rating: Annotated[float | None, FINITE] = None
    """Keep pairs with at least this rating: turns explicit ratings into implicit feedback."""
    since: Annotated[float | None, FINITE] = None
    """Keep pairs at or after this time: a number in the unit of the data's times or, on the command
    line, a date."""
    until: Annotated[float | None, FINITE] = None
    """Keep pairs before this time."""
    first: Count = 0
    """Keep this many of each user's earliest pairs, with ties in a fixed random order; 0 keeps
    all."""
    last: Count = 0
    """Keep this many of each user's latest pairs; 0 keeps all."""
    drop_most_active: Share = 0.0
    """Drop this share of users with the most pairs: 0.01 drops users above the 99th percentile,
    such as bots."""
    min_user_count: Count = 0
    """Drop users with fewer pairs than this."""
    min_item_count: Count = 0
    """Drop items with fewer pairs than this (counted before users are dropped)."""
    k_core: Count = 0
    """Drop users and items with fewer than k pairs, repeatedly, until all have at least k."""
    user_core: Count = 0
    """Like k_core, but a limit for users only; not with k_core."""
    item_core: Count = 0
    """Like k_core, but a limit for items only; not with k_core."""

    def __post_init__(self) -> None:
        check_fields(self, "filter")
        check(
            not (self.k_core and (self.user_core or self.item_core)),
            "filter.k_core covers users and items; give either it, or filter.user_core and "
            "filter.item_core",
        )
        check(not (self.first and self.last), "give only one of filter.first and filter.last")
        if self.since is not None and self.until is not None:
            check(self.since < self.until, "filter.since must be before filter.until")


NEGATIVES_NAMES = ("uniform", "shared", "in-batch", "all", "exposed")
"""Built-in negative samplers; other names are user-registered."""


@dataclass(frozen=True)
class LossConfig:
    """The loss of positive and negative scores."""

    name: str = "bpr"
    """bpr (pairwise), bce (binary), softmax (sampled softmax), triplet (bpr in the form 1 -
    sigmoid), hinge (with a margin). For ratings, without negatives: mse (squared error), levels
    (likelihood of the rating by GC-MC's decoder). For item pairs: sgns (skip-gram with negative
    sampling), weights (squared error of a pair's weight, 0 for sampled pairs). Or a loss registered
    by a plugin."""
    temperature: Annotated[float, Range(1e-6, 1e6)] = 1.0
    """Scores are divided by this before the loss."""
    margin: Annotated[float, Range(1e-6, 1e6)] = 1.0
    """hinge: the loss is 0 if a positive's score exceeds a negative's by at least this margin."""
    center: bool = True
    """mse: scores predict the difference of a rating from the mean rating. If off, dot products
    must reproduce the mean, so all vectors share a direction."""

    def __post_init__(self) -> None:
        check_fields(self, "loss")
        check(
            self.margin == 1 or self.name == "hinge",
            f"loss.margin needs loss.name hinge, not {self.name}",
        )
        check(
            self.center or self.name == "mse",
            f"loss.center needs loss.name mse, not {self.name}",
        )
        check(
            self.temperature == 1 or self.name != "levels",
            "loss.temperature divides scores, but loss.name levels uses a decoder instead; leave "
            "loss.temperature out",
        )


@dataclass(frozen=True)
class NegativesConfig:
    """Negative sampling."""

    name: str = "uniform"
    """uniform: drawn separately for each positive; shared: one set for the whole batch; in-batch:
    the positives of the batch's other pairs; all: all items; exposed: drawn separately for each
    positive, from the items that the user was shown without interaction, or uniformly if there are
    none. Or a sampler that a plugin registers, which draws separately for each positive."""
    count: Annotated[int, Range(1, 2**24)] = 1
    """Number of negatives per positive, or in the set that a batch shares."""
    popularity: Annotated[float, Range(0, 10)] = 0.0
    """Draw items by their number of train pairs to this power: 0 is uniform, 1 by popularity."""
    candidates: Annotated[int, Range(1, 2**16)] = 1
    """Dynamic negatives (uniform, exposed): pick each negative from this many candidates."""
    pick: Literal["hardest", "semi-hard", "similar", "same-features"] | None = None
    """How to pick from the candidates, or from a set shared by all pairs (shared, in-batch, all).
    hardest: the highest score (default for candidates); semi-hard: the highest score below the
    positive's; similar: the nearest item to the positive by the cosine of embeddings;
    same-features: the nearest item to the positive by the cosine of raw features."""
    hard: Annotated[int, Range(0, 2**16)] = 0
    """Largest number of additional hard negatives per positive: items from a middle range of ranks
    in the user's personalised PageRank."""
    hard_ranks: Annotated[tuple[int, int], Range(0, INT32)] = (100, 500)
    """Range of ranks for hard negatives, without the last rank."""
    hard_schedule: Annotated[tuple[int, ...], Range(0, 2**16)] = ()
    """Hard negatives in the first epoch, the second, ...; the last number repeats. Default: n - 1
    in the n-th epoch, up to `hard` (PinSAGE's curriculum)."""
    per_pair: Annotated[float, Range(1e-6, 1e6)] = 5.0
    """Item models: the loss weighs the shared negatives as if each pair had this many."""
    groups: Annotated[int, Range(1, 2**20)] = 1
    """Item models: number of groups of a batch; the pairs of a group share `count` negatives."""
    log_q: bool | None = None
    """Subtract the log sampling probability from scores (softmax only). On by default for in-batch,
    where popular items would otherwise be ranked too low."""
    reject_known: bool | None = None
    """Never use a user's own train items as negatives. On by default for uniform, where it is
    cheap, and for picked negatives; off for shared and in-batch, where it takes a lookup per pair
    and negative. In-batch negatives never include the pair's own item."""

    def __post_init__(self) -> None:
        check_fields(self, "negatives")
        check(
            self.count == 1 or self.name not in ("in-batch", "all"),
            "negatives.count is for uniform, exposed and shared; in-batch uses the batch's "
            "items, and all uses all items",
        )
        check(
            self.popularity == 0 or self.name in ("uniform", "shared"),
            f"negatives.popularity is for uniform and shared, not {self.name}",
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
            "negatives.hard and negatives.pick exclude each other; give one",
        )
        first, last = self.hard_ranks
        check(
            first < last, f"negatives.hard_ranks must be an increasing range, not {first} to {last}"
        )
        check(
            self.hard == 0 or self.candidates == 1,
            "negatives.hard and negatives.candidates exclude each other; give one",
        )
        check(
            all(n <= self.hard for n in self.hard_schedule),
            f"negatives.hard_schedule must not exceed negatives.hard ({self.hard})",
        )

    def against(self, batch_size: int, n_items: int) -> int:
        """Return the number of negatives per pair in the loss, without hard negatives.

        The pair's own item is masked and does not count. Other known items of the user count, even
        if they are masked too.
        """
        if self.private:
            return self.count
        if self.picks is not None:
            return 1
        return {"shared": self.count, "in-batch": batch_size - 1, "all": n_items - 1}[self.name]

    def hard_in(self, epoch: int) -> int:
        """Return the number of hard negatives in an epoch; epochs are counted from 0."""
        by_epoch = self.hard_by_epoch()
        return by_epoch[min(epoch, len(by_epoch) - 1)]

    def hard_by_epoch(self) -> tuple[int, ...]:
        """Return the number of hard negatives of each epoch; the last number repeats."""
        return self.hard_schedule or tuple(range(self.hard + 1))

    @property
    def rejects(self) -> bool:
        """Whether a user's train items are never negatives: ``reject_known``, or its default."""
        by_default = self.private or self.pick is not None
        return by_default if self.reject_known is None else self.reject_known

    @property
    def private(self) -> bool:
        """Whether negatives are drawn separately for each pair."""
        return self.name in ("uniform", "exposed") or self.registered

    @property
    def registered(self) -> bool:
        """Whether the sampler is user-registered."""
        return self.name not in NEGATIVES_NAMES

    @property
    def picks(self) -> str | None:
        """How negatives are picked: ``pick``, or its default; None if no negatives are picked."""
        return "hardest" if self.pick is None and self.candidates > 1 else self.pick


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning rate."""

    name: str = "adam"
    """adam, adamw, sgd, adagrad, rowwise_adagrad; or an optimizer registered by a plugin."""
    learning_rate: Annotated[float, Range(1e-30, 3e38)] = 1e-3
    rest_rate: Annotated[float, Range(1e-6, 1e6)] = 1.0
    """Learning rate of all parameters except the table of id embeddings, as a multiple of
    learning_rate."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Shape of the learning rate after warm-up, over the length of the run."""
    cycles: Annotated[int, Range(1, 10_000)] = 1
    """cosine: number of cycles from the peak to 0 (warm restarts)."""
    warmup_steps: Count = 0
    """Steps of linear warm-up from 0."""
    clip_norm: Annotated[float | None, POSITIVE] = None
    """Clip the global norm of the gradient to this value."""
    weight_decay: Annotated[float, Range(0, 1e6)] = 0.0
    """Decoupled weight decay (adamw only)."""
    momentum: Share = 0.0
    """Momentum (sgd only)."""
    sparse: bool | None = None
    """Read and write only the rows of a batch (models without propagation). The result is that of
    the dense optimizer, but the cost of a step does not grow with the table. On by default if a
    step touches at most one row in 16 (rowwise_adagrad: always)."""

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
            "optim.name rowwise_adagrad is always sparse; take adagrad for dense updates",
        )

    @property
    def asks_for_rows(self) -> bool:
        """Whether the configuration explicitly selects row-sparse updates."""
        return bool(self.sparse) or self.name == "rowwise_adagrad"

    @property
    def registered(self) -> bool:
        """Whether the optimizer is user-registered."""
        return self.name not in OPTIMIZER_NAMES

    @property
    def can_be_sparse(self) -> bool:
        """Whether the optimizer has a row-sparse form."""
        if self.registered:
            return False
        return self.name != "adamw" and self.momentum == 0 and self.clip_norm is None


@dataclass(frozen=True)
class TrainConfig:
    """Length of the training, its batches, and its L2 penalty."""

    epochs: Count = 100
    """Passes over the train pairs."""
    steps: Annotated[int | None, Range(0, INT32)] = None
    """Number of steps, instead of epochs; eval.every and checkpoint.every then count steps."""
    batch_size: Annotated[int, Range(1, 2**26)] = 2048
    """Number B of positive pairs per step."""
    l2: Annotated[float, Range(0, 1e30)] = 1e-4
    """Weight of L2 on the rows of the batch: l2 / 2 · mean over pairs of the squared norms."""
    l2_over: Literal["batch", "embeddings", "tables", "parameters"] = "batch"
    """What L2 penalises. batch: the rows of the batch in the table of ids; embeddings: the final
    embeddings of the batch, after all layers; tables: the whole table of ids in every step, by l2 /
    2 · squared norm; parameters: likewise all parameters (PyTorch's weight_decay)."""
    positives: Literal["edges", "users", "walks"] = "edges"
    """How positives are drawn. edges: by shuffled passes over the pairs; users: a random user, then
    one of the user's items; walks (item models): the pairs in random walks, B walks per step."""
    patience: Count = 0
    """Stop after this many evaluations without improvement of the selection metric; 0: never."""
    refit: bool = False
    """At the end, train again for the selected number of steps on train and validation."""

    def __post_init__(self) -> None:
        check_fields(self, "train")

    @property
    def l2_of_all(self) -> bool:
        """Whether L2 covers more than the rows of a batch."""
        return self.l2_over in ("tables", "parameters")


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation by ranking all items, or by errors of predicted ratings."""

    k: Annotated[tuple[int, ...], Range(1, INT32)] = (10, 20, 50)
    """Cut-offs K of the metrics."""
    every: Annotated[int | None, Range(0, INT32)] = None
    """Epochs between evaluations (steps if train.steps is set); 0: only at the end; default: one
    epoch."""
    select_on: Literal["validation", "test", "none"] = "validation"
    """Part of the split whose metric selects the kept parameters; none keeps the last ones."""
    metric: str | None = None
    """The selection metric. Default: recall@20 (or at the largest of eval.k if 20 is not among
    them); rmse for rating losses; auc for item models."""
    repeatable: bool = False
    """Rank known items too, without masking, since users may interact with them again. For a given
    split, use split.repeats keep as well."""
    cold: Literal["keep", "drop"] = "keep"
    """drop: leave users and items without train pairs out of validation and test, and items without
    train pairs out of the ranking. Every result says how many there are, and also reports the
    metrics of the other setting."""
    block: Annotated[int | None, Range(1, INT32)] = None
    """Users scored at once on a device; by default chosen from the free memory."""

    def __post_init__(self) -> None:
        check_fields(self, "eval")
        check_cutoffs(self.k)
        if self.metric is not None:
            self.check_metric(self.metric)

    def check_metric(self, metric: str) -> None:
        """Raise InputError if the metric cannot be the selection metric."""
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
    """When checkpoints are written, and how many are kept."""

    every: Annotated[int | None, Range(0, INT32)] = None
    """Epochs between checkpoints (steps if train.steps is set); 0: best and last only; default: one
    epoch."""
    minutes: Annotated[float, Range(1e-6, 1e9)] = 10.0
    """Also write a checkpoint after this much wall time."""
    keep: Number = 3
    """Number of latest checkpoints to keep, besides the best one."""

    def __post_init__(self) -> None:
        check_fields(self, "checkpoint")


@dataclass(frozen=True)
class LogConfig:
    """Further destinations of metrics, besides metrics.jsonl and the console."""

    tensorboard: bool = False
    """Also write event files to RUN/tensorboard (extra `tensorboard`)."""
    wandb: str | None = None
    """Also log to this Weights & Biases project (extra `wandb`)."""
    mlflow: str | None = None
    """Also log to this MLflow experiment (extra `mlflow`), on the server at MLFLOW_TRACKING_URI or
    else in RUN/mlflow.db."""
    trackio: str | None = None
    """Also log to this Trackio project (extra `trackio`)."""
    energy: str | None = None
    """Estimate energy and emissions with CodeCarbon, offline (extra `energy`). Give the country's
    ISO code, such as DEU. The result is written to timing.jsonl."""
    doctor_series: bool = False
    """Send the doctor's measures to trackers too; metrics.jsonl has them either way."""
    doctor: bool = True
    """Watch for collapse and its causes: measure at every evaluation, and warn of new findings."""

    def __post_init__(self) -> None:
        check_fields(self, "log")
