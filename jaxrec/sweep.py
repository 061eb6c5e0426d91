"""Search over configurations: Optuna proposes trials and validation decides between them.

A sweep without a search space trains one configuration with all seeds on all folds, if
``split.name`` is folds or windows. Each fold is a trial.

A sweep is a folder with ``sweep.json`` (the sweep's settings), ``study.db`` (Optuna's SQLite
storage) and the run folders ``trial-N/seed-S``, or ``fold-N/seed-S``. Several processes may work on
it at once. If one dies, the lock of its trial is released, and another process resumes the trial
from its last checkpoint.

Runs that differ only in the seed and in certain numbers train together in one program
(:mod:`jaxrec.training.together`). These may be the seeds of a trial or the trials of a batch.
"""

import dataclasses
import fcntl
import importlib.util
import itertools
import json
import statistics
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from jaxrec import config as configs
from jaxrec.config import FOLDED, Config, lower_is_better
from jaxrec.errors import InputError, RunError, nearest
from jaxrec.files import write_json
from jaxrec.runfolder import SWEEP, read_json

Sampler = Literal["tpe", "random", "grid"]


class Range(NamedTuple):
    """Numbers from low to high, optionally in steps or on a log scale; ``whole`` means integers."""

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool


Space = dict[str, Range | tuple[Any, ...]]
"""The range or the choices of each field of the configuration (such as ``optim.learning_rate``)."""


def read_space(path: str | Path) -> Space:
    """Read a search space from a TOML file.

    The file has a table for each field, with ``choices``, or with ``low`` and ``high`` and
    optionally ``step`` or ``log``.

    Raises:
      InputError: the file cannot be read, or an entry is invalid.
    """
    try:
        entries = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e})") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: is not valid TOML ({e})") from e
    space: Space = {}
    for name, entry in _flat(entries).items():
        space[name.replace("-", "_")] = _dimension(f"{path}: {name}", entry)
    if not space:
        raise InputError(f'{path}: has no field; add a table such as ["optim.learning-rate"]')
    return space


