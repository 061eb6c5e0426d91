"""The loop of one phase of a run, which trains, logs, evaluates, selects and saves.

All actions at a step depend only on the step and on metrics.jsonl. So a resumed run enters the loop
just as a new run does: with a state and its step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Protocol, runtime_checkable

import jax

from jaxrec import processes
from jaxrec.config import Config, lower_is_better
from jaxrec.errors import Interrupted, RunError
from jaxrec.log import Reporter, RunLog
from jaxrec.plan import shown
from jaxrec.training.checkpoint import Checkpoints, Damaged, Sealed, release
from jaxrec.training.monitor import Attendant
from jaxrec.training.placement.device import FedByHost
from jaxrec.training.pre_run_checks import memory_limit
from jaxrec.training.schedule import Cadence
from jaxrec.training.signals import SignalWatch
from jaxrec.training.step import SCAN_LENGTH, Totals, TrainState


@runtime_checkable
class Trainable(Protocol):
    """The interface through which the loop trains a problem."""

    @property
    def config(self) -> Config: ...
    @property
    def cadence(self) -> Cadence: ...
    @property
    def stepper(self) -> Any:
        """The stepper, whose ``dispatch`` the loop compiles.

        ``dispatch`` maps (state, data, n) to the state after n steps and the totals of these steps.
        """
        ...

    @property
    def data(self) -> Any: ...
    def fed_by_host(self, state: TrainState, step: int) -> FedByHost | None:
        """Return a dispatch whose inputs the host prepares; None to use the stepper's dispatch."""
        ...

    @property
    def unit(self) -> str:
        """The unit of the batch size, for messages."""
        ...

    def prepared(self) -> tuple[list[str], dict[str, dict[str, Any]]]: ...
    def initial_state(self) -> TrainState: ...
    def restore(self, checkpoints: Checkpoints, step: int) -> TrainState: ...
    def notes(self) -> dict[str, Any]: ...
    def number(self, n: int) -> jax.Array: ...
    def cleared(self, totals: Totals) -> Totals: ...
    def finite(self, state: TrainState) -> bool: ...
    def measure(
        self, split: str, state: TrainState, should_stop: Callable[[], bool]
    ) -> dict[str, float] | None: ...
    @property
    def examine(self) -> Callable[[TrainState], dict[str, float] | None]:
        """The function that measures a state for the doctor."""
        ...

    def look_back(self) -> None:
        """Measure the initial state again for the doctor, before a resumed run loads its state."""
        ...


# Target duration of a dispatch: long enough to hide overhead, short enough to react to signals.
DISPATCH_SECONDS = 1.0


Dispatch = Callable[[TrainState, Any, jax.Array], tuple[TrainState, Totals]]
"""Maps (state, data, n) to the state after n steps and the totals of these steps."""


OnEval = Callable[[int, dict[str, float]], Any]
"""Called after an evaluation with its step, counted over the whole run, and its metrics."""


class Phase(NamedTuple):
    """A phase of the run, "search" or "refit", and its first step within the whole run."""

    name: str
    origin: int


class Outcome(NamedTuple):
    """The selected state of a phase.

    Attributes:
      state: a TrainState; None if only the step is needed.
      step: the step of the selected state within the phase.
      steps: number of steps of the phase.
      end: last step of the phase within the whole run.
    """

    state: Any
    step: int
    steps: int
    end: int


class Best(NamedTuple):
    """The best evaluation so far.

    Attributes:
      step: its step within the phase; None without evaluations.
      since: number of evaluations after it.
    """

    step: int | None
    since: int


@dataclass
class Pace:
    """Adapts the number of steps per dispatch to the duration of the last dispatch."""

    steps: int = 1

    def took(self, seconds: float, steps: int) -> None:
        fits = int(DISPATCH_SECONDS / max(seconds / steps, 1e-9))
        # A dispatch that a boundary shortens must not lower the pace. Growth is at most 4-fold.
        self.steps = max(1, min(SCAN_LENGTH, fits, max(self.steps, steps) * 4))


def check_memory(compiled: jax.stages.Compiled) -> None:
    """Raise RunError if a step needs more memory than is available.

    Without this check, the operating system would kill the process without a message.
    """
    found = compiled.memory_analysis()
    if found is None:
        return
    needs = found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes
    needs -= found.alias_size_in_bytes
    limit = memory_limit()
    if needs > limit:
        raise RunError(
            f"a step needs {shown(needs)} of memory, but only {shown(limit)} are available.\n"
            "Set a smaller --train.batch-size, --model.dim or number of negatives"
        )


