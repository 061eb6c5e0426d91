"""Item models: centre vectors, context vectors, biases, and vectors of side information.

Tables are plain arrays by name, so that a step can read and update single rows:

    embedding [I, D]   an item's vector as centre
    context [I, D]     an item's vector as context; absent if the embedding serves as context
    bias [I]           an item's bias; a score adds the biases of both items
    feature [F, D]     vectors of feature values
    share [I, 1 + C]   logits of the weights of an item's own vector and of its C features

Sources: Mikolov et al., NIPS 2013 (skip-gram with negative sampling); Wang et al., "Billion-scale
commodity embedding for e-commerce recommendation in Alibaba" (EGES), KDD 2018, eq. 6.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxrec.config import ModelConfig
from jaxrec.graph.rows import take_columns

Tables = dict[str, Array]


class Side(NamedTuple):
    """Item features as rows of one table: each of K slots has a row and a coefficient.

    A category has one slot; a bag of n names has n slots with coefficient 1/n; a number x has two
    slots, with coefficients x and 1. Unused slots have coefficient 0.

    Attributes:
      code_IK: rows of ``feature``.
      coefficient_IK: coefficients of these rows.
      there_IC: which of the C features an item has.
      column_K: the feature of each slot.
    """

    code_IK: Int[Array | np.ndarray, "I K"]
    coefficient_IK: Float[Array | np.ndarray, "I K"]
    there_IC: Bool[Array | np.ndarray, "I C"]
    column_K: Int[Array | np.ndarray, "K"]

    def take(self, item_T: Int[Array, "T"]) -> "Side":
        """Gather the features of some items."""
        code_IK, coefficient_IK, there_IC = map(jnp.asarray, self[:3])
        return Side(code_IK[item_T], coefficient_IK[item_T], there_IC[item_T], self.column_K)


def new_tables(
    config: ModelConfig, n_items: int, key: PRNGKeyArray, n_rows: int = 0, n_features: int = 0
) -> Tables:
    """Initialise the tables: random vectors, and zeros for contexts, biases and logits.

    Args:
      n_rows: number of rows of the feature table, F; unused without side information.
      n_features: number of features, C.
    """
    keys = jax.random.split(key)
    tables = {"embedding": config.init_std * jax.random.normal(keys[0], (n_items, config.dim))}
    if config.tables == "two":
        tables["context"] = jnp.zeros((n_items, config.dim))
    if config.biases:
        tables["bias"] = jnp.zeros(n_items)
    if config.side != "none":
        tables["feature"] = config.init_std * jax.random.normal(keys[1], (n_rows, config.dim))
    if config.side == "weighted":
        tables["share"] = jnp.zeros((n_items, 1 + n_features))
    return tables


def shares(
    there_TC: Bool[Array, "T C"], logit_TC1: Float[Array, "T C1"] | None
) -> Float[Array, "T C1"]:
    """Compute the weights of an item's vector and of each feature; an item's weights sum to 1.

    A missing feature has weight 0 and no gradient.
    """
    there_TC1 = jnp.concatenate([jnp.ones((there_TC.shape[0], 1), bool), there_TC], axis=1)
    logit_TC1 = jnp.zeros(there_TC1.shape) if logit_TC1 is None else logit_TC1
    return jax.nn.softmax(jnp.where(there_TC1, logit_TC1, -jnp.inf), axis=1)


def centres(
    own_TD: Float[Array, "T D"],
    side: Side | None = None,
    feature_TKD: Float[Array, "T K D"] | None = None,
    logit_TC1: Float[Array, "T C1"] | None = None,
) -> Float[Array, "T D"]:
    """Compute centre vectors n Σ_f a_f v_f over an item's vector and its n - 1 feature vectors.

    The weights a_f sum to 1. The factor n is not in EGES (eq. 6). It does not change cosines, and
    makes the learning speed of an item's vector independent of the number of features.
    """
    if side is None or feature_TKD is None:
        return own_TD
    share_TC1 = shares(jnp.asarray(side.there_IC), logit_TC1)
    slot_TK = take_columns(share_TC1[:, 1:], jnp.asarray(side.column_K)) * side.coefficient_IK
    parts_T1 = 1 + jnp.sum(jnp.asarray(side.there_IC), axis=1, keepdims=True, dtype=jnp.float32)
    of_features_TD = jnp.einsum("tk,tkd->td", slot_TK, feature_TKD)
    return parts_T1 * (share_TC1[:, :1] * own_TD + of_features_TD)


@jax.custom_vjp
def products(x_BID: Float[Array, "B I D"], y_BJD: Float[Array, "B J D"]) -> Float[Array, "B I J"]:
    """Compute the products x_bi · y_bj of a batch of small matrices.

    The backward pass transposes the gradients of the products before it computes the gradient in y,
    since XLA on CPU has no fast product that contracts the rows of both factors.
    """
    return jnp.einsum("bid,bjd->bij", x_BID, y_BJD)


def _products_backward(kept: tuple[Array, Array], g_BIJ: Array) -> tuple[Array, Array]:
    x_BID, y_BJD = kept
    turned_BJI = jax.lax.optimization_barrier(jnp.swapaxes(g_BIJ, 1, 2))
    of_x_BID = jnp.einsum("bij,bjd->bid", g_BIJ, y_BJD)
    return of_x_BID, jnp.einsum("bji,bid->bjd", turned_BJI, x_BID)


products.defvjp(lambda x, y: (products(x, y), (x, y)), _products_backward)


def cold(
    tables: Tables, side: Side, logit_C1: Float[Array, "C1"] | None = None
) -> Float[Array, "n D"]:
    """Compute centre vectors of unseen items from side information.

    Args:
      logit_C1: logits, the same for all items; None weighs features equally.

    Returns:
      Centre vectors; zeros for items without features.
    """
    there_nC = jnp.asarray(side.there_IC)
    logit_C = jnp.zeros(there_nC.shape[1]) if logit_C1 is None else logit_C1[1:]
    masked_nC = jnp.where(there_nC, logit_C, -jnp.inf)
    any_n1 = jnp.any(there_nC, axis=1, keepdims=True)
    share_nC = jnp.where(any_n1, jax.nn.softmax(jnp.where(any_n1, masked_nC, 0), axis=1), 0)
    slot_nK = share_nC[:, side.column_K] * side.coefficient_IK
    return jnp.einsum("nk,nkd->nd", slot_nK, tables["feature"][side.code_IK])
