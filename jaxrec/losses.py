"""Losses of a batch of scores: pure, elementwise in the pairs, safe at any score.

Every loss takes pos_B [B] and neg_BN [B, N] and gives one value a pair, [B]; the caller
averages over the pairs. ``valid_BN`` switches single negatives off (known positives in a shared
set); a pair without a valid negative costs 0 in ``bpr``.

The CS224W lecture behind this project prints its mini-batch BPR loss as
-log(σ(pos) - σ(neg)), which is undefined wherever pos <= neg. What Rendle et al. (2009), and
the lecture's own sentence above the formula, mean is -log σ(pos - neg), with a mean over the
pairs outside the logarithm. Summing the scores of many pairs inside one sigmoid is another
mistake with a name: it saturates, and embeddings collapse.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Loss(Protocol):
    def __call__(
        self,
        pos_B: Float[Array, "B"],
        neg_BN: Float[Array, "B N"],
        valid_BN: Bool[Array, "B N"] | None = None,
    ) -> Float[Array, "B"]: ...


def _mean_valid(value_BN: Array, valid_BN: Array | None) -> Array:
    if valid_BN is None:
        return jnp.mean(value_BN, axis=1)
    count_B = jnp.sum(valid_BN, axis=1, dtype=value_BN.dtype)
    return jnp.sum(jnp.where(valid_BN, value_BN, 0), axis=1) / jnp.maximum(count_B, 1)


def bpr(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """Bayesian personalised ranking: 1/N Σ_n -log σ(pos - neg_n), as softplus(neg_n - pos).

    Source: Rendle et al., UAI 2009. log 2 at equal scores.
    """
    return _mean_valid(jax.nn.softplus(neg_BN - pos_B[:, None]), valid_BN)


def bce(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """The binary loss: -log σ(pos) - 1/N Σ_n log(1 - σ(neg_n)), as two softplus.

    Source: CS224W, lecture on recommender systems, "binary loss". 2 log 2 at scores of 0.
    """
    return jax.nn.softplus(-pos_B) + _mean_valid(jax.nn.softplus(neg_BN), valid_BN)


def sampled_softmax(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """-log( e^pos / (e^pos + Σ_n e^neg_n) ), by logsumexp (log(1 + N) at equal scores).

    Source: Wu et al., "On the effectiveness of sampled softmax loss", 2022.
    """
    if valid_BN is not None:
        neg_BN = jnp.where(valid_BN, neg_BN, -jnp.inf)
    score_BM = jnp.concatenate([pos_B[:, None], neg_BN], axis=1)
    return jax.nn.logsumexp(score_BM, axis=1) - pos_B


LOSSES: dict[str, Loss] = {"bpr": bpr, "bce": bce, "softmax": sampled_softmax}


def squared_norm(x: Float[Array, "*rows D"]) -> Float[Array, "*rows"]:
    """|x|^2 of each row."""
    return jnp.sum(jnp.square(x), axis=-1)
