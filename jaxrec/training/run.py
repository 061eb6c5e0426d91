"""Trains, refits and evaluates a whole run in its folder, for ``jaxrec train`` and ``resume``."""

import contextlib
import dataclasses
import fcntl
import functools
import gc
import importlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import optax

from jaxrec import config as configs
from jaxrec import fork_check, host_settings, presets, processes, registry
from jaxrec.config import Config, MeshConfig, Table, lower_is_better
from jaxrec.config.changes import dotted
from jaxrec.data import array_checks
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import in_memory, paths
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.synthetic import EMBEDDED
from jaxrec.errors import InputError, Interrupted, RunError
from jaxrec.evaluation.cold import sentence
from jaxrec.files import check_path, is_partial, remove, remove_partial, write_json
from jaxrec.log import Reporter, RunLog
from jaxrec.models import Encoder
from jaxrec.parted.stored import Parted
from jaxrec.runfolder import RUN_FILES, check_run, read_json
from jaxrec.trackers import check_extras
from jaxrec.training import auto, environment, extend_and_refit, results, self_check, warm_start
from jaxrec.training.checkpoint import Checkpoints, Sealed
from jaxrec.training.finished_run import Run
from jaxrec.training.loop import Loop, OnEval, Outcome, Phase, Trainable
from jaxrec.training.pre_run_checks import least_bytes, memory_limit
from jaxrec.training.problem import Problem
from jaxrec.training.signals import SignalWatch
from jaxrec.training.task import Task, UserTask
from jaxrec.training.together import Together, TrainedAloneError, program, why_alone


@host_settings.root_logger_as_found()
def train(
    config: Any = None,
    *,
    preset: str | None = None,
    data: Any = None,
    model: str | Callable[..., Encoder] | None = None,
    model_options: dict[str, Any] | None = None,
    loss: str | Callable[..., Any] | None = None,
    run: str | Path | None = None,
    seed: int | None = None,
    tx: optax.GradientTransformation | None = None,
    overwrite: bool = False,
    on_eval: OnEval | None = None,
    quiet: bool = False,
    may_exit: bool = False,
    **options: Any,
) -> Run:
    """Train and evaluate a model, and write its run folder.

    Args:
      config: the configuration, or the name of a preset (default "quickstart"). Data in memory may
        also be given here instead of as ``data``.
      preset: the name of a preset, instead of ``config``.
      data: a Dataset, or an ItemGraph for item models; anything that ``--data`` takes; or a table
        of pandas, polars, pyarrow or scipy (:mod:`jaxrec.data.formats.in_memory`). Overrides the
        configuration's data.
      model: overrides model.name: a registered name, or a subclass of ``jaxrec.models.Encoder``
        (or a function of sizes, config and rngs that returns one). config.json stores the model's
        name and options, but no code: pass the same model to :func:`resume`.
      model_options: keyword arguments of the model's constructor, as JSON values.
      loss: overrides loss.name: a registered name, or a pure function that returns one value per
        pair [B]. Its arguments are the scores pos_B [B] and neg_BN [B, N], and valid_BN [B, N],
        which marks the negatives that count.
      run: a new run folder; default runs/PRESET-N.
      overwrite: replace the run in the folder, after checking the new configuration and data. A
        folder that holds other files is refused.
      seed: overrides the configuration's seed.
      tx: an optax chain to replace the configured one; pass it to :func:`resume` again.
      on_eval: called after each evaluation during training, with the step of the run and the
        metrics of the selection split. An exception that it raises ends the run, which can be
        resumed.
      quiet: print nothing.
      may_exit: let a signal end the process at once while nothing is unsaved, as the command line
        does.
      options: fields of the configuration, named by the last part of their dotted names:
        ``epochs=3``, ``learning_rate=0.01``, ``dim=32``. The name must be unique.

    Raises:
      InputError: configuration, data or folder cannot be used.
      RunError: the run failed (NaN loss, full disk).
      Interrupted: SIGINT or SIGTERM came, and a checkpoint is written. The exception is also a
        KeyboardInterrupt.

    >>> import jaxrec
    >>> data = jaxrec.read("shop")
    >>> run = jaxrec.train("mf", data=data, dim=8, epochs=2, run="runs/mine", quiet=True)
    >>> run.folder.name, run.config.model.dim, "recall@20" in run.metrics
    ('mine', 8, True)
    """
    config = in_memory.taken(config)
    began = time.monotonic()
    if isinstance(config, Dataset | ItemGraph):
        if data is not None:
            raise InputError("data is given twice: as the first argument and as data=; drop one")
        config, data = None, config
    data = in_memory.taken(data)
    array_checks.refuse_foreign(data, Dataset, ItemGraph)
    fork_check.check()
    if overwrite and run is None:
        raise InputError("--overwrite needs --run; without it the run gets a new folder")
    if config is not None and preset is not None:
        raise InputError("give a config or a preset, not both")
    if config is None or isinstance(config, str):
        config = presets.get(config or preset or ("lightgcn" if model else "quickstart"))
    config = config.replace(dotted(config, options))
    config = _with_python_parts(config, model, model_options, loss)
    registry.check_known(config)
    if seed is not None:
        config = dataclasses.replace(config, seed=seed)
    if isinstance(data, Dataset | ItemGraph):
        config = dataclasses.replace(config, data=configs.IN_MEMORY)
    elif data is not None:
        config = dataclasses.replace(config, data=str(data))
    config = _with_whole_paths(config)
    check_extras(config.log)
    processes.join(config.mesh)
    with SignalWatch(may_exit) as watch:
        with watch.may_leave(_nothing):
            warm_start.check_alike(config)
            task = task_of(config, config.data if data is None else data)
            self_check.once()
            task.check()  # raises before the folder is created
            folder = processes.made_by_first(lambda: _new_folder(config, run, overwrite), run)
        with _locked(folder):
            _store(folder, config)
            if config.minutes is not None:
                return _search(folder, task, tx, quiet, watch, began)
            reporter = Reporter(quiet or not processes.first())
            return _go(folder, task, tx, reporter, watch, on_eval)


