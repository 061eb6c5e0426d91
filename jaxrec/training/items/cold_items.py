"""Vectors of unseen items, from their side information."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.config import Config
from jaxrec.data.features import Features
from jaxrec.errors import InputError
from jaxrec.models import skipgram
from jaxrec.models.encoder import unit_rows
from jaxrec.models.skipgram import Side
from jaxrec.runfolder import read_parameters
from jaxrec.training import warm_start
from jaxrec.training.items import side_information as sides


def cold_vectors(run: Path, config: Config, features: Features) -> np.ndarray:
    """Return centre vectors [n, D] float32 of unseen items, comparable with the run's vectors.

    An item whose features were all unknown in training gets zeros.

    Raises:
      InputError: the run has no side information, or a feature had another type in training.
    """
    if config.model.side == "none":
        raise InputError(
            f"{run}: {config.model.name} has one vector per id and none for new items; train "
            "skipgram-side, or with --model.side average, on data with features"
        )
    tables = {name: jnp.asarray(table) for name, table in read_parameters(run).items()}
    side = sides.encoded(features, warm_start.item_schema(str(run)))
    cold_nD = skipgram.cold(tables, Side(*map(jnp.asarray, side)), tables.get("cold_share"))
    if config.model.score == "cosine":
        cold_nD = unit_rows(cold_nD)
    return np.asarray(jax.device_get(cold_nD), np.float32)
