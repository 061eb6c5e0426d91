"""Build the optax chain of a configuration."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrec.config import OptimConfig

TABLE = "embedding"  # the name of the encoder's attribute that holds its table


class Accumulated(NamedTuple):
    """State of a stage that replaces the gradient by the sum of all gradients so far.

    The doctor recognises this mistake by the class.
    """

    total: Any


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """Return the learning rate by step: linear warm-up from 0, then the shape of the schedule.

    A cosine with several cycles starts each cycle at the peak (Loshchilov and Hutter, "SGDR", ICLR
    2017).
    """
    rest = max(1, steps - config.warmup_steps)
    peak = config.learning_rate
    after = {
        "constant": optax.constant_schedule(peak),
        "cosine": _cosine(peak, rest, config.cycles),
        "linear": optax.linear_schedule(peak, 0.0, rest),
    }[config.schedule]
    if config.warmup_steps == 0:
        return after
    warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def _cosine(peak: float | jax.Array, steps: int, cycles: int) -> optax.Schedule:
    """Return a cosine decay from the peak to 0 that runs ``cycles`` times at equal intervals.

    The size of the compiled program does not depend on the number of cycles.
    """
    if cycles == 1:
        return optax.cosine_decay_schedule(peak, steps)
    end_C = steps * np.arange(1, cycles + 1) // cycles
    begin_C = np.append(0, end_C[:-1])
    fall_C = np.maximum(end_C - begin_C, 1)

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        cycle = jnp.searchsorted(jnp.asarray(end_C[:-1], jnp.int32), step, side="right")
        begin, fall = (jnp.asarray(x, jnp.int32)[cycle] for x in (begin_C, fall_C))
        part = jnp.minimum(step - begin, fall).astype(jnp.float32) / fall.astype(jnp.float32)
        return peak * 0.5 * (1 + jnp.cos(jnp.pi * part))

    return rate


def _rest_scaled(by: float) -> optax.GradientTransformation:
    """Scale the updates of all parameters except the table."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def scaled(path: tuple[Any, ...], x: jax.Array) -> jax.Array:
            return x if jax.tree_util.keystr(path[:1]) == f"['{TABLE}']" else by * x

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def make_optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """Build the optimizer, with gradient clipping and another rate outside the table if configured.

    Args:
      steps: length of the run, for the schedules.
    """
    rate = learning_rate(config, steps)
    optimizer = {
        "adam": lambda: optax.adam(rate),
        "adamw": lambda: optax.adamw(rate, weight_decay=config.weight_decay),
        "sgd": lambda: optax.sgd(rate, momentum=config.momentum or None),
        "adagrad": lambda: optax.adagrad(rate),
    }[config.name]()
    clip = () if config.clip_norm is None else (optax.clip_by_global_norm(config.clip_norm),)
    rest = () if config.rest_rate == 1 else (_rest_scaled(config.rest_rate),)
    return optax.chain(*clip, optimizer, *rest) if clip or rest else optimizer