def _with_whole_paths(config: Config) -> Config:
    """Return the configuration with absolute paths, so that any working directory can resume it."""
    named = config.data in (*EMBEDDED, configs.IN_MEMORY)
    path = Path(config.data)
    if not named and (path.exists() or paths.is_pattern(path)):
        config = dataclasses.replace(config, data=str(path.resolve()))
    if config.warm_start is not None:
        config = dataclasses.replace(config, warm_start=str(Path(config.warm_start).resolve()))
    vectors = config.model.frozen_items
    if vectors is not None:
        frozen = dataclasses.replace(config.model, frozen_items=str(Path(vectors).resolve()))
        config = dataclasses.replace(config, model=frozen)
    return config


def _store(folder: Path, config: Config) -> None:
    """Write config.json into a new folder, whose lock this process holds."""
    if not processes.first():
        return
    if _held(folder):
        raise InputError(f"{folder}: another process has started a run there")
    stored = dataclasses.replace(config, mesh=config.mesh.of_any_process())
    write_json(folder / "config.json", configs.to_dict(stored))


def _search(
    folder: Path,
    task: Task,
    tx: optax.GradientTransformation | None,
    quiet: bool,
    watch: SignalWatch,
    began: float,
) -> Run:
    """Search for the best model within the budget, and train it as the run.

    Args:
      began: when the time budget started, by ``time.monotonic``.
    """
    if tx is not None:
        raise InputError("auto chooses the optimizer and takes no optax chain; leave tx out")
    if not isinstance(task, UserTask) or isinstance(task.dataset, Parted):
        raise InputError(
            "auto needs interactions in memory; for item pairs or data in parts, name a model"
        )
    with Reporter(quiet) as reporter:
        best = auto.Search.of(folder, task, reporter, began).run()
    config = auto.winner(best)
    write_json(folder / "config.json", configs.to_dict(config))
    return _go(folder, task_of(config, task.dataset), None, Reporter(quiet), watch)


def _with_python_parts(
    config: Config,
    model: str | Callable[..., Encoder] | None,
    model_options: dict[str, Any] | None,
    loss: str | Callable[..., Any] | None,
) -> Config:
    """Return the configuration with the model and the loss that were given in Python."""
    if model_options is not None and model is None:
        raise InputError("model_options is given without model=; give the model too")
    if model is not None:
        name = registry.named(registry.MODELS, model)
        options = registry.options_of(model, model_options)
        with_model = dataclasses.replace(config.model, name=name, options=options)
        config = dataclasses.replace(config, model=with_model)
    if loss is not None:
        if isinstance(loss, functools.partial):
            raise InputError(
                "loss: config.json cannot store the arguments of a functools.partial; define a "
                "function that calls it"
            )
        name = registry.named(registry.LOSSES, loss)
        config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, name=name))
    return config