def _flat(entries: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Collect the tables by dotted name, whether TOML nests them or quotes their name."""
    flat = {}
    for name, entry in entries.items():
        dotted = f"{prefix}{name}"
        if isinstance(entry, dict) and not {"choices", "low", "high"} & set(entry):
            flat |= _flat(entry, f"{dotted}.")
        else:
            flat[dotted] = entry
    return flat


def _dimension(where: str, entry: Any) -> Range | tuple[Any, ...]:
    """Check an entry of the search space, and return its range or its choices."""
    keys = ("choices", "low", "high", "step", "log")
    if not isinstance(entry, dict):
        raise InputError(f"{where}: give choices = [...], or low and high")
    for key in entry:
        if key not in keys:
            raise InputError(
                f"{where}: unknown {key!r}{nearest(key, keys)}; give choices, or low and high"
            )
    if "choices" in entry:
        choices = entry["choices"]
        if len(entry) > 1 or not isinstance(choices, list) or not choices:
            raise InputError(
                f"{where}: choices must be a list of values, and no other key may be given"
            )
        return tuple(choices)
    step, log = entry.get("step"), entry.get("log", False)
    low, high = entry.get("low", ""), entry.get("high", "")
    numbers = [low, high, *([] if step is None else [step])]
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise InputError(f"{where}: low, high and step must be numbers")
    if not low < high or (step is not None and step <= 0):
        raise InputError(f"{where}: low must be below high, and step above 0")
    if log and (low <= 0 or step is not None):
        raise InputError(f"{where}: a log scale needs a low above 0 and no step")
    whole = all(isinstance(n, int) for n in numbers)
    return Range(low, high, step, bool(log), whole)


def with_values(config: Config, values: dict[str, Any]) -> Config:
    """Return the configuration with other values of some fields, given by dotted name.

    Raises:
      InputError: there is no such field, or the value is invalid for it.
    """
    changed = configs.to_dict(config)
    for name, value in values.items():
        section = changed
        *sections, last = name.split(".")
        for part in sections:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise InputError(
                f"the search space has {name!r}, which is not a field of the configuration; "
                "`jaxrec train --help` lists the fields"
            )
        if isinstance(section[last], float) and isinstance(value, int):
            value = float(value)
        section[last] = value
    return configs.from_dict(changed)


def _optuna() -> Any:
    """Import Optuna, which is an extra and loads slowly."""
    import optuna  # pyright: ignore[reportMissingImports]

    return optuna


def require_optuna() -> None:
    """Raise InputError with the command to install Optuna, if it is missing."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("a sweep needs Optuna; install it with: pip install 'jaxrec[sweep]'")


class _Pruned(Exception):
    """Raised to stop a trial that validation shows to be worse than others."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A search over configurations in a folder.

    Attributes:
      folder: the sweep's folder.
      base: the configuration whose fields the space changes.
      space: the fields to search, and their values; if empty, nothing is searched, and the sweep
        trains ``base`` on each fold.
      seeds: runs per trial, with seeds ``base.seed``, ``base.seed + 1``, ..., all on one split.
      sampler: ``tpe`` and ``random`` draw values, seeded by the trial's number; ``grid`` tries
        every combination of choices and steps.
      prune: whether to stop a trial of a search if its first seed is worse than the median of other
        trials at the same step.
      batch: trials proposed and trained at once. ``tpe`` learns from trials that have ended, so it
        chooses less well if it proposes more trials at once.
      say: receives lines for the console.
    """

    folder: Path
    base: Config
    space: Space
    seeds: int = 1
    sampler: Sampler = "tpe"
    prune: bool = True
    batch: int = 1
    say: Callable[[str], None] = print

    def check(self) -> None:
        """Raise InputError for an invalid sweep, before anything is written."""
        require_optuna()
        if not self.space:
            if self.base.split.fold:
                raise InputError(
                    "without --space, a sweep trains all folds; leave out --split.fold, or train "
                    "one fold with `jaxrec train`"
                )
            return
        if self.base.eval.select_on != "validation":
            raise InputError("a sweep is decided on validation: set --eval.select-on validation")
        if self.base.train.refit:
            raise InputError(
                "train.refit trains on the validation pairs that decide a sweep; leave it out, and "
                "run `jaxrec refit` on the best trial"
            )
        for name, dimension in self.space.items():
            values = dimension[:2] if isinstance(dimension, Range) else dimension
            for value in values:
                if name == "seed" or name.startswith(("split.", "eval.")):
                    raise InputError(
                        f"{name} decides how trials are judged and cannot be searched; remove it "
                        "from the space"
                    )
                if len(self.space) == 1:
                    with_values(self.base, {name: value})
        with_values(self.base, {name: _first(values) for name, values in self.space.items()})
        if self.sampler == "grid":
            self._grid()

    @property
    def _folds(self) -> bool:
        """Whether the trials are the folds of one configuration."""
        return not self.space and self.base.split.name in FOLDED

    @property
    def _axes(self) -> Space:
        """The fields in which trials differ, and their values."""
        folds = {"split.fold": tuple(range(self.base.split.folds))} if self._folds else {}
        return self.space or folds

    @property
    def _of_grid(self) -> bool:
        return self.sampler == "grid" or not self.space

    def _trial_folder(self, number: int) -> Path:
        return self.folder / f"{'fold' if self._folds else 'trial'}-{number}"

    def _grid(self) -> list[dict[str, Any]]:
        """Return every combination of choices and steps, or every fold."""
        axes = []
        for name, values in self._axes.items():
            if isinstance(values, Range):
                if values.log or (values.step is None and not values.whole):
                    raise InputError(f"{name}: a grid needs choices, or a range with a step")
                step = values.step or 1
                count = int((values.high - values.low) / step + 1e-9) + 1
                axes.append([values.low + n * step for n in range(count)])
            else:
                axes.append(list(values))
        return [dict(zip(self._axes, point, strict=True)) for point in itertools.product(*axes)]

    def begin(self) -> Any:
        """Create the folder and the Optuna study, or open the existing ones.

        Raises:
          InputError: the folder holds another sweep.
        """
        optuna = _optuna()

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings = {
            "config": configs.to_dict(self.base),
            "space": json.loads(json.dumps(self.space)),
            "seeds": self.seeds,
            "sampler": self.sampler,
            "prune": self.prune,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked(".lock"):
            stored = read_json(self.folder / SWEEP)
            if stored and stored != settings:
                other = next(name for name in settings if stored.get(name) != settings[name])
                raise InputError(
                    f"{self.folder}: holds another sweep ({other} differs); give another --out"
                )
            pruner = optuna.pruners.MedianPruner if self.prune else optuna.pruners.NopPruner
            study = optuna.create_study(
                storage=f"sqlite:///{self.folder.resolve() / 'study.db'}",
                study_name="sweep",
                direction="minimize" if lower_is_better(self.base.metric) else "maximize",
                pruner=pruner(),
                sampler=optuna.samplers.RandomSampler(0),
                load_if_exists=True,
            )
            if not stored:
                for values in self._grid() if self._of_grid else []:
                    study.enqueue_trial(values, skip_if_exists=True)
                write_json(self.folder / SWEEP, settings)
        return study

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold an exclusive lock on a file of the folder."""
        with (self.folder / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def work(self, trials: int) -> Any:
        """Run trials until the study has ``trials`` of them, and return the study.

        A sweep without a search space runs all of its trials, whatever ``trials`` is.

        Raises:
          InputError: the folder holds another sweep.
          Interrupted: a signal arrived; calling this again resumes the trial.
        """
        study = self.begin()
        trials = trials if self.space else len(self._grid())
        while True:
            with ExitStack() as locks:
                claimed = self._claim(study, trials, locks)
                if not claimed:
                    return study
                self._run(study, claimed)

    def _claim(self, study: Any, trials: int, locks: ExitStack) -> list[Any]:
        """Claim and lock the trial of a dead process, or new trials; return [] if all are done."""
        optuna = _optuna()
        Trial, TrialState = optuna.trial.Trial, optuna.trial.TrialState

        # The lock keeps other processes from starting more trials than requested.
        with self._locked(".lock"):
            for running in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                lock = self._lock(running.number)
                if lock is not None:
                    locks.enter_context(lock)
                    self.say(f"trial {running.number}: resuming where its process ended")
                    return [Trial(study, running._trial_id)]
            begun = study.get_trials(deepcopy=False)
            waiting = sum(trial.state == TrialState.WAITING for trial in begun)
            count = min(self.batch, trials - (len(begun) - waiting))
            if self._of_grid:
                count = min(count, waiting)
            claimed = [study.ask() for _ in range(count)]
            for trial in claimed:
                lock = self._lock(trial.number)
                assert lock is not None, "no other process can hold the lock of a new trial"
                locks.enter_context(lock)
                # Optuna stores the values, so that a process that resumes the trial has the same.
                self._values(study, trial)
            return claimed

    def _lock(self, number: int) -> TextIO | None:
        """Lock a trial and return the lock, or None if a living process holds it."""
        folder = self._trial_folder(number)
        folder.mkdir(exist_ok=True)
        file = (folder / ".worker").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def _values(self, study: Any, trial: Any) -> dict[str, Any]:
        """Return the values that the sampler proposes, or proposed before, for a trial."""
        optuna = _optuna()

        # The sampler is seeded by the trial's number, so that draws depend neither on the order of
        # processes nor on restarts.
        seed = (self.base.seed * 1_000_003 + trial.number) % 2**32
        kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        study.sampler = kinds.get(self.sampler, optuna.samplers.RandomSampler)(seed=seed)
        values = {}
        for name, options in self._axes.items():
            if not isinstance(options, Range):
                # Optuna stores only numbers and strings, so other values are suggested by repr.
                choice = trial.suggest_categorical(name, [_plain(value) for value in options])
                values[name] = next(value for value in options if _plain(value) == choice)
            elif options.whole:
                low, high, step = int(options.low), int(options.high), int(options.step or 1)
                values[name] = trial.suggest_int(name, low, high, step=step, log=options.log)
            else:
                low, high, step = options.low, options.high, options.step
                values[name] = trial.suggest_float(name, low, high, step=step, log=options.log)
        return values

    def _run(self, study: Any, claimed: list[Any]) -> None:
        """Run trials for all seeds and report their results to the study."""
        begun = []
        for trial in claimed:
            # Under the lock, a process compares its values with those that others have stored.
            with self._locked(".lock"):
                values = self._values(study, trial)
                same = self._same(study, trial)
            if same is not None:
                self._skip(study, trial, same)
                continue
            shown = ", ".join(f"{name} {value}" for name, value in values.items()) or "all seeds"
            try:
                config = with_values(self.base, values)
            except InputError as e:
                self._fail(study, trial, shown, e)
            else:
                begun.append(_Begun(trial, shown, self._seed_runs(trial, config)))
        self._train_together([run for of in begun for run in of.runs])
        for of in begun:
            self._finish(study, of)

    def _skip(self, study: Any, trial: Any, same: Any) -> None:
        """End a trial that has the same values as another trial."""
        TrialState = _optuna().trial.TrialState

        trial.set_user_attr("same_as", same.number)
        self.say(
            f"trial {trial.number}: is skipped, because trial {same.number} has the same values"
        )
        done = same.state == TrialState.COMPLETE
        result = {"values": same.value} if done else {"state": TrialState.PRUNED}
        study.tell(trial.number, **result)

    def _fail(self, study: Any, trial: Any, shown: str, error: Exception) -> None:
        """Record that a trial of a search failed; without a search, raise the error."""
        if not self.space:
            raise error  # the next call resumes the trial
        trial.set_user_attr("error", str(error))
        study.tell(trial.number, state=_optuna().trial.TrialState.FAIL)
        self.say(f"trial {trial.number}: {shown}: failed: {error}")

    def _seed_runs(self, trial: Any, config: Config) -> "list[_SeedRun]":
        """Return the runs of a trial, one per seed."""
        watch = _Watch(trial, config.metric) if self.prune and self.space else None
        split = dataclasses.replace(config.split, seed=self.base.split_seed)
        runs = []
        for n in range(self.seeds):
            seed = self.base.seed + n
            folder = self._trial_folder(trial.number) / f"seed-{seed}"
            on_eval = watch if n == 0 or watch is None else watch.follow
            of_seed = dataclasses.replace(config, seed=seed, split=split)
            runs.append(_SeedRun(of_seed, folder, on_eval))
        return runs

    def _train_together(self, runs: "list[_SeedRun]") -> None:
        """Train the new runs that can share a program; :meth:`_finish` trains the other runs."""
        if len(runs) < 2:
            return
        from jaxrec.training.run import Member, train_together
        from jaxrec.training.together import TrainedAloneError, program

        groups: list[tuple[Config, list[_SeedRun]]] = []
        for run in runs:
            if (run.folder / "config.json").is_file():
                continue  # the run is resumed later, by itself
            alike = program(run.config)
            group = next((members for of, members in groups if of == alike), None)
            if group is None:
                groups.append((alike, [run]))
            else:
                group.append(run)
        for _, group in groups:
            if len(group) == 1:
                continue
            members = [Member(run.config, run.folder, run.on_eval) for run in group]
            try:
                results = train_together(members, self.say)
            except TrainedAloneError as e:
                self.say(f"{len(group)} runs are trained one at a time: {e}")
                continue
            except (InputError, RunError) as e:
                results = [e] * len(group)
            else:
                self.say(f"{len(group)} runs were trained together in one program")
            for run, result in zip(group, results, strict=True):
                run.result = result

    def _finish(self, study: Any, of: "_Begun") -> None:
        """Train the remaining runs of a trial, and report its result to the study."""
        trial = of.trial
        try:
            by_seed = [self._run_seed(trial, run) for run in of.runs]
        except _Pruned:
            study.tell(trial.number, state=_optuna().trial.TrialState.PRUNED)
            self.say(f"trial {trial.number}: {of.shown}: stopped early")
            return
        except (InputError, RunError) as e:
            self._fail(study, trial, of.shown, e)
            return
        value = statistics.fmean(by_seed)
        trial.set_user_attr("by_seed", by_seed)
        study.tell(trial.number, value)
        self.say(f"trial {trial.number}: {of.shown}: {self.base.metric} {value:.5f}")

    def _same(self, study: Any, trial: Any) -> Any:
        """Return an earlier trial with the same values that has not failed, or None."""
        TrialState = _optuna().trial.TrialState

        for other in study.get_trials(deepcopy=False):
            if other.number >= trial.number or "same_as" in other.user_attrs:
                continue
            if other.params == trial.params and other.state != TrialState.FAIL:
                return other
        return None

    def _run_seed(self, trial: Any, run: "_SeedRun") -> float:
        """Return the metric of a run, training or resuming it if it has no result.

        In a search, this is the metric on validation; otherwise, the metric of the main result.
        """
        from jaxrec.training.run import resume, train

        result = run.result
        if isinstance(result, Exception):
            raise result
        if result is None and (run.folder / "config.json").is_file():
            result = resume(run.folder, on_eval=run.on_eval, quiet=True)
        elif result is None:
            result = train(run.config, run=run.folder, on_eval=run.on_eval, quiet=True)
        content = result.evaluation
        main = not self.space or content["split"] == "validation"
        metrics = (content if main else content["validation"])["metrics"]
        if run.config.metric not in metrics:
            raise InputError(
                f"{run.folder}: has no held-out pairs; hold some out: --split.test 0.2"
            )
        return float(metrics[run.config.metric])


@dataclasses.dataclass
class _SeedRun:
    """A run of a trial; ``result`` is the finished run, or the exception that ended it."""

    config: Config
    folder: Path
    on_eval: Callable[[int, dict[str, float]], None] | None
    result: Any = None


class _Begun(NamedTuple):
    """A trial, its values for the console, and its runs."""

    trial: Any
    shown: str
    runs: list[_SeedRun]


class _Watch:
    """Report each evaluation to the study, and raise _Pruned if the pruner ends the trial."""

    def __init__(self, trial: Any, name: str) -> None:
        self._trial, self._name, self._pruned = trial, name, False
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        self._reported = set(frozen.intermediate_values)

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        if step not in self._reported:
            self._reported.add(step)
            self._trial.report(metrics[self._name], step)
        if self._trial.should_prune():
            self._pruned = True
            raise _Pruned

    def follow(self, step: int, metrics: dict[str, float]) -> None:
        """Stop the run of another seed of the trial, if the run of the first seed was pruned."""
        if self._pruned:
            raise _Pruned


def _first(values: Range | tuple[Any, ...]) -> Any:
    return values.low if isinstance(values, Range) else values[0]


def _plain(value: Any) -> Any:
    """Convert a value to one that Optuna can store."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def best(study: Any, most: int = 10) -> list[Any]:
    """Return up to ``most`` completed trials, best first."""
    optuna = _optuna()
    StudyDirection, TrialState = optuna.study.StudyDirection, optuna.trial.TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    return sorted(done, key=lambda trial: (sign * trial.value, trial.number))[:most]
