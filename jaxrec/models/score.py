"""A learned score f(u, v) of two embeddings."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class PairWeights(NamedTuple):
    """The parameters of :func:`pair_scores`, H hidden units wide."""

    product_D: Float[Array, "D"]
    user_DH: Float[Array, "D H"]
    item_DH: Float[Array, "D H"]
    bias_H: Float[Array, "H"]
    out_H: Float[Array, "H"]


def pair_scores(
    weights: PairWeights,
    user_BD: Float[Array, "B D"],
    item: Float[Array, "S D"] | Float[Array, "B N D"],
) -> Float[Array, "B S"] | Float[Array, "B N"]:
    """Compute f(u, v) = g · (u ∘ v) + w · ReLU(A u + C v + b) of users u with items v.

    Items [S, D] are scored with every user, items [B, N, D] only with the user of their row.

    Source: NeuMF with one embedding table for both parts (He et al., WWW 2017, eq. 12).
    """
    user_BH, item_H = user_BD @ weights.user_DH + weights.bias_H, item @ weights.item_DH
    hidden_BSH = jax.nn.relu(user_BH[:, None] + item_H)
    return _products(weights, user_BD, item) + (hidden_BSH @ weights.out_H).astype(jnp.float32)


def all_scores(
    weights: PairWeights, user_BD: Float[Array, "B D"], item_ID: Float[Array, "I D"]
) -> Float[Array, "B I"]:
    """Compute :func:`pair_scores` with all items, without an array [B, I, H] in memory."""
    user_BH, item_IH = user_BD @ weights.user_DH + weights.bias_H, item_ID @ weights.item_DH

    def add_unit(h: Array, score_BI: Array) -> Array:
        of_user_B1, of_item_I = user_BH[:, h, None], item_IH[:, h]
        return score_BI + weights.out_H[h] * jax.nn.relu(of_user_B1 + of_item_I)

    start_BI = _products(weights, user_BD, item_ID)
    return jax.lax.fori_loop(0, weights.out_H.shape[0], add_unit, start_BI)


def _products(weights: PairWeights, user_BD: Array, item: Array) -> Array:
    # A lower precision than HIGHEST would change the ranking on GPU and TPU.
    return jnp.einsum(
        "bd,sd->bs" if item.ndim == 2 else "bd,bnd->bn",
        *(user_BD * weights.product_D, item),
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )


class NeuralScore(nnx.Module):
    """:func:`pair_scores` as a layer; it starts as the dot product plus a small hidden part."""

    def __init__(self, dim: int, width: int, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.xavier_uniform()
        self.product = nnx.Param(jnp.ones(dim))
        self.user = nnx.Param(init(rngs.params(), (dim, width)))
        self.item = nnx.Param(init(rngs.params(), (dim, width)))
        self.bias = nnx.Param(jnp.zeros(width))
        self.out = nnx.Param(init(rngs.params(), (width, 1))[:, 0])

    @property
    def weights(self) -> PairWeights:
        parts = (self.product, self.user, self.item, self.bias, self.out)
        return PairWeights(*(p[...] for p in parts))