class Loop:
    """Runs one phase of training.

    Args:
      problem: the problem to train.
      phase: the phase of the run.
      checkpoints, log, reporter: the outputs.
      watch: the watch for signals.
    """

    def __init__(
        self,
        problem: Trainable,
        phase: Phase,
        checkpoints: Checkpoints,
        log: RunLog,
        reporter: Reporter,
        watch: SignalWatch,
    ) -> None:
        self.problem, self.phase = problem, phase
        self.checkpoints, self.log, self.reporter, self.watch = checkpoints, log, reporter, watch
        self.config, self.cadence = problem.config, problem.cadence
        # A refit has a fixed length and selects no state.
        self.select_on = self.config.eval.select_on if phase.name == "search" else "none"
        self.on_eval: OnEval | None = None
        # The text that shows the last evaluation beside the loss.
        self._last_evaluation = ""
        of_phase = problem.stepper, phase.name, phase.origin
        self.doctor = Attendant(self.config, *of_phase, log, self._record)
        self._saved = -1
        self._saved_at = time.monotonic()
        self._pace = Pace()

    def run(self, last: Sealed | None, *, chooses: bool = True) -> Outcome:
        """Train to the end of the phase, from a checkpoint if there is one.

        Only one state exists at any time. No other frame references it during training, and it is
        freed before the selected state is loaded.

        Args:
          chooses: whether to return the selected state with its step, or only its step.

        Raises:
          Interrupted: a signal came; a checkpoint is written.
          RunError: the loss or the parameters are not finite, or a save failed.
        """
        state, step = self.begun(last)
        dispatch = self._compile(state, step)
        try:
            self.reporter.begin(self.phase.name, step, self.cadence.total)
            while True:
                state, over = self.visit(state, step)
                if over:
                    break
                state, step = self._advance(dispatch, state, step)
        finally:
            if isinstance(dispatch, FedByHost):
                dispatch.close()
        outcome = self.ended(step)
        if chooses and outcome.step == step:
            return outcome._replace(state=state)
        release(state)
        del state, dispatch  # frees the host memory of both
        return self.chosen(outcome) if chooses else outcome

    def visit(self, state: TrainState, step: int) -> tuple[TrainState, bool]:
        """Log, evaluate, measure and save, as far as each is due at a step.

        Returns:
          The state to continue with, and whether the phase ends at this step.

        Raises:
          Interrupted, RunError: as in :meth:`run`.
        """
        self._check_finite(state, step)
        state = self._log_train(state, step)
        self._evaluate(state, step)
        self._examine(state, step)
        best = self.best()
        over = step >= self.cadence.total or self._out_of_patience(best)
        stopped = self.watch()
        if over or stopped or self._checkpoint_due(step) or best.step == step:
            self._save(state, step)
        if stopped:
            self._leave(step)
        return state, over

    def ended(self, step: int) -> Outcome:
        """End the phase at a step, and return the selected step without its state."""
        best = self.best()
        self.reporter.end()
        if step < self.cadence.total:
            self.reporter.say(
                f"stopped early: {self.config.metric} was best at step {best.step}, "
                f"{best.since} evaluations ago"
            )
        self.checkpoints.wait()
        chosen = step if best.step is None else best.step
        return Outcome(None, chosen, step, self.phase.origin + step)

    def begun(self, last: Sealed | None) -> tuple[TrainState, int]:
        """Return the state to continue from, and its step."""
        step = 0 if last is None else last.step - self.phase.origin
        # A run that begins at step 0 measures its initial state anyway.
        late = last is not None or self.phase.origin > 0
        if self.config.log.doctor and late and step < self.cadence.total:
            with self.watch.may_leave(self.checkpoints.wait):
                self.problem.look_back()  # frees the initial state before another state is loaded
        if last is None:
            state = self._initial_state()
            self._save(state, 0)
            return state, 0
        self._saved = step
        return self.problem.restore(self.checkpoints, last.step), step

    def _initial_state(self) -> TrainState:
        with self.watch.may_leave(self.checkpoints.wait):
            began = time.perf_counter()
            state = jax.block_until_ready(self.problem.initial_state())
            seconds = round(time.perf_counter() - began, 3)
        self.log.timing(self.phase.origin, event="initialised", initialise_seconds=seconds)
        return state

    def _compile(self, state: TrainState, step: int) -> Dispatch:
        """Compile the dispatch; a signal that comes meanwhile ends the process at once."""
        stepper, data = self.problem.stepper, self.problem.data
        with self.watch.may_leave(self.checkpoints.wait):
            began = time.perf_counter()
            compiled = self.problem.fed_by_host(state, step)
            if compiled is None:
                jitted = jax.jit(stepper.dispatch, donate_argnums=0)
                compiled = jitted.lower(state, data, self.problem.number(1)).compile()
                check_memory(compiled)
            seconds = round(time.perf_counter() - began, 3)
        self.log.timing(self.phase.origin, event="compiled", compile_seconds=seconds)
        return compiled

    def _advance(self, dispatch: Dispatch, state: TrainState, step: int) -> tuple[TrainState, int]:
        """Dispatch steps up to the next boundary, and return the state and its step.

        The totals of a dispatch are read while the next dispatch runs.
        """
        boundary = self.cadence.next_boundary(step)
        late: tuple[Totals, int] | None = None
        began = last = time.perf_counter()
        fed = dispatch if isinstance(dispatch, FedByHost) else None
        first, waited = step, 0.0 if fed is None else fed.waited
        # At least one dispatch is run, so that the run advances even if checkpoint.minutes is tiny.
        while step < boundary and (step == first or not (self.watch() or self.overdue())):
            n = min(processes.from_first(self._pace.steps), boundary - step)
            before = state
            state, totals = dispatch(before, self.problem.data, self.problem.number(n))
            if step == first:
                # A state is not donated while a checkpoint is written from it, so free it here.
                release(before, but=(state, totals))
            step += n
            if late is not None:
                self.read(late[0], step - n)
                now = time.perf_counter()
                self._pace.took(now - last, late[1])
                last = now
            late = totals, n
        if late is not None:
            self.read(late[0], step)
            self._pace.took(time.perf_counter() - last, late[1])
            seconds = time.perf_counter() - began
            rate = (step - first) / seconds
            took = {"steps_per_second": round(rate, 3)}
            took[f"{self.problem.unit}_per_second"] = round(rate * self.config.train.batch_size, 1)
            if fed is not None:
                took["wait_share"] = round((fed.waited - waited) / seconds, 4)
            self.log.timing(self.phase.origin + step, **took)
        return state, step

    def read(self, totals: Totals, step: int) -> None:
        """Wait for the totals on the device, and show the mean loss.

        Raises:
          RunError: the loss is not finite.
        """
        fetched = jax.device_get(totals)
        if fetched.bad_step >= 0:
            self.doctor.broke(fetched, int(fetched.bad_step))
            self._diverged(f"the loss was not finite at step {int(fetched.bad_step)}")
        mean = float(fetched.loss) / max(int(fetched.steps), 1)
        epoch = step / self.cadence.per_epoch
        self.reporter.advance(step, f"epoch {epoch:.1f}  loss {mean:.4f}{self._last_evaluation}")

    def _check_finite(self, state: TrainState, step: int) -> None:
        if not self.problem.finite(state):
            self.doctor.broke(jax.device_get(state.totals), step - 1)
            self._diverged(f"the parameters were not finite after step {step - 1}")

    def _diverged(self, symptom: str) -> NoReturn:
        self.checkpoints.wait()
        good = self.checkpoints.steps()
        kept = f"the checkpoint of step {good[-1]} is kept" if good else "no checkpoint was written"
        raise RunError(
            f"{symptom}; {kept}. `jaxrec doctor {self.checkpoints.folder.parent}` says why.\n"
            "Train again with a lower --optim.learning-rate, or with --optim.clip-norm 1"
        )

    def _log_train(self, state: TrainState, step: int) -> TrainState:
        """Log the mean loss since the last line of the log, and reset the sums in the state."""
        if step == 0 or not self.cadence.due(self.cadence.log, step):
            return state
        if self.log.find(self.phase.origin + step, "train") is not None:
            return state
        totals = jax.device_get(state.totals)
        count = int(totals.steps)
        loss, l2 = float(totals.loss) / count, float(totals.l2) / count
        values = {"loss": loss, "l2": l2}
        if self.config.negatives.hard:
            epoch = (step - 1) // self.cadence.per_epoch
            values["hard_negatives"] = float(self.config.negatives.hard_in(epoch))
        values |= self.doctor.of_steps(totals)
        self._record(step, "train", **values)
        self.reporter.say(f"{self._where(step)}  loss {loss:.4f}")
        return state._replace(totals=self.problem.cleared(state.totals))

    def _evaluate(self, state: TrainState, step: int) -> None:
        """Evaluate the selection split, if an evaluation is due and not yet in the log."""
        split = self.select_on
        if split == "none" or not self.cadence.due(self.cadence.evaluate, step):
            return
        if self.log.find(self.phase.origin + step, split) is not None or self.watch():
            return
        began = time.perf_counter()
        try:  # a run whose selection split is empty was refused at the start
            metrics = self.problem.measure(split, state, self.watch)
        except RunError:  # finite but huge parameters can give NaN scores
            self._diverged(f"the scores were not finite after step {step - 1}")
        if metrics is None:  # a signal came
            return
        self._record(step, split, **metrics)
        seconds = round(time.perf_counter() - began, 3)
        self.log.timing(self.phase.origin + step, event="evaluated", evaluate_seconds=seconds)
        shown = self.config.metric
        self.reporter.say(f"{self._where(step)}  {split} {shown} {metrics[shown]:.4f}")
        best = self.log.find(self.phase.origin + (self.best().step or 0), split) or metrics
        self._last_evaluation = f"  {shown} {metrics[shown]:.4f}, best {best[shown]:.4f}"
        if self.on_eval is not None:
            self.on_eval(self.phase.origin + step, dict(metrics))

    def _examine(self, state: TrainState, step: int) -> None:
        """Measure the state for the doctor, at step 0, at every evaluation and at the end."""
        due = step == 0 or self.cadence.due(self.cadence.evaluate, step)
        if due and not self.watch():
            run = self.checkpoints.folder.parent
            self.doctor.measure(self.problem.examine, state, step, run, self.reporter)

    def _record(self, step: int, split: str, **values: float) -> None:
        epoch = step / self.cadence.per_epoch
        self.log.record(self.phase.origin + step, epoch, split, self.phase.name, **values)

    def _where(self, step: int) -> str:
        return f"{self.phase.name} step {step}/{self.cadence.total}"

    def best(self) -> Best:
        """Find in the log the step with the best selection metric; of equal values, the first."""
        if self.select_on == "none":
            return Best(None, 0)
        sign = -1 if lower_is_better(self.config.metric) else 1
        values = [
            (r["step"] - self.phase.origin, sign * r[self.config.metric])
            for r in self.log.records
            if r["split"] == self.select_on and r["phase"] == self.phase.name
        ]
        if not values:
            return Best(None, 0)
        index = max(range(len(values)), key=lambda i: (values[i][1], -i))
        return Best(values[index][0], len(values) - 1 - index)

    def _out_of_patience(self, best: Best) -> bool:
        return 0 < self.config.train.patience <= best.since

    def overdue(self) -> bool:
        over = time.monotonic() - self._saved_at > self.config.checkpoint.minutes * 60
        return bool(processes.from_first(over))

    def _checkpoint_due(self, step: int) -> bool:
        return self.cadence.due(self.cadence.checkpoint, step) or self.overdue()

    def _save(self, state: TrainState, step: int) -> None:
        """Start to write a checkpoint of this step, unless the step already has a checkpoint."""
        self._saved_at = time.monotonic()
        # A refit that stops at step 0 is resumed from the last checkpoint of the search.
        if step == self._saved or (step == 0 and self.phase.origin > 0):
            return
        best = self.best().step
        meta = {
            "phase": self.phase.name,
            "origin": self.phase.origin,
            "total": self.cadence.total,
            "metrics_bytes": self.log.offset(),
        } | self.problem.notes()
        self.checkpoints.save(
            self.phase.origin + step,
            state,
            meta,
            best=None if best is None else self.phase.origin + best,
        )
        self._saved = step

    def _leave(self, step: int) -> None:
        self.checkpoints.wait()
        self.reporter.end()
        number = self.watch.received
        assert number is not None
        run = self.checkpoints.folder.parent
        raise Interrupted(
            f"interrupted at step {self.phase.origin + step}; its checkpoint is written. "
            f"Continue with: jaxrec resume {run}",
            number,
        )

    def chosen(self, outcome: Outcome) -> Outcome:
        """Return the outcome with the state of the selected checkpoint.

        Raises:
          RunError: the checkpoint is damaged.
        """
        chosen = self.phase.origin + outcome.step
        try:
            return outcome._replace(state=self.problem.restore(self.checkpoints, chosen))
        except Damaged as e:
            self.checkpoints.cut(chosen - 1)
            raise RunError(
                f"the best checkpoint is damaged ({e}).\nIt was removed; "
                f"`jaxrec resume {self.checkpoints.folder.parent}` trains from the one before it"
            ) from e