def task_of(config: Config, data: Any, run: Path | None = None) -> Task:
    """Build the task of a configuration; if ``run`` is given, use the split of that run.

    Raises:
      InputError: the data is invalid, or of the wrong kind for the model.
    """
    return importlib.import_module(config.objective.task).task(config, data, run)


@host_settings.root_logger_as_found()
def resume(
    run: str | Path,
    *,
    data: Any = None,
    tx: optax.GradientTransformation | None = None,
    model: Callable[..., Encoder] | None = None,
    loss: Callable[..., Any] | None = None,
    mesh: MeshConfig | None = None,
    on_eval: OnEval | None = None,
    epochs: int | None = None,
    quiet: bool = False,
    may_exit: bool = False,
) -> Run:
    """Resume a run from its last intact checkpoint.

    The result equals the result of an uninterrupted run to the last bit.

    Args:
      data: required if the run used data in memory, or if the data has moved.
      tx: required if :func:`train` was given one.
      model, loss: required if :func:`train` was given unregistered classes or functions.
      mesh: a new layout over devices; results then differ by float32 rounding.
      epochs: train to this number of epochs in total, with the same result as a run that had this
        length from the start; config.json is rewritten.
      on_eval: as in :func:`train`.

    Raises:
      InputError: there is no run folder, the data is not the run's, or the run cannot be
        lengthened (for instance because its learning-rate schedule depends on the length).
      RunError, Interrupted: as in :func:`train`.

    After ``jaxrec train --run runs/quickstart-1``, this trains the run to three epochs in total:

    >>> import jaxrec
    >>> run = jaxrec.resume("runs/quickstart-1", epochs=3, quiet=True)
    >>> run.config.train.epochs
    3
    """
    data = in_memory.taken(data)
    began = time.monotonic()
    array_checks.refuse_foreign(data, Dataset, ItemGraph)
    fork_check.check()
    folder = check_run(run)
    before = config = configs.load(folder / "config.json")
    if mesh is not None:
        config = dataclasses.replace(config, mesh=mesh)
    if epochs is not None:
        config = extend_and_refit.lengthened(folder, config, epochs)
    processes.join(config.mesh)
    done = read_json(folder / "eval.json")
    if (
        config.train == before.train
        and done
        and (folder / "embeddings.npz").is_file()
        and (folder / "seen.npz").is_file()
    ):
        reporter = Reporter(quiet)
        reporter.say(f"{folder}: the run has already finished, so there is nothing to train")
        if not (folder / "report.html").exists():
            _write_report(folder, reporter)
        return Run(folder, config, done)
    check_extras(config.log)
    _refuse_others(config, model, loss)
    with SignalWatch(may_exit) as watch:
        with watch.may_leave(_nothing):
            task = task_of(config, data, folder)
        with _locked(folder):
            if config.minutes is not None:
                return _search(folder, task, tx, quiet, watch, began)
            if epochs is not None and processes.first():
                stored = dataclasses.replace(config, mesh=before.mesh)
                extend_and_refit.begin(folder, stored)
            return _go(folder, task, tx, Reporter(quiet or not processes.first()), watch, on_eval)


def refit(
    run: str | Path,
    *,
    data: Dataset | str | Path | None = None,
    to: str | Path | None = None,
    tx: optax.GradientTransformation | None = None,
    quiet: bool = False,
    may_exit: bool = False,
) -> Run:
    """Train a finished run's model on all pairs, for production.

    The new run is as long as the finished run was at its best evaluation.

    Args:
      data: required if the run used data in memory, or if the data has moved.
      to: the new run folder; default runs/PRESET-N.
      tx, quiet, may_exit: as in :func:`train`.

    Raises:
      InputError: there is no finished run, or it cannot be trained on all pairs; also as in
        :func:`train`.
      RunError, Interrupted: as in :func:`train`.

    After ``jaxrec train --run runs/quickstart-1``:

    >>> import jaxrec
    >>> run = jaxrec.refit("runs/quickstart-1", to="runs/production", quiet=True)
    >>> run.folder.name
    'production'
    """
    config = extend_and_refit.on_everything(run)
    if config.data == configs.IN_MEMORY and data is None:
        raise InputError(f"{run}: the run had its data in memory; give the same data as data=")
    return train(config, data=data, run=to, tx=tx, quiet=quiet, may_exit=may_exit)


