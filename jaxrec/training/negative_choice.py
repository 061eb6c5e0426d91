"""Picking of a batch's negatives from its candidates, by scores or by features."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrec import losses, negatives
from jaxrec.config import Config, NegativesConfig
from jaxrec.graph.rows import take
from jaxrec.models import Nodes
from jaxrec.models.encoder import unit_rows
from jaxrec.models.score import PairWeights, pair_scores
from jaxrec.training.batch import Batch


def by_embeddings(
    config: Config, rows: Nodes, batch: Batch, weights: PairWeights | None
) -> tuple[Nodes, Batch]:
    """Pick negatives by the model's scores; return rows and batch with only the picked ones.

    Zhang et al., "Optimizing top-N collaborative filtering via dynamic negative item sampling",
    SIGIR 2013, pick the highest score. One product computes all scores, and no gradient flows
    through the choice.

    Args:
      rows: the rows of the pairs' users, of the pairs' items, and of all candidates.
      weights: the parameters of a learned score; None for other scores.
    """
    how = config.negatives
    if how.picks in (None, "same-features"):
        return rows, batch
    n_pairs = len(batch.positives.user_B)
    user_BD, pos_BD, neg_RD = jnp.split(jax.lax.stop_gradient(rows.emb_ND), [n_pairs, 2 * n_pairs])
    pos_B = jnp.zeros(n_pairs)
    if how.picks == "similar":
        # The last two columns hold the biases, if the model has any.
        dim = rows.emb_ND.shape[1] - 2 * config.model.biases
        user_BD, neg_RD = unit_rows(pos_BD[:, :dim]), unit_rows(neg_RD[:, :dim])
    pairs: Any = losses.products
    if weights is not None and how.picks != "similar":
        pairs, weights = pair_scores, jax.lax.stop_gradient(weights)
    neg = neg_RD.reshape(*batch.neg.shape, neg_RD.shape[1])
    if how.picks == "semi-hard":
        pos_B = pairs(weights, user_BD, pos_BD[:, None])[:, 0]
    column_BN = _columns(how, pairs(weights, user_BD, neg), batch, pos_B)
    row_BN = column_BN + 2 * n_pairs
    if how.private:
        row_BN += jnp.arange(n_pairs, dtype=jnp.int32)[:, None] * batch.neg.shape[1]
    row_R = jnp.concatenate([jnp.arange(2 * n_pairs), row_BN.reshape(-1)])
    return Nodes(*(take(x_RD, row_R) for x_RD in rows)), taken(batch, column_BN)


def by_features(how: NegativesConfig, alike_IF: Float[Array, "I F"], batch: Batch) -> Batch:
    """Pick the negatives whose features are most similar to those of the positive.

    Args:
      alike_IF: normalised item features.
    """
    pos_BF, neg = alike_IF[batch.positives.item_B], alike_IF[batch.neg]
    score_BN = losses.products(None, pos_BF, neg)
    return taken(batch, _columns(how, score_BN, batch, jnp.zeros(len(pos_BF))))


def _columns(how: NegativesConfig, score_BN: Array, batch: Batch, pos_B: Array) -> Array:
    """Return the columns in ``score_BN`` of the candidates picked for each pair, [B, n_kept]."""
    if batch.valid_BN is not None:
        score_BN = jnp.where(batch.valid_BN, score_BN, -jnp.inf)
    n_kept = how.count if how.private else 1
    score_BNC = score_BN.reshape(score_BN.shape[0], n_kept, -1)
    first_N = jnp.arange(n_kept, dtype=jnp.int32) * score_BNC.shape[2]
    assert how.picks is not None
    return negatives.picked(how.picks, score_BNC, pos_B) + first_N


def taken(batch: Batch, column_BN: Array) -> Batch:
    """Return the batch with only the given columns of negatives, chosen for each pair."""
    neg_BC = jnp.broadcast_to(batch.neg, (column_BN.shape[0], batch.neg.shape[-1]))
    neg, valid_BN = (
        None if x_BC is None else jnp.take_along_axis(x_BC, column_BN, axis=1)
        for x_BC in (neg_BC, batch.valid_BN)
    )
    assert neg is not None
    return batch._replace(neg=neg, valid_BN=valid_BN)
