"""Losses and an optimizer with the mistakes of the ``case-*`` presets, for demonstration.

They are registered like user-defined losses and optimizers. The option ``mistakes`` of a
configuration selects them; their names are in ``jaxrec.config.planted_mistakes``.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jaxrec import losses, registry
from jaxrec.config import planted_mistakes
from jaxrec.errors import InputError
from jaxrec.optax_chain import Accumulated


def never_cleared() -> optax.GradientTransformation:
    """Return a transformation that replaces the gradient by the sum of all gradients so far.

    A PyTorch loop without zero_grad() also sums the gradients.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        total = jax.tree.map(jnp.add, state.total, updates)
        return total, Accumulated(total)

    return optax.GradientTransformation(
        lambda params: Accumulated(jax.tree.map(jnp.zeros_like, params)), update
    )


@registry.register_optimizer(planted_mistakes.ADDED)
def accumulated(
    rate: optax.Schedule, steps: int, inner: optax.GradientTransformation | None = None
) -> optax.GradientTransformation:
    """Return ``inner`` (default: Adam), applied to the sum of the gradients of all steps so far."""
    return optax.chain(never_cleared(), inner or optax.adam(rate))


def _mistaken(
    user_BD: Float[Array, "B D"],
    pos_BD: Float[Array, "B D"],
    neg: Float[Array, "S D"] | Float[Array, "B N D"],
    weight_B: Float[Array, "B"],
    valid_BN: Bool[Array, "B N"] | None,
    temperature: float,
    *,
    triplet: bool,
    batch_scores: bool,
    in_sigmoid: bool,
) -> Float[Array, ""]:
    """Compute the loss of a batch with mistakes.

    Args:
      triplet: whether the loss is triplet instead of bpr.
      batch_scores: whether to compute the B x B product user · items^T instead of the row-wise dot
        product. The loss is then a mean over B^2 gaps, and most gaps are between a user and the
        items of another user's pair.
      in_sigmoid: whether to compute -log σ(Σ_b w_b mean_n(pos_b - neg_bn)), one saturated sigmoid
        for the whole batch, instead of -Σ_b w_b log σ(pos_b - neg_bn).
    """
    neg_BN = losses.products(None, user_BD, neg)
    pos_B = jnp.einsum("bd,bd->b", user_BD, pos_BD)
    counts_BN = jnp.ones(neg_BN.shape) if valid_BN is None else valid_BN.astype(jnp.float32)
    share_BN = counts_BN * (weight_B / jnp.maximum(jnp.sum(counts_BN, axis=1), 1))[:, None]
    gap_BN = pos_B[:, None] - neg_BN
    if batch_scores:
        if neg.ndim != 3 or neg.shape[1] != 1:
            raise InputError("batch-scores needs one negative per pair: set negatives.count 1")
        gap_BN = user_BD @ (pos_BD - neg[:, 0]).T
        share_BN = weight_B[:, None] * share_BN.reshape(1, -1)
    gap_BN = gap_BN / temperature
    if in_sigmoid:
        return jax.nn.softplus(-jnp.sum(share_BN * gap_BN))
    of_gap = jax.nn.sigmoid if triplet else jax.nn.softplus
    return jnp.sum(share_BN * of_gap(-gap_BN)) / jnp.sum(share_BN)


for _name in planted_mistakes.LOSSES:
    registry.register_loss(_name, of="embeddings")(
        partial(
            _mistaken,
            triplet=_name.startswith("triplet"),
            batch_scores="batch-scores" in _name,
            in_sigmoid="sum-in-sigmoid" in _name,
        )
    )
