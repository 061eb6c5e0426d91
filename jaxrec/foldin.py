"""Vectors for users that a run has not met, from their items alone, whatever the model.

A linear map from histories to user vectors, learnt from the run's own users and items.
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

# Chosen on users kept out of training. The error on the run's own users asks for far less: the
# items have learnt from these users, and give them away.
_RIDGE = 0.3
_USERS_AT_ONCE = 8192


def histories(
    history: pl.DataFrame,
    known: tuple[pl.Series, np.ndarray],
    run: Path,
    source: str,
    refuse: dict[str, bool],
) -> tuple[np.ndarray, Csr, list[str]]:
    """Users of histories, by their first row, and their items that the run knows, each once.

    Args:
      history: column item, and user where there are several; one user is called "history".
      known: the run's items, in the order of its rows, and [I] bool, those that it has learnt.
      run, source: what messages call the run and the history.
      refuse: whether "items" that the run has not learnt are refused, and "users" without others;
        else they are skipped.

    Returns:
      Names [n], items by user, and lines that say what was skipped.

    Raises:
      InputError: no column item, not one learnt item, or something that is refused.
    """
    if "item" not in history.columns:
        raise InputError(f"{source}: has no column 'item'; name it so")
    item_ids, learnt_I = known
    single = "user" not in history.columns
    if single:
        history = history.with_columns(user=pl.lit("history"))
    pairs = history.select(pl.col("user", "item").cast(pl.String)).drop_nulls()
    names = pairs["user"].unique(maintain_order=True)
    user_E, item_E = rows_of(pairs["user"], names), rows_of(pairs["item"], item_ids)
    learnt_E = (item_E >= 0) & np.append(learnt_I, False)[item_E]
    among = f"among the {int(learnt_I.sum()):,} items of {run}"
    among += "" if learnt_I.all() else " that it has learnt"
    if not learnt_E.any() and (single or len(pairs)):
        raise InputError(f"{source}: not one of its items is {among}; give one at least")
    said = []
    unknown = pairs["item"].filter(~learnt_E).unique(maintain_order=True)
    if len(unknown):
        if refuse["items"]:
            raise InputError(f"{source}: item {unknown[0]!r} is not {among}")
        said.append(
            f"skipped items that are not {among}: {len(unknown):,}, the first {unknown[0]!r}"
        )
    # What the run knows but has not learnt has no vector, and is no news to the user either.
    there = item_E >= 0
    name_n = names.to_numpy()
    items = items_by_user(user_E[there], item_E[there], len(names), len(item_ids))
    has_n = np.bincount(user_E[learnt_E], minlength=len(names)) > 0
    lost = names.filter(~has_n)
    if len(lost):
        if refuse["users"]:
            have = f"and {len(lost) - 1:,} more have" if len(lost) > 1 else "has"
            raise InputError(f"{source}: user {lost[0]!r} {have} no item {among}; leave them out")
        said.append(f"skipped users without an item {among}: {len(lost):,}, the first {lost[0]!r}")
    kept = np.flatnonzero(has_n)
    return name_n[kept], items.take(kept), said


def features(history: Csr, item_ID: Float[np.ndarray, "I D"]) -> Float64[np.ndarray, "n F"]:
    """φ = [Σ v_i / √m, Σ v_i / m] over the m items of each history; F = 2D, zeros where m = 0."""
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
    """Ridge regression (Hoerl & Kennard 1970) of user vectors on the features of their items.

    W = argmin Σ_u |u - φ_u W|² + λ|W|² = (ΦᵀΦ + λ1)⁻¹ ΦᵀU with λ = ``ridge`` · tr(ΦᵀΦ) / F, then
    times the number that fits best: the penalty shortens every vector, and beside the items'
    biases length counts. Users without items have φ = 0 and take no part.

    Args:
      user_UD, item_ID: what the run has learnt.
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
    # The tiny number keeps a run solvable whose items are all zeros.
    penalty = ridge * np.trace(gram_FF) / n_features + np.finfo(np.float64).tiny
    weight_FD = np.linalg.solve(gram_FF + penalty * np.eye(n_features), cross_FD)
    square = np.vdot(weight_FD, gram_FF @ weight_FD)
    return weight_FD * (np.vdot(weight_FD, cross_FD) / square if square > 0 else 1.0)


def vectors(
    history: Csr, item_ID: Float[np.ndarray, "I D"], weight_FD: Float64[np.ndarray, "F D"]
) -> Float32[np.ndarray, "n D"]:
    """φ W: a vector for each history, in the space of the run's users."""
    user_nD = np.zeros((len(history.degree), weight_FD.shape[1]), np.float32)
    for rows, block in _blocks(history):
        user_nD[rows] = features(block, item_ID) @ weight_FD
    return user_nD


def _blocks(history: Csr) -> Iterator[tuple[slice, Csr]]:
    """Stretches of users, so that memory holds the features of one at a time."""
    for start in range(0, len(history.degree), _USERS_AT_ONCE):
        end = min(start + _USERS_AT_ONCE, len(history.degree))
        first, last = history.indptr[start], history.indptr[end]
        indptr = history.indptr[start : end + 1] - first
        yield slice(start, end), Csr(indptr, history.indices[first:last])
