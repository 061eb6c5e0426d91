"""Starts a run from the parameters of another run, for data that has grown."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxrec import config as configs
from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.data.schema import Schema
from jaxrec.errors import InputError
from jaxrec.graph.bipartite import Bipartite
from jaxrec.models import Encoder
from jaxrec.runfolder import check_run, read_embeddings, read_json, read_parameters
from jaxrec.training import objectives
from jaxrec.training.device_data import Inputs
from jaxrec.training.step import TABLE, written

# Options that determine the shapes and meaning of parameters.
_ALIKE = ("name", "dim", "layers", "form", "layer_weights", "hidden_dim", "ids", "batch_norm")
_ALIKE += ("neighbors", "score", "score_width", "biases", "bases")
_ALIKE += ("tower_dims", "id_dim", "activation", "final", "bags", "columns", "tables", "side")
_BY_NODE = (TABLE, "bias")


def check_alike(config: Config) -> None:
    """Raise InputError if the run to start from differs in options that shape the parameters."""
    if config.warm_start is None:
        return
    run = check_run(config.warm_start)
    old = configs.load(run / "config.json").model
    for name in _ALIKE:
        ours, theirs = getattr(config.model, name), getattr(old, name)
        if ours != theirs:
            raise InputError(
                f"warm_start {run}: its model.{name} is {theirs}, not {ours}; train with "
                f"--config {run / 'config.json'}, or drop --warm-start"
            )


def _stored(run: str) -> dict[str, Any]:
    """Read the features.json of a run. Raises InputError if the run has not finished."""
    stored = read_json(check_run(run) / "features.json")
    if not stored:
        raise InputError(f"{run}: the run has not finished; `jaxrec resume {run}` finishes it")
    return stored


def item_schema(run: str) -> Schema:
    """Read a run's schema of item features. Raises InputError if the run has none."""
    stored = _stored(run)["item"]
    if stored is None:
        raise InputError(f"{run}: was trained without item features")
    return Schema.from_dict(stored)


def takes(config: Config, train: Dataset) -> Inputs:
    """Return the model's inputs, with the feature schemas and edge types of the warm start's run.

    So the new run encodes features as that run did. The number of rating levels in the loss comes
    from the train data.

    Raises:
      InputError: the run has not finished, or the data lacks ratings that the loss needs.
    """
    assert config.warm_start is not None
    stored = _stored(config.warm_start)
    user, item = (
        None if stored[side] is None else Schema.from_dict(stored[side])
        for side in ("user", "item")
    )
    return Inputs(user, item, stored["levels"], objectives.of(config).levels(config, train))


def load(model: Encoder, config: Config, train: Dataset, graph: Bipartite) -> dict[str, int]:
    """Load the parameters of the run to start from; rows of new ids keep their initial values.

    Returns:
      The number of users, and of items, that the data shares with that run.

    Raises:
      InputError: the run has not finished, or its parameters do not match.
    """
    assert config.warm_start is not None
    run = Path(config.warm_start)
    old, ids = read_parameters(run), read_embeddings(run)
    here, there, known = _shared_rows(train, ids.user_ids, ids.item_ids)
    flat: dict[Any, Any] = dict(nnx.to_flat_state(nnx.state(model)))
    for path, value in flat.items():
        name = "/".join(map(str, path))
        array = old.get(name)
        if array is None or (name not in _BY_NODE and array.shape != value[...].shape):
            raise InputError(
                f"warm_start {run}: its parameter {name} does not match this model; train without "
                "--warm-start"
            )
        if name == TABLE:
            place = np.asarray(graph.places(jnp.asarray(here)))
            value[...] = written(value[...], place, array[there])
        elif name in _BY_NODE:
            value[...] = value[...].at[here].set(array[there])
        else:
            value[...] = jnp.asarray(array)
    return known


def _shared_rows(
    train: Dataset, user_ids: np.ndarray, item_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Find the ids that the data set and a run share.

    Returns:
      The rows of these ids in the data set, their rows in the run, and their number per side.
    """
    here, there, known = [], [], {}
    first_here = first_there = 0
    sides = {"users": (train.user_ids, user_ids), "items": (train.item_ids, item_ids)}
    for side, (new, old) in sides.items():
        _, at, of = np.intersect1d(np.asarray(new).astype(str), old, return_indices=True)
        here.append(at + first_here)
        there.append(of + first_there)
        known[side] = len(at)
        first_here, first_there = first_here + len(new), first_there + len(old)
    return np.concatenate(here).astype(np.int32), np.concatenate(there), known