def _refuse_others(
    config: Config, model: Callable[..., Encoder] | None, loss: Callable[..., Any] | None
) -> None:
    """Raise InputError if a given model or loss differs from the run's."""
    sections = ((model, registry.MODELS, config.model), (loss, registry.LOSSES, config.loss))
    for given, kinds, section in sections:
        if given is not None and registry.named(kinds, given) != section.name:
            raise InputError(
                f"the run was started with {kinds.option} {section.name}, not "
                f"{registry.named(kinds, given)}"
            )
    registry.check_known(config)


def _nothing() -> None:
    """Do nothing; the callback of ``may_leave`` while there is nothing to save."""


def _new_folder(config: Config, run: str | Path | None, overwrite: bool = False) -> Path:
    """Create the run folder, or empty it if ``overwrite`` and it holds a run.

    Raises:
      InputError: the folder holds more than a run, or it is not empty and ``overwrite`` is false.
    """
    if run is not None:
        check_path(run)
    try:
        if run is None:
            return _next_free(config.preset)
        folder = Path(run)
        folder.mkdir(parents=True, exist_ok=True)
        inside = _held(folder)
    except OSError as e:
        reason = e.strerror or e
        raise InputError(
            f"{run or 'runs'}: cannot be created ({reason}); name another folder with --run"
        ) from e
    if overwrite and inside:
        _remove_run(folder, inside, config)
    elif "config.json" in inside:
        raise InputError(
            f"{folder}: already holds a run; `jaxrec resume {folder}` continues it, and "
            "--overwrite replaces it"
        )
    elif inside:
        raise InputError(f"{folder}: is not empty; name a new or an empty folder with --run")
    return folder


def _remove_run(folder: Path, inside: set[str], config: Config) -> None:
    """Remove the run in a folder. Raises InputError if the folder holds anything else."""
    if "config.json" not in inside:
        raise InputError(
            f"{folder}: holds no run (config.json is missing); name another folder with --run"
        )
    try:
        configs.load(folder / "config.json")
    except InputError as e:
        raise InputError(f"{e}; --overwrite only replaces runs of jaxrec") from e
    strange = sorted(inside - RUN_FILES)
    if strange:
        raise InputError(
            f"{folder}: holds {strange[0]}, which is not part of a run; move it away, or name "
            "another folder with --run"
        )
    needed = {"warm_start": config.warm_start, "model.frozen_items": config.model.frozen_items}
    for name, path in needed.items():
        if path is not None and folder.resolve() in (Path(path), *Path(path).parents):
            raise InputError(
                f"{name} {path} is in the folder that --overwrite would replace; name another "
                "folder with --run"
            )
    with _locked(folder):
        # Remove the configuration last, so that after a kill the folder still counts as a run.
        for name in sorted(inside, key=lambda name: name == "config.json"):
            remove(folder / name)
        left = _held(folder)
    if left:
        raise InputError(f"{folder / min(left)}: cannot be removed; name another folder with --run")


def _held(folder: Path) -> set[str]:
    """Return the names of the files in a folder, without the lock and partial files."""
    return {path.name for path in folder.iterdir() if path.name != ".lock" and not is_partial(path)}


def _next_free(preset: str) -> Path:
    """Create runs/PRESET-N for the next free N."""
    Path("runs").mkdir(exist_ok=True)
    for number in itertools.count(1):
        folder = Path("runs") / f"{preset}-{number}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("unreachable")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder. Raises InputError if another process holds it."""
    if not processes.first():
        yield
        return
    try:
        lock = (folder / ".lock").open("w")
    except OSError as e:
        raise InputError(f"{folder}: cannot be written ({e.strerror or e})") from e
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise InputError(
                f"{folder}: another process is training this run; wait for it or stop it"
            ) from e
        remove_partial(folder)
        yield


