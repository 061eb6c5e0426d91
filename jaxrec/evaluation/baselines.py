"""Baselines without gradient descent: item-kNN and EASE.

Both have a matrix of item-to-item weights. A user's scores are the sum of the rows of the user's
train items. Items are ranked by the same code as for models. Interactions are binary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxrec.data.dataset import Csr
from jaxrec.errors import InputError
from jaxrec.evaluation.scorers import Scorer
from jaxrec.evaluation.topk import free_memory

_ITEMS_AT_ONCE = 1024
_SEGMENT = 64


class _Dense(NamedTuple):
    """Train items by user, and the weights from each train item (row) to every item."""

    indptr_: Int[Array, "U+1"]
    item_E: Int[Array, "E"]
    weight_II: Float[Array, "I I"]


class _Sparse(NamedTuple):
    """Train items by user, and the weights from each train item in segments of C entries.

    The segments of item j are the rows ``segment_[j]`` to ``segment_[j + 1] - 1`` of ``target_SC``
    (item ids) and ``weight_SC`` (weights to these items); padding has weight 0.
    """

    indptr_: Int[Array, "U+1"]
    item_E: Int[Array, "E"]
    segment_: Int[Array, "I+1"]
    target_SC: Int[Array, "S C"]
    weight_SC: Float[Array, "S C"]


def _sum_rows(
    params: _Dense | _Sparse, user_B: Array, n_items: int, add: Callable[[Array, Array], Array]
) -> Array:
    """Compute scores [B, I]: start from zeros, and apply ``add`` for each train item of a user."""

    def score(user: Array) -> Array:
        return lax.fori_loop(
            params.indptr_[user],
            params.indptr_[user + 1],
            lambda e, score_I: add(score_I, params.item_E[e]),
            jnp.zeros(n_items, jnp.float32),
        )

    return lax.map(score, user_B)


def _dense(params: _Dense, user_B: Array) -> Array:
    def add(score_I: Array, item: Array) -> Array:
        return score_I + params.weight_II[item]

    return _sum_rows(params, user_B, len(params.weight_II), add)


def _sparse(params: _Sparse, user_B: Array) -> Array:
    def add_segment(s: Array, score_I: Array) -> Array:
        return score_I.at[params.target_SC[s]].add(params.weight_SC[s])

    def add(score_I: Array, item: Array) -> Array:
        first, end = params.segment_[item], params.segment_[item + 1]
        return lax.fori_loop(first, end, add_segment, score_I)

    return _sum_rows(params, user_B, len(params.segment_) - 1, add)


def _pairs(train: Csr, n_items: int) -> Any:
    """Build the matrix X of interactions, a scipy.sparse.csr_array [U, I] of ones."""
    from scipy.sparse import csr_array

    ones_E = np.ones(len(train.indices), np.float32)
    shape = (len(train.indptr) - 1, n_items)
    return csr_array((ones_E, train.indices, train.indptr), shape=shape)


def item_knn(train: Csr, n_items: int, neighbours: int = 500, user_power: float = 0.5) -> Scorer:
    """Return the scorer of item-based nearest neighbours (Sarwar et al. 2001).

    score(u, i) is the sum of s_ij over those train items j of u that are among the ``neighbours``
    items most similar to i; ties go to the lower id. The similarity is s_ij = Σ_v |v|^-a / √(|users
    of i| · |users of j|), summed over the users v who have both items, where |v| is the number of
    v's items and a is ``user_power``. With a = 0, s is the cosine of the item columns. With a = 1,
    s is the item-item block of the square of LightGCN's normalised adjacency. A larger a gives
    users with many items less influence (as Breese et al. 1998, inverse user frequency).
    Similarities are computed in blocks of items, and only the similarities to neighbours are
    stored.

    Args:
      train: items by user.
      n_items: I.
      neighbours: number of neighbours that are stored for each item.
      user_power: the exponent a. The defaults of ``user_power`` and ``neighbours`` were chosen on a
        tenth of Gowalla's train pairs.
    """
    from scipy.sparse import diags_array

    pair_UI = _pairs(train, n_items)
    pair_IU = pair_UI.T.tocsr()
    user_U = np.maximum(train.degree, 1).astype(np.float32) ** np.float32(-user_power)
    weighted_UI = (diags_array(user_U) @ pair_UI).tocsr()
    norm_I = np.sqrt(np.bincount(train.indices, minlength=n_items).astype(np.float32))
    kept = []
    for start in range(0, n_items, _ITEMS_AT_ONCE):
        block = (pair_IU[start : start + _ITEMS_AT_ONCE] @ weighted_UI).tocoo()
        target, source = block.row + start, block.col
        weight = block.data / (norm_I[target] * norm_I[source])
        other = target != source
        target, source, weight = target[other], source[other], weight[other]
        order = np.lexsort((source, -weight, target))
        target = target[order]
        place = np.arange(len(target)) - np.searchsorted(target, target)
        near = place < neighbours
        kept.append((target[near], source[order][near], weight[order][near]))
    target, source, weight = (np.concatenate(part) for part in zip(*kept, strict=True))
    order = np.argsort(source, kind="stable")
    target, source, weight = target[order], source[order], weight[order]
    degree_I = np.bincount(source, minlength=n_items)
    segment_ = np.append(0, np.cumsum(-(-degree_I // _SEGMENT)))
    slot = segment_[source] * _SEGMENT + np.arange(len(source)) - np.searchsorted(source, source)
    target_SC = np.zeros((max(segment_[-1], 1), _SEGMENT), np.int32)
    weight_SC = np.zeros(target_SC.shape, np.float32)
    target_SC.ravel()[slot], weight_SC.ravel()[slot] = target, weight
    params = _Sparse(
        jnp.asarray(train.indptr),
        jnp.asarray(train.indices),
        jnp.asarray(segment_.astype(np.int32)),
        jnp.asarray(target_SC),
        jnp.asarray(weight_SC),
    )
    return Scorer(_sparse, params, n_items)


def ease(
    train: Csr, n_items: int, l2: float = 80.0, *, dropout: float = 0.0, user_power: float = 0.0
) -> Scorer:
    """Return the scorer of EASE^R, a linear autoencoder in closed form (Steck 2019, eq. 8).

    X [U, I] is the binary matrix of train pairs, x_u is its row of user u, and 1 is the identity.
    Then score(u, ·) = x_u B with B = 1 - P diag(1 / diag P) and P = (XᵀX + l2 · 1)⁻¹. B is the
    item-to-item matrix with a diagonal of 0 that reconstructs X best under the penalty. The inverse
    is computed in float32, in 4 I² bytes and with I³ multiply-adds. If there are less than half as
    many users as items, it is computed from the inverse of a [U, U] matrix instead, with
    U² I + U I² multiply-adds.

    Args:
      train: items by user.
      n_items: I.
      l2: weight of the penalty on B, positive; 80 is the published value for Gowalla.
      dropout: dropout rate p of the input, in [0, 1) (EDLAE, Steck 2020). It adds
        p / (1 - p) · diag(XᵀX) to the penalty.
      user_power: a user u with |u| items has the weight |u|^-user_power in the reconstruction
        error.

    Raises:
      InputError: the matrix does not fit the free memory.
    """
    if l2 <= 0:
        raise ValueError(f"l2 must be positive, not {l2}")
    refuse_dense(n_items)
    pair_UI = _pairs(train, n_items)
    if user_power:
        root_E = np.repeat(np.maximum(train.degree, 1), train.degree) ** (-user_power / 2)
        pair_UI.data *= root_E.astype(np.float32)
    square_I = np.bincount(train.indices, pair_UI.data.astype(np.float64) ** 2, n_items)
    penalty_I = (l2 + dropout / (1 - dropout) * square_I).astype(np.float32)
    matrix_II = _aligned(n_items)
    if 2 * pair_UI.shape[0] < n_items:
        _inverse_by_users(pair_UI, penalty_I, matrix_II)
    else:
        _inverse_by_items(pair_UI, penalty_I, matrix_II)
    # _inverse_by_items writes the negated inverse, but the sign cancels in this ratio.
    matrix_II *= -1 / np.diagonal(matrix_II)
    matrix_II.flat[:: n_items + 1] = 0
    indptr_, item_E = jnp.asarray(train.indptr), jnp.asarray(train.indices)
    return Scorer(_dense, _Dense(indptr_, item_E, jax.device_put(matrix_II)), n_items)


def _blocks(n_items: int) -> list[slice]:
    starts = range(0, n_items, _ITEMS_AT_ONCE)
    return [slice(start, min(start + _ITEMS_AT_ONCE, n_items)) for start in starts]


def _inverse_by_items(pair_UI: Any, penalty_I: np.ndarray, out_II: np.ndarray) -> None:
    """Write -(XᵀX + diag(penalty))⁻¹ into ``out_II``, inverting an [I, I] matrix in place."""
    pair_IU, blocks = pair_UI.T.tocsr(), _blocks(len(penalty_I))
    for rows in blocks:
        out_II[rows] = (pair_IU[rows] @ pair_UI).toarray()
    out_II.flat[:: len(penalty_I) + 1] += penalty_I
    _sweep(out_II, blocks)


def _inverse_by_users(pair_UI: Any, penalty_I: np.ndarray, out_II: np.ndarray) -> None:
    """Write (XᵀX + diag(penalty))⁻¹ into ``out_II`` by inverting a [U, U] matrix.

    With Z = X diag(penalty)⁻¹, the inverse is diag(penalty)⁻¹ - Zᵀ (1 + Z Xᵀ)⁻¹ Z (Woodbury).
    """
    row_UI = pair_UI.toarray()
    scaled_UI = row_UI / penalty_I
    kernel_UU = (scaled_UI @ row_UI.T).astype(np.float64)
    kernel_UU.flat[:: len(kernel_UU) + 1] += 1
    solved_UI = np.linalg.inv(kernel_UU).astype(np.float32) @ scaled_UI
    for rows in _blocks(len(penalty_I)):
        np.matmul(scaled_UI[:, rows].T, -solved_UI, out=out_II[rows])
    out_II.flat[:: len(penalty_I) + 1] += 1 / penalty_I


def refuse_dense(n_items: int) -> None:
    """Raise InputError if EASE's item-item matrix does not fit the free memory."""
    needed, free = 4 * n_items**2, free_memory()
    if needed > free:
        raise InputError(
            f"EASE on {n_items:,} items needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
            "free; leave it out, or filter rare items (filter.min_item_count)"
        )


