"""GC-MC's bilinear decoder: probabilities of rating levels from two embeddings."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

_EXACT = jax.lax.Precision.HIGHEST  # lower precision on GPU and TPU would change the ranking


class DecoderWeights(NamedTuple):
    """The parameters of :func:`level_logits`: S bases and their coefficients for R levels."""

    basis_SDD: Float[Array, "S D D"]
    share_RS: Float[Array, "R S"]


def level_logits(
    weights: DecoderWeights, user_BD: Float[Array, "B D"], item_BD: Float[Array, "B D"]
) -> Float[Array, "B R"]:
    """Compute u^T Q_r v for pairs, with Q_r = Σ_s a_rs P_s; the softmax over r is P(r | u, v).

    Source: van den Berg et al., "Graph convolutional matrix completion", 2018, eq. 5 and 7.
    """
    product_BS = jnp.einsum("bd,sde,be->bs", user_BD, weights.basis_SDD, item_BD, precision=_EXACT)
    return jnp.einsum("bs,rs->br", product_BS, weights.share_RS, precision=_EXACT)


def expected(logit: Float[Array, "*pairs R"], level_R: Float[Array, "R"]) -> Float[Array, "*pairs"]:
    """Compute the expected rating Σ_r r P(r) (eq. 6)."""
    return jnp.sum(jax.nn.softmax(logit, axis=-1) * level_R, axis=-1)


def all_expected(
    weights: DecoderWeights,
    level_R: Float[Array, "R"],
    user_BD: Float[Array, "B D"],
    item_ID: Float[Array, "I D"],
) -> Float[Array, "B I"]:
    """Compute :func:`expected` for all items, with S instead of R arrays [B, I] in memory."""
    user_SBD = jnp.einsum("bd,sde->sbe", user_BD, weights.basis_SDD, precision=_EXACT)
    product_SBI = jnp.einsum("sbd,id->sbi", user_SBD, item_ID, precision=_EXACT)

    def logit_BI(r: int) -> Array:
        return jnp.sum(weights.share_RS[r][:, None, None] * product_SBI, axis=0)

    n_levels = level_R.shape[0]
    top_BI = logit_BI(0)
    for r in range(1, n_levels):
        top_BI = jnp.maximum(top_BI, logit_BI(r))
    mass_BI, total_BI = jnp.zeros_like(top_BI), jnp.zeros_like(top_BI)
    for r in range(n_levels):
        p_BI = jnp.exp(logit_BI(r) - top_BI)
        mass_BI, total_BI = mass_BI + p_BI, total_BI + level_R[r] * p_BI
    return total_BI / mass_BI


class BilinearDecoder(nnx.Module):
    """:func:`level_logits` as a layer.

    Args:
      dim: width of the embeddings, D.
      levels: number of rating levels, R.
      bases: number of bases, S.
    """

    def __init__(self, dim: int, levels: int, bases: int, rngs: nnx.Rngs) -> None:
        init = nnx.initializers.xavier_uniform()
        self.basis = nnx.Param(init(rngs.params(), (bases, dim, dim)))
        self.share = nnx.Param(init(rngs.params(), (levels, bases)))

    @property
    def weights(self) -> DecoderWeights:
        return DecoderWeights(self.basis[...], self.share[...])
