"""Fold-in: compute vectors for new users from their items, for any model.

A linear map from histories to user vectors is fitted on the run's users and items.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float, Float32, Float64
from scipy.sparse import csr_array

from jaxrec.data.dataset import Csr, items_by_user
from jaxrec.data.formats.assemble import rows_of
from jaxrec.errors import InputError

# The weight was chosen on users held out of training. With the run's own users, a much smaller
# weight would seem best, because the item vectors were trained on these users.
_RIDGE = 0.3
_USERS_AT_ONCE = 8192


def histories(
    history: pl.DataFrame,
    trained_items: tuple[pl.Series, np.ndarray],
    run: Path,
    source: str,
    refuse: dict[str, bool],
) -> tuple[np.ndarray, Csr, list[str]]:
    """Look up the items of histories among the run's items, dropping repeats and unknown items.

    Args:
      history: a column item, and optionally a column user. Without the column user, all items are
        those of one user, named "history".
      trained_items: the ids of the run's items in row order, and which of them have a trained
        vector, [I] bool.
      run, source: names of the run and the history in messages.
      refuse: whether to refuse two cases, which are otherwise skipped: "items" without a trained
        vector, and "users" without an item that has a trained vector.

    Returns:
      User names [n] in the order of first appearance, items by user, and messages about skipped
      rows.

    Raises:
      InputError: the column item is missing, no item has a trained vector, or an item or user is
        refused.
    """
    if "item" not in history.columns:
        raise InputError(f"{source}: has no column 'item'; rename its item column")
    item_ids, learnt_I = trained_items
    single = "user" not in history.columns
    if single:
        history = history.with_columns(user=pl.lit("history"))
    pairs = history.select(pl.col("user", "item").cast(pl.String)).drop_nulls()
    names = pairs["user"].unique(maintain_order=True)
    user_E, item_E = rows_of(pairs["user"], names), rows_of(pairs["item"], item_ids)
    learnt_E = (item_E >= 0) & np.append(learnt_I, False)[item_E]
    among = f"among the {int(learnt_I.sum()):,} items of {run}"
    among += "" if learnt_I.all() else " with a trained vector"
    if not learnt_E.any() and (single or len(pairs)):
        raise InputError(f"{source}: none of its items is {among}; give at least one")
    notes = []
    unknown = pairs["item"].filter(~learnt_E).unique(maintain_order=True)
    if len(unknown):
        if refuse["items"]:
            raise InputError(f"{source}: item {unknown[0]!r} is not {among}")
        notes.append(
            f"skipped items that are not {among}: {len(unknown):,}, the first {unknown[0]!r}"
        )
    # Keep items without a trained vector: they do not affect the user's vector, but as items that
    # the user has, they must not be recommended.
    known_E = item_E >= 0
    name_n = names.to_numpy()
    items = items_by_user(user_E[known_E], item_E[known_E], len(names), len(item_ids))
    has_n = np.bincount(user_E[learnt_E], minlength=len(names)) > 0
    without = names.filter(~has_n)
    if len(without):
        if refuse["users"]:
            have = f"and {len(without) - 1:,} more have" if len(without) > 1 else "has"
            raise InputError(
                f"{source}: user {without[0]!r} {have} no item {among}; leave them out"
            )
        notes.append(
            f"skipped users without an item {among}: {len(without):,}, the first {without[0]!r}"
        )
    kept = np.flatnonzero(has_n)
    return name_n[kept], items.take(kept), notes


def features(history: Csr, item_ID: Float[np.ndarray, "I D"]) -> Float64[np.ndarray, "n F"]:
    """Compute the features φ = [Σ v_i / √m, Σ v_i / m] of each history of m items; F = 2D.

    v_i is the vector of item i of the history. The features are zeros if m = 0.
    """
    ones = np.ones(len(history.indices), item_ID.dtype)
    shape = (len(history.degree), len(item_ID))
    pair_nI = csr_array((ones, history.indices, history.indptr), shape=shape)
    sum_nD = (pair_nI @ item_ID).astype(np.float64)
    m_n1 = np.maximum(history.degree, 1)[:, None]
    return np.hstack([sum_nD / np.sqrt(m_n1), sum_nD / m_n1])


def fit(
    user_UD: Float[np.ndarray, "U D"],
    item_ID: Float[np.ndarray, "I D"],
    seen: Csr,
    ridge: float = _RIDGE,
) -> Float64[np.ndarray, "F D"]:
    """Fit a ridge regression (Hoerl & Kennard 1970) of user vectors on their items' features.

    W = argmin Σ_u |u - φ_u W|² + λ|W|² = (ΦᵀΦ + λ1)⁻¹ ΦᵀU with λ = ``ridge`` · tr(ΦᵀΦ) / F, where u
    is the vector of a user and φ_u are the features of the user's items. The rows of U are the u,
    and those of Φ the φ_u. W is then multiplied by the number that fits best. Without this, the
    penalty would make all vectors too short compared with the item biases in the scores. Users
    without items have φ = 0 and no influence.

    Args:
      user_UD, item_ID: the run's vectors.
      seen: items by user.
      ridge: weight of the penalty.
    """
    n_features = 2 * item_ID.shape[1]
    gram_FF = np.zeros((n_features, n_features))
    cross_FD = np.zeros((n_features, user_UD.shape[1]))
    for rows, block in _blocks(seen):
        phi_BF = features(block, item_ID)
        gram_FF += phi_BF.T @ phi_BF
        cross_FD += phi_BF.T @ user_UD[rows].astype(np.float64)
    # The tiny term keeps the system solvable if all item vectors are zero.
    penalty = ridge * np.trace(gram_FF) / n_features + np.finfo(np.float64).tiny
    weight_FD = np.linalg.solve(gram_FF + penalty * np.eye(n_features), cross_FD)
    square = np.vdot(weight_FD, gram_FF @ weight_FD)
    return weight_FD * (np.vdot(weight_FD, cross_FD) / square if square > 0 else 1.0)


def vectors(
    history: Csr, item_ID: Float[np.ndarray, "I D"], weight_FD: Float64[np.ndarray, "F D"]
) -> Float32[np.ndarray, "n D"]:
    """Compute φ W: a vector for each history, in the space of the run's users."""
    user_nD = np.zeros((len(history.degree), weight_FD.shape[1]), np.float32)
    for rows, block in _blocks(history):
        user_nD[rows] = features(block, item_ID) @ weight_FD
    return user_nD


def _blocks(history: Csr) -> Iterator[tuple[slice, Csr]]:
    """Yield the histories in blocks of users, which bounds the memory of the features."""
    for start in range(0, len(history.degree), _USERS_AT_ONCE):
        end = min(start + _USERS_AT_ONCE, len(history.degree))
        first, last = history.indptr[start], history.indptr[end]
        indptr = history.indptr[start : end + 1] - first
        yield slice(start, end), Csr(indptr, history.indices[first:last])
