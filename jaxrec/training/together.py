"""Trains several runs in one compiled program, if they differ only in seed and some numbers.

The states of T runs are stacked, and the step is vmapped over the states and over the numbers in
``NUMBERS``. The sparse product places the runs side by side, as columns of one table
(:mod:`jaxrec.graph.spmm`). At every boundary of the schedule, each run logs, evaluates, saves and
stops as if it were trained alone. So each run writes a complete run folder, and an interrupted run
is resumed alone.
"""

import copy
import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec import losses
from jaxrec.config import Config, ModelConfig
from jaxrec.errors import Interrupted
from jaxrec.training.batch import TrainData
from jaxrec.training.checkpoint import release
from jaxrec.training.loop import Loop, Outcome, Pace, check_memory
from jaxrec.training.optimizers import optimizer
from jaxrec.training.step import Stepper, Totals, TrainState, scanned

NUMBERS = ("optim.learning_rate", "optim.weight_decay", "train.l2", "loss.temperature")
"""Fields that enter a step as arrays, so that runs of one program may differ in them."""
MODELS = ("mf", "lightgcn")


class TrainedAloneError(Exception):
    """The error of runs that can only be trained one at a time; its message says why."""


def why_alone(config: Config) -> str | None:
    """Return why a run cannot be trained together with others.

    Return None if nothing in the configuration prevents it.
    """
    model, how = config.model, config.negatives
    reasons = {
        f"model.name {model.name} is not among {' and '.join(MODELS)}": model.name not in MODELS,
        f"loss.name {config.loss.name} is not one of the built-in rankings": config.loss_taken
        not in losses.LOSSES,
        "model.edge_dropout draws a separate graph for each run": model.draws,
        f"model.score {model.score} is a trained network": model.score not in ("dot", "cosine"),
        # In losses of score differences (all but bce), a user's bias cancels, so its gradient is a
        # rounding error. Adam scales it up, and the run would differ from a run trained alone.
        "model.biases is set": model.biases,
        "model.frozen_items is set": model.frozen_items is not None,
        "warm_start is set": config.warm_start is not None,
        "mistakes is set": bool(config.mistakes),
        "the run needs a mesh of devices or a table in host memory": config.mesh.devices > 1
        or config.mesh.memory == "host",
        f"negatives.name {how.name} is registered": how.registered,
        f"optim.name {config.optim.name} is registered": config.optim.registered,
        "minutes starts a search": config.minutes is not None,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def program(config: Config) -> Config:
    """Return the configuration with placeholders for the values in which runs may differ.

    The result is equal for all runs that one program can train. A placeholder shows whether the
    number is 0, because a program leaves out a term with the factor 0.
    """
    optim, train = config.optim, config.train
    changes: dict[str, Any] = {
        "seed": 0,
        "split.seed": config.split_seed,
        "model.init_std": ModelConfig().init_std,
        "optim.learning_rate": 1.0,
        "optim.weight_decay": float(optim.weight_decay > 0),
        "train.l2": float(train.l2 > 0),
    }
    # An array divides the users' vectors before their cast to model.dtype; a plain number divides
    # the scores. Both give the same result up to rounding only if there is no cast.
    if config.model.dtype == "float32":
        changes["loss.temperature"] = 1.0
    return config.replace(changes)


def _with_numbers(config: Config, numbers: dict[str, Array]) -> Config:
    """Return the configuration with arrays in place of numbers, without new checks."""
    made = copy.copy(config)
    for name, value in numbers.items():
        section, field = name.split(".")
        part = copy.copy(getattr(made, section))
        object.__setattr__(part, field, value)
        object.__setattr__(made, section, part)
    return made


class Inputs(NamedTuple):
    """The inputs of a step that differ between T runs.

    Attributes:
      key: the data key of each run.
      numbers: for each field in which the runs differ, the values of the runs.
    """

    key: PRNGKeyArray
    numbers: dict[str, Float[Array, "T"]]


def _inputs(steppers: Sequence[Stepper], keys: Sequence[PRNGKeyArray]) -> Inputs:
    numbers = {}
    for name in NUMBERS:
        section, field = name.split(".")
        values = [getattr(getattr(stepper.config, section), field) for stepper in steppers]
        if len(set(values)) > 1:
            numbers[name] = jnp.array(values, jnp.float32)
    return Inputs(jnp.stack(list(keys)), numbers)


_AXES: Any = TrainState(*cast(Any, (None, 0, 0, 0)))
"""The axis of runs in each field of the stacked states; None for the step, which runs share."""


def _stacked(states: Sequence[TrainState]) -> TrainState:
    made = jax.tree.map(lambda *xs: jnp.stack(xs), *states)
    return made._replace(step=jnp.array(states[0].step))


def _of_run(states: TrainState, place: int) -> TrainState:
    """Return the state of one run, as separate arrays."""
    made = _taken(states._replace(step=None), jnp.int32(place))
    return made._replace(step=jnp.array(states.step))


@jax.jit
def _taken(stacked: Any, place: Int[Array, ""]) -> Any:
    """Return the entry at ``place`` of every array; one program for all arrays and places."""
    return jax.tree.map(lambda x: x[place], stacked)


@dataclasses.dataclass(frozen=True)
class Program:
    """The training steps of all runs, as one program.

    Args:
      stepper: the stepper of one of the runs.
      total: number of steps of each run, for learning-rate schedules.
    """

    stepper: Stepper
    total: int

    def dispatch(
        self, states: TrainState, data: TrainData, inputs: Inputs, n: Int[Array, ""]
    ) -> tuple[TrainState, Totals]:
        """Run n steps of every run: states and totals have a leading axis T."""

        def step(state: TrainState, inputs: Inputs) -> TrainState:
            config = _with_numbers(self.stepper.config, inputs.numbers)
            n_rows = self.stepper.n_users + self.stepper.n_items
            tx = optimizer(config, n_rows, self.total)
            stepper = dataclasses.replace(self.stepper, config=config, tx=tx)
            return stepper.step(state, data._replace(key=inputs.key))

        together = jax.vmap(step, (_AXES, 0), _AXES)
        return scanned(lambda states: together(states, inputs), states, n)


@dataclasses.dataclass
class _Member:
    """A run in training. ``end`` is its outcome, or the exception that ended it."""

    loop: Loop
    state: Any = None
    end: Outcome | Exception | None = None


class Together:
    """Trains the loops of several runs of one program (:func:`program`), from their first step.

    Args:
      loops: loops of problems that :meth:`Problem.sibling` has built, with the same data.
    """

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._members = [_Member(loop) for loop in loops]
        self._cadence = loops[0].cadence
        self._pace = Pace()
        self._compiled: dict[int, Any] = {}

    def run(self) -> list[Outcome | Exception]:
        """Train every run to its end; return the outcome of each, or the exception that ended it.

        Raises:
          Interrupted: a signal came; every run has a checkpoint.
        """
        for member in self._members:
            member.state, _ = member.loop.begun(None)
        step, size = 0, len(self._members)
        while live := self._visited(step):
            # A program for another number of runs must be compiled. To avoid that, copies of a live
            # run replace the ended runs. Once half of the runs are copies, the copies are dropped.
            size = len(live) if 2 * len(live) <= size else size
            step = self._advance(live, size, step)
        return [member.end for member in self._members if member.end is not None]

    def _visited(self, step: int) -> list[_Member]:
        """Log, evaluate and save each run as due at a step; return the runs that continue."""
        stopped = None
        for member in self._members:
            if member.end is not None:
                continue
            loop = member.loop
            try:
                member.state, over = loop.visit(member.state, step)
                if over:
                    member.end = self._ended(member, step)
            except Interrupted as e:
                stopped = e  # raised again after the other runs have saved
            except Exception as e:  # ends only this run, and is returned as its end
                member.end = e
            if member.end is not None:
                member.state = None
        if stopped is not None:
            raise stopped
        return [member for member in self._members if member.end is None]

    def _ended(self, member: _Member, step: int) -> Outcome:
        outcome = member.loop.ended(step)
        if outcome.step == step:
            return outcome._replace(state=member.state)
        return member.loop.chosen(outcome)

    def _advance(self, live: list[_Member], size: int, step: int) -> int:
        """Train the live runs to the next boundary, and return the step reached."""
        places = live + live[:1] * (size - len(live))
        problems = [member.loop.problem for member in places]
        inputs = _inputs([p.stepper for p in problems], [p.data.key for p in problems])
        states = _stacked([member.state for member in places])
        for member in live:
            release(member.state)
        data = problems[0].data
        dispatch = self._dispatch(live[0].loop, states, data, inputs)
        boundary, first, began = self._cadence.next_boundary(step), step, time.perf_counter()
        watch = live[0].loop.watch
        totals = None
        while step < boundary and (step == first or not (watch() or live[0].loop.overdue())):
            n = min(self._pace.steps, boundary - step)
            last = time.perf_counter()
            states, totals = dispatch(states, data, inputs, jnp.int32(n))
            jax.block_until_ready(totals)
            step += n
            self._pace.took(time.perf_counter() - last, n)
        rate = (step - first) / (time.perf_counter() - began)
        for place, member in enumerate(live):
            member.state = _of_run(states, place)
            try:
                member.loop.read(member.state.totals, step)
            except Exception as e:
                member.end, member.state = e, None
            took = {"steps_per_second": round(rate, 3), "together": len(live)}
            member.loop.log.timing(step, **took)
        return step

    def _dispatch(self, loop: Loop, states: TrainState, data: TrainData, inputs: Inputs) -> Any:
        """Return the compiled program for this number of runs, compiled at the first call."""
        size = len(inputs.key)
        if size not in self._compiled:
            with loop.watch.may_leave(self._wait):
                began = time.perf_counter()
                steps = Program(loop.problem.stepper, self._cadence.total)
                jitted = jax.jit(steps.dispatch, donate_argnums=0)
                compiled = jitted.lower(states, data, inputs, jnp.int32(1)).compile()
                check_memory(compiled)
                seconds = round(time.perf_counter() - began, 3)
            loop.log.timing(0, event="compiled", compile_seconds=seconds, together=size)
            self._compiled[size] = compiled
        return self._compiled[size]

    def _wait(self) -> None:
        for member in self._members:
            member.loop.checkpoints.wait()
