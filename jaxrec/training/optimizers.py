"""The optimizers of a run: one for the table of embeddings, and one for other parameters."""

from dataclasses import replace

import optax

from jaxrec import optax_chain, registry, rowwise
from jaxrec.config import Config
from jaxrec.errors import InputError
from jaxrec.rowwise import RowOptimizer

Optimizer = optax.GradientTransformation | RowOptimizer


def optimizer(config: Config, n_rows: int, steps: int, given: Optimizer | None = None) -> Optimizer:
    """Return the optimizer of the table; if it is an optax chain, it updates all parameters.

    Args:
      n_rows: number of rows of the table.
      steps: number of steps of the run.
      given: an optimizer to use instead of the configured one.

    Raises:
      InputError: the registered optimizer is row-wise but the model gives every row a gradient, or
        the registered object is no optimizer.
    """
    made = given or _configured(config, n_rows, steps)
    if config.optimizer_around is None or isinstance(made, RowOptimizer):
        return made
    around = registry.OPTIMIZERS.get(config.optimizer_around)
    return around(optax_chain.learning_rate(config.optim, steps), steps, made)


def _configured(config: Config, n_rows: int, steps: int) -> Optimizer:
    if config.optim.registered:
        return _registered(config, steps)
    room = rowwise if config.sparse_updates(n_rows) else optax_chain
    return room.make_optimizer(config.optim, steps)


def _registered(config: Config, steps: int) -> Optimizer:
    name = config.optim.name
    made = registry.OPTIMIZERS.get(name)(optax_chain.learning_rate(config.optim, steps), steps)
    if isinstance(made, RowOptimizer) and not (config.model.local and config.model.ids):
        raise InputError(
            f"optim.name {name} updates only the rows of a batch, but model.name "
            f"{config.model.name} gives every row a gradient; use model.name mf, pinsage or "
            "two-tower, or register an optax chain"
        )
    if not isinstance(made, RowOptimizer | optax.GradientTransformation):
        raise InputError(
            f"optim.name {name} returns a {type(made).__name__}; it must return an "
            "optax.GradientTransformation or a jaxrec.rowwise.RowOptimizer"
        )
    return made


def rest_optimizer(config: Config, steps: int) -> optax.GradientTransformation:
    """Return the optimizer of all parameters but the table, for a table updated row-wise."""
    dense = {"rowwise_adagrad": "adagrad"}.get(config.optim.name, config.optim.name)
    if config.optim.registered:
        dense = "adam"
    return optax_chain.make_optimizer(replace(config.optim, name=dense, sparse=None), steps)
