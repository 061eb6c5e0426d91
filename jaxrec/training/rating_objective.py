"""What a step of a rating run does differently: biases, losses of pairs, rows never trained."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrec import losses
from jaxrec.models import Encoder, Nodes
from jaxrec.models.decoder import level_logits
from jaxrec.models.score import pair_scores
from jaxrec.training.batch import Positives


def with_biases(
    rows: Nodes, bias_N: Float[Array, "N"], node_R: Int[Array, "R"], n_pairs: int
) -> Nodes:
    """Two more columns, [b_u 1] for users and [1 b_i] for items: products hold both biases.

    To the table's rows the bias alone is added, for L2.

    Args:
      node_R: whose rows they are; those of the pairs' users come first.
    """
    bias_R1 = bias_N[node_R][:, None]
    is_user_R1 = jnp.arange(len(node_R))[:, None] < n_pairs
    first_R1, last_R1 = jnp.where(is_user_R1, bias_R1, 1), jnp.where(is_user_R1, 1, bias_R1)
    return Nodes(
        jnp.concatenate([rows.emb_ND, first_R1, last_R1], axis=1),
        jnp.concatenate([rows.base_ND, bias_R1], axis=1),
    )


def pair_losses(
    model: Encoder,
    user_BD: Float[Array, "B D"],
    item_BD: Float[Array, "B D"],
    pairs: Positives,
    temperature: float,
) -> Float[Array, "B"]:
    """What each pair's rating costs, from embeddings with the columns of their biases."""
    assert pairs.target_B is not None
    if model.decoder is not None:
        logit_BR = level_logits(model.decoder.weights, user_BD, item_BD)
        return losses.level_loss(logit_BR, pairs.target_B)
    if model.score is None:
        score_B = jnp.einsum("bd,bd->b", user_BD, item_BD)
    else:
        (user_BD, left), (item_BD, right) = (
            jnp.split(x, [model.out_dim], axis=1) for x in (user_BD, item_BD)
        )
        score_B1 = pair_scores(model.score.weights, user_BD, item_BD[:, None])
        score_B = score_B1[:, 0] + jnp.einsum("bd,bd->b", left, right)
    return losses.squared_error(score_B / temperature, pairs.target_B)


def filled(
    x_ND: Float[Array, "N D"], met_N1: Array, n_users: int, described: tuple[bool, bool]
) -> Float[Array, "N D"]:
    """Rows that no rating has trained as the mean of their side's others: else they are noise.

    Args:
      met_N1: which nodes have train ratings.
      described: whether users, and items, have features; such a side stays as it is.
    """
    sides = []
    for side, has_features in zip((slice(n_users), slice(n_users, None)), described, strict=True):
        x, met = x_ND[side], met_N1[side]
        count = jnp.maximum(jnp.sum(met, dtype=x.dtype), 1)
        mean_D = jnp.sum(jnp.where(met, x, 0), axis=0) / count
        sides.append(x if has_features else jnp.where(met, x, mean_D))
    return jnp.concatenate(sides)
