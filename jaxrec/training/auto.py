"""The ``auto`` preset, which searches for the best model within a given time.

The search first tries candidates, beginning with the cheapest. In the remaining time it tries
neighbours of the best trials: configurations that differ from a trial in one number. Trials use
only train and validation pairs. The winner's configuration becomes the configuration of the run,
which is trained like any other run and evaluated on test once.
"""

import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrec import config as configs
from jaxrec.config import (
    CheckpointConfig,
    Config,
    LogConfig,
    LossConfig,
    ModelConfig,
    NegativesConfig,
    OptimConfig,
    TrainConfig,
    lower_is_better,
    shown_cutoff,
)
from jaxrec.config.models.filter import BLEND, EASE, SPARSE, order, spectral_weight
from jaxrec.errors import InputError, Interrupted, RunError
from jaxrec.evaluation.ranking import popularity_scorer
from jaxrec.evaluation.topk import sample
from jaxrec.files import write_json
from jaxrec.graph import filters
from jaxrec.log import Reporter, RunLog
from jaxrec.runfolder import read_json
from jaxrec.training.checkpoint import Checkpoints
from jaxrec.training.filters import FilterTask, Kept
from jaxrec.training.loop import Loop, Phase
from jaxrec.training.signals import SIGNALS, SignalWatch
from jaxrec.training.task import UserTask

FILE = "auto.json"
_AGAIN = 2.2  # training and refit of the winner take this many times the duration of its trial
_RANKINGS = 6.0  # evaluations of the winner's run take this many times one ranking of validation
_REPORT = 10.0  # seconds for starting a run and for writing its report and files
_SHARE = 0.15  # largest share of the budget for one trial with training
_BLENDED = 4.0  # scores from similar users cost as much as this many pairs of sparse products
_LEAST = 5.0  # seconds; shorter training does not justify its compilation
_COMPILE = 3.0  # seconds to compile a filter
# After the share _AFTER of its time, a trial is stopped if its metric is below _BEHIND · the best.
_BEHIND, _AFTER = 0.85, 0.3
_USERS = 5000  # largest number of validation users that a trial ranks
_SLACK = 1.5  # time of fitting EASE, relative to the time of its multiply-adds alone
_PROBE = 64  # columns of the sparse product that measures speed; the dense one has 16 times as many
HYBRID = "hybrid"

Result = tuple[Config, dict[str, Any], float, float]
"""A trial's configuration, validation metrics, ``seconds`` and ``rank_seconds`` (see Trial)."""


@dataclass(frozen=True)
class Trial:
    """A configuration that was tried, and its result.

    Attributes:
      name: the candidate's name; for a neighbour, also the options in which it differs.
      config: the configuration that repeats the trial.
      value: the selection metric on validation.
      seconds: time that fitting takes if no part is cached, or time of training until the best
        evaluation.
      rank_seconds: time of ranking for all validation users once.
      ndcg: ndcg on validation, which decides between trials of equal value. For example, the recall
        of lists that hold every item is always 1.
    """

    name: str
    config: Config
    value: float
    seconds: float
    rank_seconds: float
    ndcg: float = 0.0

    @property
    def family(self) -> str:
        """The name of the candidate from which the trial comes."""
        return self.name.split(":")[0]

    @property
    def again(self) -> float:
        """Seconds that a run with this trial's configuration would take, if it wins."""
        return _AGAIN * self.seconds + _RANKINGS * self.rank_seconds + _REPORT

    def to_dict(self) -> dict[str, Any]:
        """Return the entry for auto.json."""
        return dataclasses.asdict(self) | {"config": configs.to_dict(self.config)}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> "Trial":
        """Return the trial of an entry of auto.json."""
        config: Any = configs.from_dict(found["config"])
        return cls(**(found | {"config": config}))