def _go(
    folder: Path,
    task: Task,
    tx: optax.GradientTransformation | None,
    reporter: Reporter,
    watch: SignalWatch,
    on_eval: OnEval | None = None,
) -> Run:
    try:
        with reporter, _opened(folder, task, tx, reporter, watch, on_eval) as (session, last):
            return session.run(last)
    except OSError as e:
        raise _cannot_write(folder, e) from e


@contextmanager
def _opened(
    folder: Path,
    task: Task,
    tx: optax.GradientTransformation | None,
    reporter: Reporter,
    watch: SignalWatch,
    on_eval: OnEval | None = None,
) -> Iterator[tuple["_Session", Sealed | None]]:
    """Open the checkpoints and logs of a run, and report what the run trains.

    Yields:
      The session, and the last checkpoint or None.
    """
    config = task.config
    with contextlib.ExitStack() as stack:
        with watch.may_leave(_nothing):
            environment.check(folder, tx is not None, reporter.say)
            if processes.first():
                task.record(folder, tx is not None)
            checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint.keep)
            stack.callback(checkpoints.close)
            last = checkpoints.last(reporter.say)
            checkpoints.cut(-1 if last is None else last.step)
            kept = last.meta["metrics_bytes"] if last else 0
            log = RunLog(folder, config.log, kept, processes.first())
            stack.callback(log.close)
        line, *more = task.describe()
        reporter.say(line)
        if config.data in EMBEDDED and config.preset != "quickstart":
            reporter.say("no --data given: training on the built-in synthetic data")
        for line in more if last is None else ():
            reporter.say(line)
        if last is None and _follows_cutoffs(config):
            reporter.say(
                f"{config.metric} selects the parameters, because eval.k does not include 20"
            )
        if last is not None:
            reporter.say(f"resuming from the checkpoint of step {last.step}")
        yield _Session(folder, task, tx, checkpoints, log, reporter, watch, on_eval), last


class Member(NamedTuple):
    """A run to train together with others: its configuration, new folder and callback."""

    config: Config
    run: Path
    on_eval: OnEval | None = None


