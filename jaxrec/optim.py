"""The optax chain of a configuration."""

import optax

from jaxrec.config import OptimConfig


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up from 0, then the schedule's shape down to 0.

    A cosine of several cycles begins each at the peak again (Loshchilov and Hutter, "SGDR", ICLR
    2017).
    """
    rest = max(1, steps - config.warmup_steps)
    peak = config.learning_rate
    ends = [rest * i // config.cycles for i in range(1, config.cycles + 1)]
    falls = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    falling = [optax.cosine_decay_schedule(peak, max(1, fall)) for fall in falls]
    after = {
        "constant": optax.constant_schedule(peak),
        "cosine": optax.join_schedules(falling, ends[:-1]),
        "linear": optax.linear_schedule(peak, 0.0, rest),
    }[config.schedule]
    if config.warmup_steps == 0:
        return after
    warmup = optax.linear_schedule(0.0, peak, config.warmup_steps)
    return optax.join_schedules([warmup, after], [config.warmup_steps])


def build(config: OptimConfig, steps: int) -> optax.GradientTransformation:
    """The chain: clipping of the global norm where asked, then the optimizer.

    Args:
      steps: length of the run, which the schedules are stretched over.
    """
    rate = learning_rate(config, steps)
    optimizer = {
        "adam": lambda: optax.adam(rate),
        "adamw": lambda: optax.adamw(rate, weight_decay=config.weight_decay),
        "sgd": lambda: optax.sgd(rate, momentum=config.momentum or None),
        "adagrad": lambda: optax.adagrad(rate),
    }[config.name]()
    if config.clip_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
