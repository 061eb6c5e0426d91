"""The whole configuration, with the rules that hold across its sections."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from jaxrec.config.changes import changed
from jaxrec.config.checks import Range, Seed, check, check_fields, shown_cutoff
from jaxrec.config.items import PairsConfig, WalksConfig
from jaxrec.config.mesh import MeshConfig
from jaxrec.config.models import KINDS, ModelConfig
from jaxrec.config.objectives import OBJECTIVES, OWN_METRICS, Objective, of_loss
from jaxrec.config.planted_mistakes import ADDED, Mistake, check_mistakes, loss_with
from jaxrec.config.sections import (
    CheckpointConfig,
    EvalConfig,
    FilterConfig,
    LogConfig,
    LossConfig,
    NegativesConfig,
    OptimConfig,
    SplitConfig,
    TrainConfig,
)


@dataclass(frozen=True)
class Config:
    """All settings that determine the result of a run.

    Each section is a frozen dataclass; its fields are options of ``jaxrec train`` with the same
    names. A value out of range raises InputError. Lengths of training are in epochs, or in steps if
    ``train.steps`` is set; fields called minutes or seconds are wall time.

    >>> import jaxrec
    >>> config = jaxrec.Config(data="sales.csv").replace({"model.dim": 32, "train.epochs": 5})
    >>> config.model.dim, config.train.epochs, config.optim.name
    (32, 5, 'adam')
    """

    preset: str = "custom"
    """Name of the preset that the configuration is based on; without --run, it names the run."""
    data: str = "synthetic"
    """Prepared folder, raw folder or file; `synthetic` is the built-in data, `synthetic-features`
    adds features to it, and `synthetic-ratings` adds features and ratings."""
    seed: Seed = 0
    minutes: Annotated[float | None, Range(1e-3, 1e6)] = None
    """Time budget of the preset `auto`, including refit and test. Models of all kinds are tried on
    validation, and the best one is trained as the run."""
    warm_start: str | None = None
    """Run folder whose parameters initialise the training; ids that are not in that run get
    normally distributed rows, whatever model.init is."""
    split: SplitConfig = field(default_factory=SplitConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    pairs: PairsConfig = field(default_factory=PairsConfig)
    walks: WalksConfig = field(default_factory=WalksConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    negatives: NegativesConfig = field(default_factory=NegativesConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    mistakes: tuple[Mistake, ...] = ()
    """Mistakes to make on purpose, to show their effects. accumulated-gradients: gradients are
    never cleared between steps; sum-in-sigmoid: one log-sigmoid of the sum over the batch's pairs
    (bpr); batch-scores: each user is scored with the items of all pairs of the batch (bpr,
    triplet)."""

    def replace(self, changes: Mapping[str, Any]) -> "Config":
        """Return a copy with some fields changed, such as ``{"optim.learning_rate": 1e-3}``.

        Raises:
          InputError: a name is unknown, or the values are invalid or contradict each other.
        """
        return changed(self, changes)

    def __post_init__(self) -> None:
        check_fields(self)
        check(
            re.fullmatch(r"[\w-][\w.-]{0,99}", self.preset) is not None,
            f"preset {self.preset!r} may only have letters, digits, -, _ and .",
        )
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            check(
                not dataclasses.is_dataclass(f.default_factory)
                or isinstance(value, f.default_factory),
                f"{f.name} must be a {f.name.capitalize()}Config, not {value!r}",
            )
        check(
            not self.optim.sparse or (self.model.local and self.model.ids),
            "optim.sparse needs model.layers 0, or pinsage with model.ids: "
            "propagation gives every row a gradient",
        )
        check(
            self.optim.name != "rowwise_adagrad" or (self.model.local and self.model.ids),
            "optim.name rowwise_adagrad needs model.layers 0, or pinsage with model.ids: "
            "it updates the rows of a batch",
        )
        check(
            not self.train.l2_of_all or not self.optim.asks_for_rows,
            f"train.l2_over {self.train.l2_over} updates every row of the tables, but optim.sparse "
            "updates only the rows of a batch; set train.l2_over batch",
        )
        check(
            not self.train.l2_of_all or self.model.frozen_items is None,
            f"train.l2_over {self.train.l2_over} would change rows that model.frozen_items "
            "freezes; "
            "set train.l2_over batch",
        )
        check(
            self.train.l2_over != "tables" or self.model.ids,
            "train.l2_over tables needs model.ids",
        )
        check(
            self.model.frozen_items is None or self.optim.name != "adamw",
            "optim.name adamw would decay rows that model.frozen_items freezes; set optim.name "
            "adam",
        )
        check(
            not self.negatives.log_q or self.loss.name == "softmax",
            f"negatives.log_q needs loss.name softmax, not {self.loss.name}",
        )
        check(
            self.negatives.hard == 0 or not self.corrects,
            "negatives.log_q needs the probability with which each negative is drawn, and hard "
            "negatives (negatives.hard) have none; set negatives.log_q False",
        )
        check(
            self.negatives.picks is None or not self.corrects,
            "negatives.log_q needs the probability with which each negative is drawn, and picked "
            "negatives (negatives.pick) have none; set negatives.log_q False",
        )
        check(
            self.negatives.name != "exposed" or not self.corrects,
            "negatives.log_q needs the probability with which each negative is drawn, and "
            "negatives.name exposed has none; set negatives.log_q False",
        )
        check(
            self.negatives.name != "all" or self.split.name != "cold-items",
            "negatives.name all includes the items that split.name cold-items holds out of "
            "training; set negatives.name uniform",
        )
        check(
            self.negatives.hard == 0 or self.split.name != "cold-items",
            "negatives.hard may draw items that split.name cold-items holds out of training; set "
            "negatives.hard 0",
        )
        check(
            self.eval.cold == "keep" or self.split.name != "cold-items",
            "eval.cold drop would leave out every pair that split.name cold-items holds out; set "
            "eval.cold keep",
        )
        check(
            self.negatives.name != "in-batch" or self.train.batch_size > 1,
            "negatives.name in-batch needs a train.batch_size of at least 2",
        )
        self._check_search()
        self._check_scores()
        check_mistakes(self)
        self._check_objective()
        if self.model.kind.fitted:
            self._check_fitted()
        if self.mesh.devices > 1:
            self._check_mesh()
        if self.mesh.memory == "host":
            for reason in self.needs_whole_table():
                check(False, f"mesh.memory host: {reason}; or set mesh.memory device")
        self.eval.check_metric(self.metric)
        check(
            not (self.train.refit and self.eval.select_on != "validation"),
            "train.refit needs eval.select_on validation, which selects the number of steps",
        )

    def _check_objective(self) -> None:
        """Check that the loss, the model and all options that are set are for one objective."""
        ours, loss = self.objective, self.loss.name
        check(
            ours.users == self.model.kind.users,
            f"loss.name {loss} is not for {self.model.name}; item models take sgns or weights, "
            "and all other models the other losses",
        )
        for other in OBJECTIVES.values():
            if other is not ours:
                self._refuse_options(other)
        owner = OWN_METRICS.get(self.metric, ours)
        check(owner is ours, f"eval.metric {self.metric} {self._only_of(owner)}")
        ours.check(self)

    def _refuse_options(self, other: Objective) -> None:
        """Raise InputError if an option is set that is only for the objective ``other``."""
        for section_name, some in other.options.items():
            section = getattr(self, section_name)
            for f in dataclasses.fields(section):
                check(
                    (bool(some) and f.name not in some) or getattr(section, f.name) == f.default,
                    f"{section_name}.{f.name} {self._only_of(other)}",
                )
        for section, name, value in other.values:
            check(
                getattr(getattr(self, section), name) != value,
                f"{section}.{name} {value} {self._only_of(other)}",
            )

    def _check_search(self) -> None:
        search = "minutes starts a search"
        check(
            self.minutes is None or self.eval.select_on == "validation",
            f"{search}, which compares models on validation: set eval.select_on validation",
        )
        check(
            self.minutes is None or self.objective.name == "ranking",
            f"{search} over models that rank items for users; for models of ratings or of item "
            "pairs leave minutes out",
        )
        check(
            self.minutes is None or (self.warm_start is None and self.mesh.devices == 1),
            f"{search} with new parameters on one device; leave out warm_start and mesh.*",
        )
        for section in ("model", "loss", "negatives", "optim", "train"):
            options = getattr(self, section)
            check(
                self.minutes is None or options == type(options)(),
                f"{search}, which chooses the options {section}.*; leave them out, or minutes",
            )

    def _check_fitted(self) -> None:
        name = self.model.name
        sections = {"loss": (), "negatives": (), "optim": (), "train": ("refit",)}
        for section_name, some in sections.items():
            section = getattr(self, section_name)
            for f in dataclasses.fields(section):
                check(
                    f.name in some or getattr(section, f.name) == f.default,
                    f"{section_name}.{f.name} is for models that are trained, and {name} is fitted "
                    "in closed form; leave it out",
                )
        check(
            self.warm_start is None,
            f"warm_start is for models that are trained, and {name} is fitted in closed form; "
            "leave "
            "it out",
        )
        check(
            self.split.name != "cold-items",
            f"split.name cold-items holds out whole items, which {name} cannot score without pairs",
        )
        check(
            not self.mistakes,
            f"mistakes are for models that are trained, and {name} is fitted in closed form; leave "
            "them out",
        )

    def _only_of(self, other: Objective) -> str:
        """Return the end of the message that an option is only for the objective ``other``."""
        if not other.users:
            models = [kind.name for kind in KINDS.values() if not kind.users]
            return f"is for {other.of} ({', '.join(models)}), not {self.model.name}"
        return f"needs loss.name {' or '.join(other.losses)}, not {self.loss.name}"

    def _check_scores(self) -> None:
        loss, model = self.loss.name, self.model
        check(
            loss == "levels" or model.bases == ModelConfig().bases,
            f"model.bases needs loss.name levels, not {loss}",
        )
        check(
            loss == "mse" or model.score != "mlp" or not model.biases,
            f"model.biases with model.score mlp needs loss.name mse, not {loss}",
        )

    def _check_mesh(self) -> None:
        """Raise InputError if an option is set that a mesh of devices does not support."""
        model, how, alone = self.model, self.negatives, "; set mesh.data and mesh.table to 1"
        on_mesh = [kind.name for kind in KINDS.values() if kind.mesh]
        check(
            model.kind.mesh,
            f"model.name {model.name} trains on one device, not on a mesh; "
            f"take {' or '.join(on_mesh)}, or set mesh.data and mesh.table to 1",
        )
        refused = {
            "model.score mlp": model.score == "mlp",
            "model.biases": model.biases,
            "model.edge_dropout": model.edge_dropout > 0,
            "model.frozen_items": model.frozen_items is not None,
            "model.init spectral": model.init == "spectral",
            f"loss.name {self.loss.name}": not self.objective.mesh,
            f"negatives.name {how.name}": how.name in ("all", "exposed") or how.registered,
            "negatives.hard": how.hard > 0,
            "optim.rest_rate": self.optim.rest_rate != 1,
            f"optim.name {self.optim.name}": self.optim.registered,
            "negatives.pick same-features": how.picks == "same-features",
            f"train.l2_over {self.train.l2_over}": self.train.l2_over != "batch",
            "split.name cold-items": self.split.name == "cold-items",
            "warm_start": self.warm_start is not None,
            "mistakes": bool(self.mistakes),
        }
        for name, asked in refused.items():
            check(
                not asked, f"{name} is not supported on a mesh of devices{alone}, or leave it out"
            )
        check(
            self.train.batch_size % self.mesh.data == 0,
            f"train.batch_size {self.train.batch_size} must be a multiple of mesh.data "
            f"{self.mesh.data}",
        )

    def needs_whole_table(self) -> list[str]:
        """Return the reasons why the embedding table must be in device memory.

        The list is empty if the table may be in host memory.
        """
        model, how, ours = self.model, self.optim, self.objective
        if not model.local:
            return [f"the layers of model.name {model.name} read the whole table; take mf"]
        if not model.kind.host_tables:
            return [f"model.name {model.name} embeds from a table on the device; take mf"]
        dense = not how.can_be_sparse or how.sparse is False
        reasons = {
            "it needs an optimizer that updates only the rows of a batch: optim.name sgd (without "
            "optim.momentum), adagrad, rowwise_adagrad or adam; leave out optim.clip_norm and "
            "optim.sparse": dense,
            "mesh.data and mesh.table must be 1": self.mesh.devices > 1,
            "model.biases are updated by a dense optimizer; leave them out": model.biases,
            "model.init spectral computes the table on the device; take normal": model.init
            == "spectral",
            f"loss.name {self.loss.name} needs ratings on the device": not ours.host_tables,
            "negatives.name all reads the rows of all items": self.negatives.name == "all",
            f"train.l2_over {self.train.l2_over} updates all rows": self.train.l2_of_all,
            f"mistakes {ADDED} adds up the gradients of all rows": ADDED in self.mistakes,
        }
        return [reason for reason, holds in reasons.items() if holds]

    @property
    def split_seed(self) -> int:
        """The seed of the split: ``split.seed``, or the run's seed if that is None."""
        return self.seed if self.split.seed is None else self.split.seed

    @property
    def metric(self) -> str:
        """The selection metric: ``eval.metric``, or the objective's default if that is None."""
        by_default = self.objective.default_metric.format(k=shown_cutoff(self.eval.k))
        return self.eval.metric or by_default

    @property
    def objective(self) -> Objective:
        """The objective of the run, which the loss determines."""
        return of_loss(self.loss.name)

    @property
    def loss_taken(self) -> str:
        """The name of the loss used in training: ``loss.name``, or its variant with mistakes."""
        return loss_with(self.loss.name, self.mistakes)

    @property
    def optimizer_around(self) -> str | None:
        """The name of a registered optimizer that wraps the configured optimizer, or None."""
        return ADDED if ADDED in self.mistakes else None

    @property
    def draws_some_items(self) -> bool:
        """Whether negatives are drawn from a non-uniform distribution."""
        return self.negatives.popularity > 0 or self.split.name == "cold-items"

    @property
    def corrects(self) -> bool:
        """Whether scores are corrected by log sampling probabilities (``negatives.log_q``)."""
        if self.negatives.log_q is None:
            return self.negatives.name == "in-batch" and self.loss.name == "softmax"
        return self.negatives.log_q

    def sparse_updates(self, n_rows: int) -> bool:
        """Return whether a step updates only its batch's rows in a table of ``n_rows`` rows."""
        if self.train.l2_of_all or ADDED in self.mistakes:
            return False
        if self.optim.sparse is not None:
            return self.optim.sparse
        if self.mesh.memory == "host":
            return True
        if self.optim.name == "rowwise_adagrad":
            return True
        private = self.negatives.private and self.objective.negatives
        a_pair = self.negatives.count if private else 0
        a_pair = a_pair * self.negatives.candidates + self.negatives.hard
        shared = {"shared": self.negatives.count, "all": n_rows}.get(self.negatives.name, 0)
        in_step = (self.train.batch_size * (2 + a_pair) + shared) * self.model.rows_a_node
        few = self.model.local and self.model.ids and 16 * in_step <= n_rows
        return few and self.optim.can_be_sparse