class Deadline(SignalWatch):
    """Stops a trial at a signal, or when the trial's time is over."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False
        self._over = False
        self._until = math.inf

    def allow(self, seconds: float) -> None:
        """Give the next trial this many seconds; an earlier signal still stops it at once."""
        self._until, self._over = time.monotonic() + seconds, False
        if not self.asked:
            self.received = None

    def __call__(self) -> bool:
        if not self._over:
            self.asked = self.asked or super().__call__()
            if not self.asked and time.monotonic() > self._until:
                self.received = SIGNALS[0]  # makes the loop stop as if a signal had come
                self._over = True
        return self.asked or self._over


def candidates(asked: Config, n_pairs: int, features: bool) -> dict[str, Config]:
    """Return the configuration of each candidate by name, the cheapest candidate first.

    Args:
      asked: the configuration of ``auto``; candidates keep its data, split, filter and log.
      n_pairs: number of training pairs.
      features: whether the data has features of users or items.
    """
    plain = replace(asked, minutes=None)

    def fitted(**options: Any) -> Config:
        return replace(plain, model=ModelConfig("filter", layers=0, **options))

    batch = 2 ** min(max(round(math.log2(max(n_pairs, 1) / 100)), 8), 13)
    trained = replace(
        plain,
        loss=LossConfig("softmax"),
        negatives=NegativesConfig("shared", 512),
        optim=OptimConfig("adam", learning_rate=2e-3),
        train=TrainConfig(epochs=30, batch_size=batch, l2=1e-2, patience=3),
        eval=replace(plain.eval, every=1),
    )
    spectral: dict[str, Any] = {"init": "spectral", "init_std": 0.1}
    by_name = {
        "popularity": fitted(filter="popularity"),
        "turbo-cf": fitted(filter="turbo-cf", order=1),
        "ease": fitted(filter="ease", ease_l2=200.0),
        "gf-cf": fitted(filter="gf-cf", dim=256),
        "cheby-cf": fitted(dim=256),
        "blend": fitted(**BLEND | {"dim": 256}),
        "mf": replace(trained, model=ModelConfig("mf", dim=256, layers=0, **spectral)),
        "lightgcn": replace(trained, model=ModelConfig("lightgcn", layers=2, **spectral)),
    }
    if features:
        by_name["two-tower"] = replace(
            trained,
            model=ModelConfig("two-tower", dim=64, layers=0, id_dropout=0.1),
            negatives=NegativesConfig("in-batch"),
            optim=OptimConfig("adam", learning_rate=5e-3),
            train=replace(trained.train, l2=0.1, l2_over="embeddings"),
        )
    return by_name


def neighbours(config: Config) -> Iterator[Config]:
    """Yield configurations that differ from ``config`` in one number, large changes first."""
    model = config.model

    def changed(section: str, name: str, value: Any) -> Config:
        return replace(config, **{section: replace(getattr(config, section), **{name: value})})

    def scaled(section: str, name: str, now: float, *factors: float) -> Iterator[Config]:
        for factor in factors:
            yield changed(section, name, float(f"{now * factor:.3g}"))

    def shifted(
        name: str, now: float, most: float, *steps: float, least: float = 0.0
    ) -> Iterator[Config]:
        for step in steps:
            value = round(min(max(now + step, least), most), 3)
            if value != now:
                yield changed("model", name, value)

    widths = [changed("model", "dim", dim) for dim in (2 * model.dim, max(model.dim // 2, 1))]
    if model.name != "filter":
        yield from scaled("optim", "learning_rate", config.optim.learning_rate, 0.5, 2.0)
        yield from scaled("train", "l2", config.train.l2, 4.0, 0.25)
        yield from widths
    if model.filter == "ease" or model.ease_weight > 0:
        yield from scaled("model", "ease_l2", model.ease_l2, 2.0, 0.5)
        yield from shifted("ease_item_power", model.ease_item_power, 1.0, -0.2, 0.2, least=-1.0)
        yield from shifted("ease_user_power", model.ease_user_power, 2.0, 0.5, -0.5)
        yield from shifted("ease_dropout", model.ease_dropout, 0.95, 0.2, -0.2)
        yield from scaled("model", "ease_l2", model.ease_l2, 1.4, 0.7)
    if model.ease_weight > 0:
        yield from scaled("model", "ease_weight", model.ease_weight, 2.0, 0.5)
    if model.filter == "turbo-cf":
        yield changed("model", "order", 2 if model.order == 1 else 1)
        yield from shifted("user_power", model.user_power, 1.0, -0.1, 0.1)
    if model.neighbour_weight > 0:
        yield from scaled("model", "neighbour_weight", model.neighbour_weight, 2.0, 0.5)
        for factor in (1.4, 0.7):
            sharper = min(float(f"{model.neighbour_sharpness * factor:.3g}"), 16.0)
            yield changed("model", "neighbour_sharpness", sharper)
        yield from shifted("neighbour_power", model.neighbour_power, 4.0, -0.2, 0.2)
    if model.name == "filter" and model.filter in ("cheby-cf", "gf-cf"):
        yield from scaled("model", "spectral_weight", spectral_weight(model), 2.0, 0.5)
        yield from widths
    if model.name == "filter" and model.filter == "cheby-cf":
        yield from shifted("degree_power", model.degree_power, 4.0, -0.2, 0.2, -0.1, 0.1)
        yield from scaled("model", "flatness", model.flatness, 0.7, 1.4)
        yield from scaled("model", "spectral_weight", spectral_weight(model), 1.3, 0.75)


@dataclass
class Search:
    """A search for the best model, which can be resumed from its folder.

    Args:
      folder: the run folder; its auto.json stores the trials so far.
      task: the configuration of ``auto``, the data and its split.
      began: when this process began to search, by ``time.monotonic``.
      before: seconds that earlier processes spent on the search.
    """

    folder: Path
    task: UserTask
    reporter: Reporter
    began: float
    trials: list[Trial] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    before: float = 0.0
    popularity: float | None = None
    _kept: Kept = field(default_factory=Kept)
    _closed: set[tuple[Any, ...]] = field(default_factory=set)

    @classmethod
    def of(cls, folder: Path, task: UserTask, reporter: Reporter, began: float) -> "Search":
        """Return the search in a folder, with the trials that its auto.json stores."""
        stored = read_json(folder / FILE)
        trials = [Trial.from_dict(found) for found in stored.get("trials", [])]
        left_out, before = stored.get("left_out", {}), stored.get("seconds", 0.0)
        return cls(folder, task, reporter, began, trials, left_out, before)

    @property
    def spent(self) -> float:
        """Seconds spent so far, including those of earlier processes."""
        return self.before + time.monotonic() - self.began

    @property
    def budget(self) -> float:
        """The budget in seconds."""
        assert self.task.config.minutes is not None
        return 60 * self.task.config.minutes

    @property
    def best(self) -> Trial:
        """The trial with the best value; of equal values, the trial with the highest ndcg."""
        return self._ranked()[0]

    def _ranked(self) -> list[Trial]:
        sign = 1 if lower_is_better(self.task.config.metric) else -1
        return sorted(self.trials, key=lambda trial: (sign * trial.value, -trial.ndcg))

    def write(self, **more: Any) -> None:
        """Write RUN/auto.json."""
        content = {
            "minutes": self.task.config.minutes,
            "metric": self.task.config.metric,
            "popularity": self.popularity,
            "seconds": round(self.spent, 3),
            "left_out": self.left_out,
            "trials": [trial.to_dict() for trial in self.trials],
        }
        write_json(self.folder / FILE, content | more)

    @cached_property
    def _sampled(self) -> tuple[UserTask, float]:
        """The task of the trials, and the ratio of all validation users to those of this task.

        The task has at most ``_USERS`` validation users, drawn at random.
        """
        held = self.task.splits.validation
        count_U = held.user_counts()
        chosen, n_users = sample(count_U, _USERS, self.task.config.seed), int((count_U > 0).sum())
        if len(chosen) == n_users:
            return self.task, 1.0
        splits = self.task.splits._replace(validation=held.take(np.isin(held.user, chosen)))
        return replace(self.task, splits=splits), n_users / len(chosen)

    def run(self) -> Trial:
        """Try configurations until the time or the candidates run out; return the best trial.

        Raises:
          InputError: no candidate can be trained on the data.
          Interrupted: a signal came before the first trial had ended.
        """
        train = self.task.splits.train
        features = train.user_features is not None or train.item_features is not None
        first = candidates(self.task.config, train.n_edges, features)
        ended = "all candidates and their neighbours were tried"
        watch = Deadline()
        with watch:
            for name, config in self._untried(first):
                if watch():
                    ended = "interrupted; the best trial so far is used"
                    break
                if self.trials and not self._affords(config):
                    ended = "the rest of the time is needed to train the winner"
                    self.left_out[name] = "the time is too short to train it"
                    if name not in first:
                        self._closed.add(_form(config))
                    continue
                self._try(name, config, watch)
        if not self.trials:
            if watch.asked:
                raise Interrupted("interrupted before the first trial ended", watch.received or 2)
            reasons = "; ".join(f"{name}: {why}" for name, why in self.left_out.items())
            raise InputError(
                f"auto: none of the candidates can be trained on this data ({reasons})"
            )
        best = self.best
        self.left_out = {name: why for name, why in self.left_out.items() if name in first}
        self.reporter.say(f"auto: {ended}; {best.name} is the best of {len(self.trials)} trials")
        self.write(ended=ended, winner=best.name)
        return best

    def _untried(self, first: dict[str, Config]) -> Iterator[tuple[str, Config]]:
        """Yield untried candidates by name, and then neighbours of the best trials.

        The hybrid of the best filters follows the other filters, and precedes the candidates that
        need training. The hybrid is added to ``first``.
        """
        fitted = {name: made for name, made in first.items() if made.model.kind.fitted}
        for name, config in fitted.items():
            if name not in self._tried():
                yield name, config
        earlier = [trial.config for trial in self.trials if trial.name == HYBRID]
        made = earlier[0] if earlier else self._hybrid()
        if made is not None:
            first[HYBRID] = made
        # The sort is stable, and puts the hybrid before the candidates that need training.
        for name, config in sorted(first.items(), key=lambda at: not at[1].model.kind.fitted):
            if name not in self._tried():
                yield name, config
        while (neighbour := self._next_neighbour(first)) is not None:
            yield neighbour

    def _hybrid(self) -> Config | None:
        """Return the best sparse filter blended with the best EASE; None if either is missing."""
        ranked = [t.config for t in self._ranked() if t.config.model.kind.fitted]
        dense = [config.model for config in ranked if config.model.filter == "ease"]
        sparse = [config for config in ranked if config.model.filter in SPARSE]
        if not dense or not sparse:
            return None
        options = {name: getattr(dense[0], name) for name in EASE}
        model = replace(sparse[0].model, ease_weight=1.0, **options)
        return replace(sparse[0], model=model)

    def _tried(self) -> set[str]:
        return {trial.name for trial in self.trials} | self.left_out.keys()

    def _next_neighbour(self, first: dict[str, Config]) -> tuple[str, Config] | None:
        """Return an untried neighbour and its name; None if there is none.

        Only neighbours of each family's best trial are tried, beginning with the best family.
        """
        best_of_family: dict[str, Trial] = {}
        for trial in self._ranked():
            best_of_family.setdefault(trial.family, trial)
        tried, known = self._tried(), [trial.config for trial in self.trials]
        for family, trial in best_of_family.items():
            if _form(trial.config) in self._closed:
                continue
            for config in neighbours(trial.config):
                name = f"{family}: {_options(first[family], config)}"
                if name not in tried and config not in known:
                    return name, config
        return None

    def _affords(self, config: Config) -> bool:
        """Return whether the time left suffices for this trial and then for the winner's run."""
        if not config.model.kind.fitted:
            return self._allotted() >= _LEAST
        fit, rank = self._expected(config)
        again = _AGAIN * fit + _RANKINGS * rank + _REPORT
        if self.trials:
            again = max(again, self.best.again)
        return self.budget - self.spent > fit + rank / self._sampled[1] + again

    def _expected(self, config: Config) -> tuple[float, float]:
        """Return the expected seconds for fitting a filter, and for ranking validation once."""
        fitted = [t for t in self.trials if t.config.model.kind.fitted]
        alike = [t for t in fitted if _form(t.config) == _form(config)]
        if alike:
            return max(t.seconds for t in alike), max(t.rank_seconds for t in alike)
        model, train = config.model, self.task.splits.train
        rank = max((t.rank_seconds for t in fitted), default=1.0)
        if model.filter == "popularity":
            return _COMPILE, rank
        n_users, n_items = train.n_users, train.n_items
        flop, column = self._speed
        fit = _COMPILE
        if model.filter == "ease" or model.ease_weight > 0:
            known = [t.seconds for t in fitted if t.config.model.filter == "ease"]
            work = n_items**3
            if 2 * n_users < n_items:
                work = n_users * n_items**2 + 2 * n_users**2 * n_items + 4 * n_users**3
            fit += max(known) if known else _SLACK * work * flop
        if model.filter != "ease":
            of_rank = int((self.task.splits.validation.user_counts() > 0).sum())
            pairs = model.products if model.filter == "cheby-cf" else order(model)
            rank += of_rank * column * (pairs + _BLENDED * (model.neighbour_weight > 0))
            fit += 6 * (model.dim + 16) * column + 8 * n_items * (model.dim + 16) ** 2 * flop
        else:
            rank = max(rank, n_users * n_items * min(n_items, 64 * train.n_edges / n_users) * flop)
        return fit, rank

    @cached_property
    def _speed(self) -> tuple[float, float]:
        """Two durations in seconds, measured on this machine.

        The first is the time per multiply-add of a dense product. The second is the time per column
        of a pair of sparse products with the graph.
        """
        side = 16 * _PROBE
        dense = np.ones((side, side), np.float32)
        train = self.task.splits.train
        pairs, degree_U, degree_I = filters.weighted(train)
        matrix = filters.halves(pairs, degree_U, degree_I)
        block = jnp.ones((train.n_items, _PROBE))

        def multiplied() -> Any:
            return dense @ dense

        def propagated() -> Any:
            return filters.polynomial(matrix, jnp.ones(2), block).block_until_ready()

        taken = []
        for call in (multiplied, propagated):
            call()
            began = time.monotonic()
            call()
            taken.append(time.monotonic() - began)
        return taken[0] / side**3, taken[1] / _PROBE

    def _allotted(self) -> float:
        """Return how many seconds a trial may train.

        If the trial wins, its run must still fit into the budget.
        """
        ranking = max((trial.rank_seconds for trial in self.trials), default=1.0)
        room = self.budget - self.spent - _REPORT - _RANKINGS * ranking
        return min(_SHARE * self.budget, room / (1 + _AGAIN))

    def _try(self, name: str, config: Config, watch: Deadline) -> None:
        """Run one trial; record its result, or the reason for having no result."""
        try:
            result = self._fit(config) if config.model.kind.fitted else self._train(config, watch)
        except (InputError, RunError) as e:
            self.left_out[name] = str(e).splitlines()[0]
            self.reporter.say(f"auto: {name} is left out: {self.left_out[name]}")
            return
        if result is None:
            self.left_out[name] = "its time ended before its first evaluation"
            return
        config, metrics, seconds, ranking = result
        value, ndcg = metrics[config.metric], metrics[f"ndcg@{shown_cutoff(config.eval.k)}"]
        self.trials.append(Trial(name, config, value, round(seconds, 3), round(ranking, 3), ndcg))
        took = f"{seconds + ranking:.1f} s"
        self.reporter.say(f"auto: {name}: {self.task.config.metric} {value:.4f}, {took}")
        self.write()

    def _fit(self, config: Config) -> Result:
        of_trials, ratio = self._sampled
        task = FilterTask(config, of_trials.dataset, of_trials.splits)
        task.check()
        began, before = time.monotonic(), self._kept.saved
        problem = task.problem("search", None, None)
        state = problem.fit(self._kept)
        fitted = time.monotonic()
        metrics = problem.measure("validation", state, lambda: False)
        assert metrics is not None
        ranked = time.monotonic()
        if self.popularity is None:
            popular = popularity_scorer(task.splits.train.item_counts())
            evaluator = problem.evaluator("validation")
            measured = None if evaluator is None else evaluator(popular)
            self.popularity = None if measured is None else measured[config.metric]
        seconds = fitted - began + self._kept.saved - before
        return config, metrics, seconds, ratio * (ranked - fitted)

    def _train(self, config: Config, watch: Deadline) -> Result | None:
        """Train until the trial's time is over; return the result of the best evaluation."""
        task = replace(
            self._sampled[0],
            config=replace(
                config, checkpoint=CheckpointConfig(every=0), log=LogConfig(doctor=False)
            ),
        )
        task.check()
        allotted, sign = self._allotted(), -1 if lower_is_better(config.metric) else 1
        watch.allow(allotted)
        began = time.monotonic()

        def judge(step: int, metrics: dict[str, float]) -> None:
            """Stop a training that lags far behind the best trial."""
            late = time.monotonic() - began > _AFTER * allotted
            behind = bool(self.trials) and metrics[config.metric] < _BEHIND * self.best.value
            if late and behind and sign > 0:
                watch.allow(-1.0)

        with tempfile.TemporaryDirectory(prefix="jaxrec-auto-") as parent:
            checkpoints = Checkpoints(Path(parent) / "checkpoints", 1)
            log = RunLog(Path(parent), task.config.log, 0, True)
            try:
                problem = task.problem("search", None, None)
                loop = Loop(problem, Phase("search", 0), checkpoints, log, Reporter(True), watch)
                loop.on_eval = judge
                loop.run(None, chooses=False)
            except Interrupted:
                pass  # the evaluations so far are used
            finally:
                log.close()
                checkpoints.close()
            seconds = time.monotonic() - began
            lines = [line for line in log.records if line["split"] == "validation"]
        watch.allow(math.inf)
        lines = [line for line in lines if line["step"] > 0]
        if not lines:
            return None
        best = max(lines, key=lambda line: sign * line[config.metric])
        epochs = max(round(best["epoch"]), 1)
        # As the learning rate is constant, a shorter run equals the beginning of a longer run.
        share = seconds * best["step"] / lines[-1]["step"]
        config = replace(config, train=replace(config.train, epochs=epochs, patience=0))
        ranking = max((trial.rank_seconds for trial in self.trials), default=0.0)
        return config, best, share, ranking


def _form(config: Config) -> tuple[Any, ...]:
    """Return the options that determine the time of fitting and ranking."""
    model = config.model
    blended = model.neighbour_weight > 0, model.ease_weight > 0
    return (model.name, model.filter, model.dim, *blended)


def _options(first: Config, config: Config) -> str:
    """List the options in which a configuration differs from the candidate ``first``."""
    ours, base = configs.to_dict(config), configs.to_dict(first)
    changed = [
        f"{section}.{option} {value:.4g}"
        for section in ("model", "optim", "train")
        for option, value in ours[section].items()
        if value != base[section][option] and option not in ("epochs", "patience")
    ]
    return " ".join(changed) or "its first values"


def winner(trial: Trial) -> Config:
    """Return the configuration of the run that trains the winner."""
    config = trial.config
    return replace(config, train=replace(config.train, refit=True))
