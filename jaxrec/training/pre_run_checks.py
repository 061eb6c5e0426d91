"""Checks of a configuration against the data and the machine, before a run."""

from jaxrec import machine
from jaxrec.config import Config, check_cutoffs
from jaxrec.config.checks import INT32, check
from jaxrec.errors import InputError
from jaxrec.plan import shown
from jaxrec.training.memory import device_memory
from jaxrec.training.schedule import Cadence

_PARTS = 4  # number of arrays per parameter: the value, its gradient and two moments


def check_limits(config: Config, n_users: int, n_items: int, pairs: int) -> None:
    """Check the settings whose limits depend on the data or on the memory.

    Args:
      pairs: number of train pairs per epoch; for training on walks, the number of walks per epoch.

    Raises:
      InputError: a setting is out of range; the message names it and its limit.
    """
    check_cutoffs(config.eval.k, n_items)
    _check_length(config, pairs)
    _check_memory(config, n_users, n_items)


def _check_length(config: Config, pairs: int) -> None:
    """Raise InputError if a run has too many steps for int32, or too few for warm-up or cycles."""
    if not pairs:
        return
    check(
        pairs <= INT32,
        f"an epoch has {pairs:,} pairs or walks, but at most {INT32:,} are supported; train on "
        "less data, or with fewer walks",
    )
    made = Cadence.of(config, pairs)
    check(
        made.total <= INT32,
        f"train.epochs {config.train.epochs:,} with {made.per_epoch:,} steps each are "
        f"{made.total:,} steps, but a run has at most {INT32:,}; set fewer epochs",
    )
    optim, left = config.optim, made.total - config.optim.warmup_steps
    check(
        made.total == 0 or left >= 0,
        f"optim.warmup_steps {optim.warmup_steps:,} exceed the {made.total:,} steps of the run",
    )
    check(
        made.total == 0 or optim.cycles == 1 or optim.cycles <= left,
        f"optim.cycles {optim.cycles:,} exceed the {left:,} steps after warm-up",
    )


def memory_limit() -> int:
    """Return the memory of the device in bytes; for a CPU, the memory of the machine."""
    limit = device_memory()
    return machine.memory() if limit is None else limit


def _check_memory(config: Config, n_users: int, n_items: int) -> None:
    """Raise InputError if the lower bound of a run's memory exceeds the available memory.

    The exact memory is known, and checked, only after the step is compiled.
    """
    needs = least_bytes(config, n_users, n_items)
    total, limit = sum(needs.values()), memory_limit()
    if total <= limit:
        return
    name = max(needs, key=lambda n: needs[n])
    raise InputError(
        f"the run needs at least {shown(total)} of memory ({shown(needs[name])} of it for {name}), "
        f"but only {shown(limit)} are available; set a smaller {_CAUSES[name]}"
    )


_CAUSES = {
    "a batch": "train.batch_size or model.dim, or fewer negatives",
    "tables of nodes": "model.dim, or fewer layers",
    "matrices": "model.dim, model.hidden_dim, model.tower_dims or model.score_width",
}


def least_bytes(config: Config, n_users: int, n_items: int) -> dict[str, int]:
    """Return lower bounds of a step's memory in bytes: of a batch, of node tables, of matrices."""
    model = config.model
    nodes, parts = n_users + n_items, config.mesh.devices
    width = model.id_dim or model.dim
    host = config.mesh.memory == "host"
    tables = 0 if host or not model.ids else nodes * width * _PARTS
    tables += 0 if model.local else 2 * nodes * model.dim
    if model.sampled and model.neighbors == "importance":
        tables += 2 * nodes * max(model.hops)
    found = {
        "a batch": 4 * config.objective.batch_numbers(config, n_items) // parts,
        "tables of nodes": 4 * tables // config.mesh.table,
        "matrices": 4 * _PARTS * _matrix_weights(config),
    }
    return found


def _matrix_weights(config: Config) -> int:
    """Return a lower bound of the number of weights in the matrices of model, score and loss."""
    model = config.model
    weights = model.kind.matrix_weights(model)
    if model.score == "mlp":
        weights += 3 * model.dim * model.score_width
    if config.loss.name == "levels":
        weights += model.bases * model.dim**2
    return weights
