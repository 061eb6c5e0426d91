"""How many of a batch's negatives their users are known to like."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrec.data.dataset import Csr
from jaxrec.graph.csr import DeviceCsr, contains
from jaxrec.train.draw import Batch


def counter(train: Csr, validation: Csr) -> Callable[[Batch], np.ndarray]:
    """Of a batch's negatives how many their user has in train, in validation, and how many count
    at all, [3]."""
    liked = [DeviceCsr(jnp.asarray(p.indptr), jnp.asarray(p.indices)) for p in (train, validation)]

    @jax.jit
    def count(batch: Batch, liked: list[DeviceCsr]) -> jax.Array:
        user_B = batch.positives.user_B
        neg_BN, used_BN = batch.negatives()
        known = [jnp.sum(contains(k, user_B, neg_BN) & used_BN) for k in liked]
        return jnp.stack([*known, jnp.sum(used_BN)])

    return lambda batch: jax.device_get(count(batch, liked))
