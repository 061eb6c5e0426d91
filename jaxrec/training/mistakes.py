"""Mistakes that people make, on purpose: what `mistakes` of a configuration asks for.

They are here to be seen, measured and told from one another. Nothing else comes this way.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxrec import losses
from jaxrec.config import Config


class Accumulated(NamedTuple):
    """State of :func:`never_cleared`: the sum, which the doctor finds by this name."""

    total: Any


def never_cleared() -> optax.GradientTransformation:
    """Σ of all gradients so far instead of the gradient: a PyTorch loop without zero_grad()."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        total = jax.tree.map(jnp.add, state.total, updates)
        return total, Accumulated(total)

    return optax.GradientTransformation(
        lambda params: Accumulated(jax.tree.map(jnp.zeros_like, params)), update
    )


def asked(config: Config) -> bool:
    """Whether the loss is one with mistakes."""
    return bool({"sum-in-sigmoid", "batch-scores"} & set(config.mistakes))


def loss(
    config: Config,
    user_BD: Float[Array, "B D"],
    pos_BD: Float[Array, "B D"],
    neg: Float[Array, "S D"] | Float[Array, "B N D"],
    weight_B: Float[Array, "B"],
    valid_BN: Bool[Array, "B N"] | None,
) -> Float[Array, ""]:
    """The loss of a batch with what `mistakes` asks for.

    sum-in-sigmoid: -log σ(Σ_b w_b mean_n(pos_b - neg_bn)) where -Σ_b w_b log σ(pos_b - neg_bn)
    is meant: one saturated sigmoid for the whole batch.

    batch-scores: user · items^T, B x B, where the row-wise dot is meant, so that each gap is that
    of a user and of somebody else's items: the mean over all B^2 of them.

    Args:
      weight_B: of the pairs; 0 where a batch is padded.
    """
    neg_BN = losses.products(None, user_BD, neg)
    pos_B = jnp.einsum("bd,bd->b", user_BD, pos_BD)
    counts_BN = jnp.ones(neg_BN.shape) if valid_BN is None else valid_BN.astype(jnp.float32)
    share_BN = counts_BN * (weight_B / jnp.maximum(jnp.sum(counts_BN, axis=1), 1))[:, None]
    gap_BN = pos_B[:, None] - neg_BN
    if "batch-scores" in config.mistakes:  # the configuration sees to N = 1
        gap_BN = user_BD @ (pos_BD - neg[:, 0]).T
        share_BN = weight_B[:, None] * share_BN.reshape(1, -1)
    gap_BN = gap_BN / config.loss.temperature
    if "sum-in-sigmoid" in config.mistakes:
        return jax.nn.softplus(-jnp.sum(share_BN * gap_BN))
    of_gap = jax.nn.sigmoid if config.loss.name == "triplet" else jax.nn.softplus
    return jnp.sum(share_BN * of_gap(-gap_BN)) / jnp.sum(share_BN)
