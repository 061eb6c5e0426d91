"""Searches over configurations: Optuna proposes, validation decides, every trial is a run folder.

A sweep is a folder: ``sweep.json`` (what is searched), ``study.db`` (Optuna's SQLite storage) and
``trial-N/seed-S``, the runs. Any number of processes may work on it at once; one that dies leaves a
trial whose lock is free, which the next one goes on with from the trial's last checkpoint.
"""

import dataclasses
import fcntl
import importlib.util
import itertools
import json
import statistics
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from jaxrec import config as configs
from jaxrec.config import Config, lower_is_better
from jaxrec.errors import InputError, RunError, nearest
from jaxrec.files import write_json
from jaxrec.runfolder import read_json

Sampler = Literal["tpe", "random", "grid"]


class Range(NamedTuple):
    """Numbers from low to high, whole ones where ``whole``; by ``step``, or on a log scale."""

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool


Space = dict[str, Range | tuple[Any, ...]]
"""By field of the configuration (``optim.learning_rate``) a range, or the values to choose from."""


def read_space(path: str | Path) -> Space:
    """A search space from TOML: a table a field, with ``choices``, or ``low`` and ``high`` and
    perhaps ``step`` or ``log``.

    Raises:
      InputError: the file cannot be read, or an entry cannot be used.
    """
    try:
        entries = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e})") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InputError(f"{path}: is no TOML ({e})") from e
    space: Space = {}
    for name, entry in _flat(entries).items():
        space[name.replace("-", "_")] = _dimension(f"{path}: {name}", entry)
    if not space:
        raise InputError(f'{path}: names no field, such as ["optim.learning-rate"]')
    return space


