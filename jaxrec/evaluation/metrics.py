"""Definitions of the ranking metrics, which differ between projects.

Throughout, h_r is 1 if the item at rank r (from 1) is relevant to the user, R is the number of the
user's relevant items and H_k = Σ_{r<=k} h_r. A list shorter than k (where there are fewer items)
counts as padded with misses. The metric of a set of users is the mean over the users with R > 0;
users without a relevant item do not count.

recall@k         H_k / R (LightGCN, PyG, RecBole).
recall_capped@k  H_k / min(k, R) (Mult-VAE, Liang et al. 2018; iALS).
ndcg@k           Σ_{r<=k} h_r / log2(r + 1), divided by the same sum for a list with min(k, R)
                 hits at its head: binary gain (Järvelin and Kekäläinen 2002; as LightGCN, RecBole).
precision@k      H_k / k.
hit_rate@k       1 where H_k > 0, else 0.
mrr@k            1 / rank of the first hit, 0 where H_k = 0 (Voorhees 1999).
map@k            Σ_{r<=k} h_r · (H_r / r) / min(k, R) (as RecBole; other projects divide by R).
coverage@k       the share of all items that are in the top k of at least one user ("catalogue
                 coverage", Ge et al. 2010).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrec import registry
from jaxrec.config import METRIC_NAMES


def names() -> tuple[str, ...]:
    """Return the names of all metrics except coverage: first built-in metrics, then registered
    ones."""
    return (*METRIC_NAMES, *registry.METRICS.registered())


def keys(ks: Sequence[int]) -> list[str]:
    """Return the keys of the values of :func:`per_user`, in order: ``["recall@10", ...]``."""
    return [f"{name}@{k}" for k in ks for name in names()]


def per_user(
    hit_BK: Bool[Array, "B K"], n_relevant_B: Int[Array, "B"], ks: tuple[int, ...]
) -> dict[str, Float[Array, "B"]]:
    """Compute every metric except coverage for each user.

    Args:
      hit_BK: whether the item at each rank is relevant; K is max(ks), or the number of items if
        that is less.
      n_relevant_B: R of each user; if 0, all metrics are 0 and the user must be excluded.
      ks: cut-offs, each at least 1.

    Returns:
      float32 values [B] by the names of :func:`keys`.
    """
    length = max(ks)
    hit_BK = jnp.pad(hit_BK, ((0, 0), (0, length - hit_BK.shape[1]))).astype(jnp.float32)
    rank_K = np.arange(1, length + 1, dtype=np.float32)
    discount_K = (1 / np.log2(rank_K + 1)).astype(np.float32)
    ideal_K = np.cumsum(discount_K, dtype=np.float32)
    hits_BK = jnp.cumsum(hit_BK, axis=1)
    dcg_BK = jnp.cumsum(hit_BK * discount_K, axis=1)
    precisions_BK = jnp.cumsum(hit_BK * hits_BK / rank_K, axis=1)
    # The first hit has the largest reciprocal rank.
    reciprocal_BK = hit_BK / rank_K
    relevant_B = jnp.maximum(n_relevant_B, 1)
    metrics = {}
    for k in ks:
        hits_B = hits_BK[:, k - 1]
        capped_B = jnp.minimum(relevant_B, k)
        values = (
            hits_B / relevant_B.astype(jnp.float32),
            hits_B / capped_B.astype(jnp.float32),
            dcg_BK[:, k - 1] / jnp.asarray(ideal_K)[capped_B - 1],
            hits_B / k,
            (hits_B > 0).astype(jnp.float32),
            reciprocal_BK[:, :k].max(axis=1),
            precisions_BK[:, k - 1] / capped_B.astype(jnp.float32),
            *(metric(hit_BK, n_relevant_B, k) for metric in registry.METRICS.registered().values()),
        )
        metrics |= dict(zip(keys((k,)), values, strict=True))
    return metrics


def coverage(best_rank_I: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """Compute coverage@k from the best rank (from 0) of each item over all users, [I]."""
    return {f"coverage@{k}": float(np.mean(best_rank_I < k)) for k in ks}