def train_together(
    members: Sequence[Member], say: Callable[[str], None] = print
) -> list[Run | Exception]:
    """Train runs that differ only in seed and some numbers in one program, in new run folders.

    Up to rounding, each run has the same result as if trained alone. No report.html is written,
    because a report takes longer than many small runs; `jaxrec report` writes it. As many runs are
    trained at once as fit in memory.

    Args:
      members: runs for which :func:`jaxrec.training.together.program` gives equal results, with
        data on disk.
      say: called with a line if not all runs fit in memory at once.

    Returns:
      For each member, the finished run or the exception that ended it (a RunError, or an exception
      from its ``on_eval``).

    Raises:
      TrainedAloneError: the runs can only be trained one at a time; no folder was created.
      InputError: configuration, data or a folder cannot be used.
      Interrupted: as in :func:`train`; each run has a checkpoint.
    """
    reason = next(filter(None, (why_alone(m.config) for m in members)), None)
    if reason is not None:
        raise TrainedAloneError(reason)
    members = [m._replace(config=_with_whole_paths(m.config)) for m in members]
    first = members[0].config
    if any(program(m.config) != program(first) for m in members):
        raise ValueError("the runs differ in more than their seed and numbers")
    registry.check_known(first)
    check_extras(first.log)
    with SignalWatch() as watch:
        task = task_of(first, first.data)
        self_check.once()
        if not isinstance(task, UserTask) or isinstance(task.dataset, Parted):
            raise TrainedAloneError(f"{first.data} is in parts on disk")
        task.check()
        sizes = task.splits.train.n_users, task.splits.train.n_items
        if first.sparse_updates(sum(sizes)):
            raise TrainedAloneError("optim.sparse updates only the rows of a batch")
        a_run = _COPIES * sum(least_bytes(first, *sizes).values())
        at_once = max(1, memory_limit() // a_run)
        if at_once < len(members):
            say(f"memory holds {at_once} runs at once")
        found: list[Run | Exception] = []
        for start in range(0, len(members), at_once):
            found += _train_at_once(task, members[start : start + at_once], watch)
        return found


_COPIES = 3
"""Copies of a run's state in memory: the stacked one, its copy at a boundary, a step's result."""


def _train_at_once(
    task: UserTask, members: Sequence[Member], watch: SignalWatch
) -> list[Run | Exception]:
    problem: Problem | None = None
    with contextlib.ExitStack() as stack:
        sessions, loops = [], []
        for config, run, on_eval in members:
            folder = _new_folder(config, run)
            stack.enter_context(_locked(folder))
            _store(folder, config)
            of_run = dataclasses.replace(task, config=config)
            quiet = stack.enter_context(Reporter(quiet=True))
            opened = _opened(folder, of_run, None, quiet, watch, on_eval)
            session, _ = stack.enter_context(opened)
            if problem is None:
                problem = of_run.problem("search", None, None)
            sessions.append(session)
            loops.append(session.loop(problem.sibling(config), Phase("search", 0)))
        found: list[Run | Exception] = []
        for session, loop, end in zip(sessions, loops, Together(loops).run(), strict=True):
            if isinstance(end, Exception):
                found.append(end)
            else:
                found.append(session.finish(loop.problem, end, reports=False))
        return found


def _follows_cutoffs(config: Config) -> bool:
    """Return whether the selection metric is a default at another cut-off than 20."""
    by_itself = config.eval.metric is None and config.eval.select_on != "none"
    return by_itself and "@" in config.metric and 20 not in config.eval.k


def _cannot_write(folder: Path, error: OSError | InputError) -> RunError:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    return RunError(
        f"{folder}: cannot be written ({reason}).\n"
        f"The checkpoints are intact: free some space, then run `jaxrec resume {folder}`"
    )


def _write_report(folder: Path, reporter: Reporter) -> None:
    if not results.can_report():
        return
    from jaxrec.reporting.page import report

    report([folder], folder / "report.html")
    reporter.say(f"report: {folder / 'report.html'}")


@dataclass(frozen=True)
class _Session:
    """A run that this process has started or resumed."""

    folder: Path
    task: Task
    tx: optax.GradientTransformation | None
    checkpoints: Checkpoints
    log: RunLog
    reporter: Reporter
    watch: SignalWatch
    on_eval: OnEval | None = None

    @property
    def config(self) -> Config:
        return self.task.config

    def run(self, last: Sealed | None) -> Run:
        """Train from the checkpoint ``last`` or from step 0, refit if configured, write results."""
        began_refit = last is not None and last.meta["phase"] == "refit"
        if last is not None and began_refit:
            phase = Phase("refit", last.meta["origin"])
            problem, outcome = self._phase(phase, last.meta["total"], last)
        else:
            refit = self.config.train.refit
            problem, outcome = self._phase(Phase("search", 0), None, last, chooses=not refit)
            if refit:
                del problem
                gc.collect()  # free the arrays of the search before the refit allocates others
                phase = Phase("refit", outcome.end)
                length = "" if self.config.model.kind.fitted else f" {outcome.step} steps"
                self.reporter.say(f"refit:{length} on train and validation")
                problem, outcome = self._phase(phase, outcome.step, None)
        return self.finish(problem, outcome)

    def _phase(
        self, phase: Phase, total: int | None, last: Sealed | None, *, chooses: bool = True
    ) -> tuple[Trainable, Outcome]:
        if self.config.model.kind.fitted:
            return self._fitted(phase)
        with self.watch.may_leave(self.checkpoints.wait):
            problem: Trainable = self.task.problem(phase.name, total, self.tx)
        lines, events = problem.prepared()
        for line in lines:
            self.reporter.say(line)
        for event, facts in events.items():
            self.log.timing(phase.origin, event=event, **facts)
        return problem, self.loop(problem, phase).run(last, chooses=chooses)

    def loop(self, problem: Trainable, phase: Phase) -> Loop:
        """Return the loop of a phase."""
        made = Loop(problem, phase, self.checkpoints, self.log, self.reporter, self.watch)
        made.on_eval = self.on_eval
        return made

    def _fitted(self, phase: Phase) -> tuple[Any, Outcome]:
        """Fit a closed-form model and evaluate it on the selection split."""
        select_on = self.config.eval.select_on
        with self.watch.may_leave(_nothing):  # there is no checkpoint: a resumed run fits again
            began = time.perf_counter()
            problem = self.task.problem(phase.name, None, self.tx)
            state = problem.fit()
            seconds = round(time.perf_counter() - began, 3)
            self.log.timing(phase.origin, event="fitted", fit_seconds=seconds)
            self.reporter.say(f"fitted in {seconds:.1f} s")
            if phase.name == "search" and select_on != "none":
                metrics = problem.measure(select_on, state, self.watch)
                self.log.record(0, 0.0, select_on, phase.name, **metrics)
                shown = self.config.metric
                self.reporter.say(f"{select_on} {shown} {metrics[shown]:.4f}")
                if self.on_eval is not None:
                    self.on_eval(0, dict(metrics))
        return problem, Outcome(state, 0, 0, phase.origin)

    def finish(self, problem: Trainable, outcome: Outcome, *, reports: bool = True) -> Run:
        """Evaluate the selected state, and write the results and, if ``reports``, report.html."""
        self.reporter.say("final evaluation over all items")
        began = time.perf_counter()
        evaluation = self.task.evaluate(problem, outcome, self.watch)
        if evaluation is None:
            self._leave()
        ranked = round(time.perf_counter() - began, 3)
        try:
            self.task.write(self.folder, problem, outcome, self.watch)
            if self.watch():
                self._leave()
            self._record_final(problem, outcome, evaluation)
            self.log.timing(outcome.end, event="finished", evaluate_seconds=ranked)
            if processes.first():
                write_json(self.folder / "eval.json", evaluation)
                self._show(evaluation)
                if reports:
                    _write_report(self.folder, self.reporter)
        except InputError as e:
            raise _cannot_write(self.folder, e) from e
        self.reporter.say(f"run folder: {self.folder}")
        return Run(self.folder, self.config, evaluation)

    def _leave(self) -> NoReturn:
        assert self.watch.received is not None
        raise Interrupted(
            "interrupted during the final evaluation; the last checkpoint is written. "
            f"Continue with: jaxrec resume {self.folder}",
            self.watch.received,
        )

    def _record_final(
        self, problem: Trainable, outcome: Outcome, evaluation: dict[str, Any]
    ) -> None:
        phase = "refit" if self.config.train.refit else "search"
        parts = {evaluation["split"]: evaluation["metrics"]}
        if "train" in evaluation:
            parts["train_ranking"] = evaluation["train"]["metrics"]
        if "validation" in evaluation:
            parts["validation_final"] = evaluation["validation"]["metrics"]
        for name, metrics in parts.items():
            epoch = outcome.steps / problem.cadence.per_epoch
            self.log.record(outcome.end, epoch, name, f"{phase}_final", **metrics)

    def _show(self, evaluation: dict[str, Any]) -> None:
        """Print the tables of the model and its baselines, with remarks on the results."""
        parts = {"validation": evaluation.get("validation"), evaluation["split"]: evaluation}
        columns = {split: part for split, part in parts.items() if part and part["metrics"]}
        if not columns:
            return
        for split, part in columns.items():
            line = sentence(split, part, self.config.metric)
            if line is not None:
                self.reporter.say(line)
        tables = self.config.objective.tables(self.config)
        for table in tables:
            self._table(table, columns)
        metric_name, control = tables[-1].metrics[0], tables[-1].baselines[-1]
        ours = evaluation["metrics"][metric_name]
        theirs = evaluation["baselines"][control][metric_name]
        metric, _, k = metric_name.partition("@")
        if k and (int(k) >= self.task.ranked_items() or ours == theirs == 1):
            self.reporter.say(
                f"{metric_name} means nothing here, because lists of {k} hold every item; "
                f"set smaller cut-offs with --eval.k, and --eval.metric {metric}@K"
            )
        elif ours >= theirs if lower_is_better(metric_name) else ours <= theirs:
            self.reporter.say(
                f"no better than {control} in {metric_name}: something is wrong; "
                f"`jaxrec doctor {self.folder}` looks for the cause"
            )
        if evaluation["selected_on"] == "test":
            self.reporter.say("parameters were selected ON TEST, as eval.select_on asks")

    def _table(self, table: Table, columns: dict[str, Any]) -> None:
        """Print a table with rows for the model and the baselines, and columns for splits."""
        rows = []
        for name in (self.config.model.name, *table.baselines):
            row = [name]
            for part in columns.values():
                metrics = part["baselines"].get(name, part["metrics"])
                row += [f"{metrics[n]:.4f}" if n in metrics else "" for n in table.metrics]
            rows.append(row)
        header = ["", *(f"{split} {name}" for split in columns for name in table.metrics)]
        self.reporter.table(table.title, header, rows)