def _flat(entries: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Tables by dotted name, whether TOML has them nested or under a quoted name."""
    found = {}
    for name, entry in entries.items():
        whole = f"{above}{name}"
        if isinstance(entry, dict) and not {"choices", "low", "high"} & set(entry):
            found |= _flat(entry, f"{whole}.")
        else:
            found[whole] = entry
    return found


def _dimension(where: str, entry: Any) -> Range | tuple[Any, ...]:
    known = ("choices", "low", "high", "step", "log")
    if not isinstance(entry, dict):
        raise InputError(f"{where}: needs choices = [...], or low and high")
    for key in entry:
        if key not in known:
            raise InputError(f"{where}: unknown {key!r}{nearest(key, known)}")
    if "choices" in entry:
        choices = entry["choices"]
        if len(entry) > 1 or not isinstance(choices, list) or not choices:
            raise InputError(f"{where}: choices is a list of values, and stands alone")
        return tuple(choices)
    step, log = entry.get("step"), entry.get("log", False)
    low, high = entry.get("low", ""), entry.get("high", "")
    numbers = [low, high, *([] if step is None else [step])]
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise InputError(f"{where}: low, high and step are numbers")
    if not low < high or (step is not None and step <= 0):
        raise InputError(f"{where}: low must be below high, and step above 0")
    if log and (low <= 0 or step is not None):
        raise InputError(f"{where}: a log scale needs a low above 0 and no step")
    whole = all(isinstance(n, int) for n in numbers)
    return Range(low, high, step, bool(log), whole)


def with_values(config: Config, values: dict[str, Any]) -> Config:
    """The configuration with other values of some fields, by dotted name.

    Raises:
      InputError: there is no such field, or it does not take the value.
    """
    made = configs.to_dict(config)
    for name, value in values.items():
        section = made
        *above, last = name.split(".")
        for part in above:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise InputError(f"the space names {name!r}, which is no field of the configuration")
        if isinstance(section[last], float) and isinstance(value, int):
            value = float(value)
        section[last] = value
    return configs.from_dict(made)


def _optuna() -> Any:
    """The module, which takes a while to load and is an extra."""
    import optuna  # pyright: ignore[reportMissingImports]

    return optuna


def require_optuna() -> None:
    """Raise InputError with the command that installs Optuna where it is absent."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("a sweep needs Optuna: pip install 'jaxrec[sweep]' brings it")


class _Pruned(Exception):
    """Validation says that the trial will not be among the best."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep's folder and what is searched.

    Attributes:
      folder: where everything is.
      base: the configuration that the space changes.
      space: what is searched.
      seeds: runs a trial, of seeds ``base.seed``, ``base.seed + 1``, ...; all on one split.
      sampler: ``tpe`` and ``random`` draw, each trial by its number; ``grid`` takes every
        combination of choices and steps.
      prune: stop a trial whose first seed is below the median of the others at the same step.
      say: takes lines for people.
    """

    folder: Path
    base: Config
    space: Space
    seeds: int = 1
    sampler: Sampler = "tpe"
    prune: bool = True
    say: Callable[[str], None] = print

    def check(self) -> None:
        """Raise InputError for what cannot be searched, before anything is written."""
        require_optuna()
        if self.base.eval.select_on != "validation":
            raise InputError("a sweep is decided on validation: set --eval.select-on validation")
        if self.base.train.refit:
            raise InputError(
                "train.refit trains on validation, which decides a sweep; refit the best afterwards"
            )
        for name, dimension in self.space.items():
            values = dimension[:2] if isinstance(dimension, Range) else dimension
            for value in values:
                if name in ("seed", "split.seed") or name.startswith("eval."):
                    raise InputError(f"{name} is how trials are judged, and is not searched")
                if len(self.space) == 1:
                    with_values(self.base, {name: value})
        with_values(self.base, {name: _first(of) for name, of in self.space.items()})
        if self.sampler == "grid":
            self._grid()

    def _grid(self) -> list[dict[str, Any]]:
        axes = []
        for name, of in self.space.items():
            if isinstance(of, Range):
                if of.log or (of.step is None and not of.whole):
                    raise InputError(f"{name}: a grid needs choices, or a range with a step")
                step = of.step or 1
                count = int((of.high - of.low) / step + 1e-9) + 1
                axes.append([of.low + n * step for n in range(count)])
            else:
                axes.append(list(of))
        return [dict(zip(self.space, at, strict=True)) for at in itertools.product(*axes)]

    def begin(self) -> Any:
        """Make the folder and the study, or open what is there already.

        Raises:
          InputError: the folder holds another sweep.
        """
        optuna = _optuna()

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        asked = {
            "config": configs.to_dict(self.base),
            "space": json.loads(json.dumps(self.space)),
            "seeds": self.seeds,
            "sampler": self.sampler,
            "prune": self.prune,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._held(".lock"):
            there = read_json(self.folder / "sweep.json")
            if there and there != asked:
                other = next(name for name in asked if there.get(name) != asked[name])
                raise InputError(
                    f"{self.folder}: holds another sweep ({other} differs); name another --out"
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
            if not there:
                for values in self._grid() if self.sampler == "grid" else []:
                    study.enqueue_trial(values, skip_if_exists=True)
                write_json(self.folder / "sweep.json", asked)
        return study

    @contextmanager
    def _held(self, name: str) -> Iterator[None]:
        with (self.folder / name).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def work(self, trials: int) -> Any:
        """Run trials until the study has so many; returns the study.

        Raises:
          InputError: the folder holds another sweep.
          Interrupted: a signal came; working on goes on with the trial.
        """
        study = self.begin()
        while (taken := self._take(study, trials)) is not None:
            trial, lock = taken
            with lock:
                self._run(study, trial)
        return study

    def _take(self, study: Any, trials: int) -> tuple[Any, TextIO] | None:
        """A trial that a dead process left, or a new one, with its lock; None where all are had."""
        optuna = _optuna()
        Trial, TrialState = optuna.trial.Trial, optuna.trial.TrialState

        # Nobody else takes a trial meanwhile, so that there are never more than were asked for.
        with self._held(".lock"):
            for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                lock = self._lock(left.number)
                if lock is not None:
                    self.say(f"trial {left.number}: goes on where its process ended")
                    return Trial(study, left._trial_id), lock
            begun = study.get_trials(deepcopy=False)
            waiting = [trial for trial in begun if trial.state == TrialState.WAITING]
            if len(begun) - len(waiting) >= trials or (self.sampler == "grid" and not waiting):
                return None
            trial = study.ask()
            lock = self._lock(trial.number)
            assert lock is not None, "a new trial is nobody's"
            return trial, lock

    def _lock(self, number: int) -> TextIO | None:
        """The lock of a trial; None where a process that lives has it."""
        folder = self.folder / f"trial-{number}"
        folder.mkdir(exist_ok=True)
        file = (folder / ".worker").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def _values(self, study: Any, trial: Any) -> dict[str, Any]:
        """What the sampler proposes; the same again for a trial that has proposals."""
        optuna = _optuna()

        # By its number, so that neither the order of processes nor a restart changes a draw.
        seed = (self.base.seed * 1_000_003 + trial.number) % 2**32
        kinds = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
        study.sampler = kinds.get(self.sampler, optuna.samplers.RandomSampler)(seed=seed)
        values = {}
        for name, of in self.space.items():
            if not isinstance(of, Range):
                # Optuna keeps numbers and text; lists are chosen by their place.
                at = trial.suggest_categorical(name, [_plain(value) for value in of])
                values[name] = next(value for value in of if _plain(value) == at)
            elif of.whole:
                whole = int(of.low), int(of.high)
                values[name] = trial.suggest_int(name, *whole, step=int(of.step or 1), log=of.log)
            else:
                values[name] = trial.suggest_float(name, of.low, of.high, step=of.step, log=of.log)
        return values

    def _run(self, study: Any, trial: Any) -> None:
        TrialState = _optuna().trial.TrialState

        with self._held(".lock"):  # two processes that draw alike see each other
            values = self._values(study, trial)
            same = self._same(study, trial)
        if same is not None:
            trial.set_user_attr("same_as", same.number)
            self.say(f"trial {trial.number}: the same as trial {same.number}")
            done = same.state == TrialState.COMPLETE
            how = {"values": same.value} if done else {"state": TrialState.PRUNED}
            study.tell(trial.number, **how)
            return
        shown = ", ".join(f"{name} {value}" for name, value in values.items())
        try:
            config = with_values(self.base, values)
            found = [self._one(trial, config, n) for n in range(self.seeds)]
        except _Pruned:
            study.tell(trial.number, state=TrialState.PRUNED)
            self.say(f"trial {trial.number}: {shown}: stopped early")
            return
        except (InputError, RunError) as e:
            trial.set_user_attr("error", str(e))
            study.tell(trial.number, state=TrialState.FAIL)
            self.say(f"trial {trial.number}: {shown}: failed: {e}")
            return
        value = statistics.fmean(found)
        trial.set_user_attr("by_seed", found)
        study.tell(trial.number, value)
        self.say(f"trial {trial.number}: {shown}: {self.base.metric} {value:.5f}")

    def _same(self, study: Any, trial: Any) -> Any:
        """A trial that drew the same values before, and is had or under way."""
        TrialState = _optuna().trial.TrialState

        for other in study.get_trials(deepcopy=False):
            if other.number == trial.number or "same_as" in other.user_attrs:
                continue
            if other.params == trial.params and other.state != TrialState.FAIL:
                return other
        return None

    def _one(self, trial: Any, config: Config, n: int) -> float:
        """Validation's metric of one seed of a trial."""
        from jaxrec.training.run import resume, train

        seed = self.base.seed + n
        split = dataclasses.replace(config.split, seed=self.base.split_seed)
        config = dataclasses.replace(config, seed=seed, split=split)
        run = self.folder / f"trial-{trial.number}" / f"seed-{seed}"
        metric = config.metric
        told = _Watch(trial, metric) if self.prune and n == 0 else None
        if (run / "config.json").is_file():
            done = resume(run, on_eval=told, quiet=True)
        else:
            done = train(config, run=run, on_eval=told, quiet=True)
        content = done.evaluation
        part = content if content["split"] == "validation" else content["validation"]
        return float(part["metrics"][metric])


class _Watch:
    """Tells the study each evaluation, and ends the run once its pruner says so."""

    def __init__(self, trial: Any, name: str) -> None:
        self._trial, self._name = trial, name
        frozen = trial.study.get_trials(deepcopy=False)[trial.number]
        self._told = set(frozen.intermediate_values)

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        if step not in self._told:
            self._told.add(step)
            self._trial.report(metrics[self._name], step)
        if self._trial.should_prune():
            raise _Pruned


def _first(of: Range | tuple[Any, ...]) -> Any:
    return of.low if isinstance(of, Range) else of[0]


def _plain(value: Any) -> Any:
    """A value as Optuna keeps it."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def best(study: Any, most: int = 10) -> list[Any]:
    """The completed trials, best first."""
    optuna = _optuna()
    StudyDirection, TrialState = optuna.study.StudyDirection, optuna.trial.TrialState

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    return sorted(done, key=lambda trial: (sign * trial.value, trial.number))[:most]