def _sweep(matrix_II: np.ndarray, blocks: list[slice]) -> None:
    """Replace a symmetric positive definite matrix by its negated inverse, block by block.

    Applies the sweep operator (Goodnight 1979) to the blocks of the lower triangle, mostly by
    matrix products. LAPACK's spotrf and spotri are not used, because OpenBLAS 0.3.30
    crashes in spotrf at Gowalla's 40,981 rows.
    """
    for k in blocks:
        column = np.concatenate([matrix_II[k, : k.start].T, matrix_II[k.start :, k]])
        pivot = np.linalg.inv(column[k].astype(np.float64)).astype(np.float32)
        scaled = column @ pivot
        for rows in blocks:
            matrix_II[rows, : rows.stop] -= scaled[rows] @ column[: rows.stop].T
        matrix_II[k, : k.start] = scaled[: k.start].T
        matrix_II[k.stop :, k] = scaled[k.stop :]
        matrix_II[k, k] = -pivot
    for rows in blocks:
        matrix_II[: rows.start, rows] = matrix_II[rows, : rows.start].T


def _aligned(n_items: int) -> np.ndarray:
    """Allocate a float32 matrix [I, I] on a 64-byte boundary, so that JAX on CPU does not copy
    it."""
    raw = np.empty(n_items**2 + 16, np.float32)
    start = (-raw.ctypes.data % 64) // 4
    return raw[start : start + n_items**2].reshape(n_items, n_items)


ON_REQUEST: dict[str, Callable[[Csr, int], Scorer]] = {"item-knn": item_knn, "ease": ease}
