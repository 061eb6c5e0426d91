"""Learned changes of a graph filter: its response and its powers of the degrees, by gradient.

A part of the train pairs is hidden, and the filter is fitted to the other pairs, so that neither a
user's row nor the filter has seen the hidden pairs. The change minimises the softmax loss of the
hidden items: with the scores y of a user's other items r, see :mod:`jaxrec.graph.filters`,

    loss = - mean over hidden items h of log softmax(τ y)_h, over all items that are not in r.

The change has some twenty numbers (:class:`Change`), which do not depend on the number of users or
items. They hold for the filter that is fitted to all train pairs too.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.sparse as sp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrec.data.dataset import Dataset
from jaxrec.graph.filters import Filter, Leading, halves, linear_scores, weighted
from jaxrec.training.step import apply

HIDDEN = 0.2
"""The share of train pairs that are hidden."""
_NODES = 8  # number of singular values at which the change of the gain is given
_RATE = 0.02  # Adam's learning rate, which falls linearly to 0
_WARM = 20  # number of steps for the temperature alone, before the change is learned
_SCORES = 1 << 22  # the most scores of a batch
_CHECKED = 10  # one of so many users is left out of learning, to check its result
_MOST_CHECKED = 2000

Fit = Callable[[Dataset], tuple[Filter, Leading]]
"""Fits the unchanged filter, and returns it with the singular vectors it used."""


class Change(NamedTuple):
    """A change of a filter's response and powers. Zeros leave the filter as it is.

    Attributes:
      series_K: addition to the coefficients of the polynomial q.
      gain_N: addition to the gain of a singular vector, at the singular values 0, 1 / (N - 1), ...,
        1. It is linear in between.
      power: addition to the power of an item's degree in the factors in, out, in' and out', where
        in' and out' are those of the spectral part (ratio = in' / out'), [4].
    """

    series_K: Float[Array | np.ndarray, "K"]
    gain_N: Float[Array | np.ndarray, "N"]
    power: Float[Array | np.ndarray, "4"]

    def of(
        self, fitted: Filter, sigma_D: Array | np.ndarray, degree_I: Array | np.ndarray
    ) -> dict[str, Array]:
        """Return the arrays of a filter that change, as :func:`linear_scores` names them.

        Args:
          sigma_D: singular values of the filter's singular vectors.
          degree_I: degrees of the items in the pairs that the filter is fitted to.
        """
        log_I = jnp.log(jnp.maximum(jnp.asarray(degree_I, jnp.float32), 1))
        of_in_I, of_out_I, of_low_in_I, of_low_out_I = jnp.exp(self.power[:, None] * log_I)
        known_D = jnp.asarray(sigma_D, jnp.float32)
        node_N = jnp.linspace(0, 1, len(self.gain_N), dtype=jnp.float32)
        added_D = jnp.where(known_D > 0, jnp.interp(known_D, node_N, self.gain_N), 0)
        return {
            "coefficient_K": jnp.asarray(fitted.coefficient_K) + self.series_K,
            "gain_D": jnp.asarray(fitted.gain_D) + added_D,
            "in_I": fitted.in_I * of_in_I,
            "out_I": fitted.out_I * of_out_I,
            "item": fitted.item_ID * of_low_out_I[:, None],
            "ratio_I": fitted.ratio_I * of_low_in_I / of_low_out_I,
        }


def no_change(fitted: Filter) -> Change:
    """Return the change that leaves a filter as it is."""
    zeros = (len(fitted.coefficient_K), _NODES, 4)
    return Change(*(np.zeros(n, np.float32) for n in zeros))


def changed(fitted: Filter, sigma_D: np.ndarray, change: Change) -> Filter:
    """Return a filter after a change; see :meth:`Change.of`."""
    arrays = jax.device_get(change.of(fitted, sigma_D, fitted.degree_I))
    return fitted._replace(item_ID=arrays.pop("item"), **arrays)


def scores(arrays: dict[str, Any], row_IB: Float[Array, "I B"]) -> Float[Array, "I B"]:
    """Compute the scores of B rows by a filter's arrays and its ``matrix``, with gradients."""
    low_BI = (arrays["ratio_I"][:, None] * row_IB).T
    z_BD = jnp.matmul(low_BI, arrays["item"], precision=lax.Precision.HIGHEST)
    return linear_scores(arrays, arrays["in_I"][:, None] * row_IB, z_BD).T


def loss(
    arrays: dict[str, Any],
    log_tau: Float[Array, ""],
    row_IB: Float[Array, "I B"],
    hidden_IB: Float[Array, "I B"],
) -> Float[Array, ""]:
    """Compute the mean over users of the module's loss; users without hidden items count 0.

    Args:
      arrays: those that :func:`scores` takes.
      log_tau: logarithm of the softmax's inverse temperature τ.
      row_IB: weights of the users' other items.
      hidden_IB: 1 for a user's hidden items, else 0.
    """
    score_IB = jnp.exp(log_tau) * scores(arrays, row_IB)
    log_p_IB = jax.nn.log_softmax(jnp.where(row_IB > 0, -jnp.inf, score_IB), axis=0)
    count_B = hidden_IB.sum(axis=0)
    lost_B = -jnp.where(hidden_IB > 0, log_p_IB, 0).sum(axis=0) / jnp.maximum(count_B, 1)
    return lost_B.sum() / jnp.maximum((count_B > 0).sum(dtype=jnp.float32), 1)


class Split(NamedTuple):
    """Train pairs that are not hidden, and the rows of both kinds of pairs, [U, I] each."""

    rest: Dataset
    rest_UI: sp.csr_array
    hidden_UI: sp.csr_array


def hide(train: Dataset, rng: np.random.Generator) -> Split:
    """Hide a share of the train pairs, drawn by chance, so that each user keeps at least one."""
    draw_E = rng.random(train.n_edges)
    first_U = np.full(train.n_users, 2.0)
    np.minimum.at(first_U, train.user, draw_E)
    hidden_E = (draw_E > 1 - HIDDEN) & (draw_E > first_U[train.user])
    rest = replace(train.take(~hidden_E), split=None)
    pairs, _, _ = weighted(rest)
    shape = (train.n_users, train.n_items)
    ones_E = np.ones(len(pairs.known.indices), np.float32)
    weight_E = ones_E if pairs.weight_E is None else pairs.weight_E
    rest_UI = sp.csr_array((weight_E, pairs.known.indices, pairs.known.indptr), shape=shape)
    pair_H = train.user[hidden_E], train.item[hidden_E]
    hidden_UI = sp.csr_array((np.ones(len(pair_H[0]), np.float32), pair_H), shape=shape)
    hidden_UI.data[:] = 1  # of repeated pairs
    hidden_UI -= hidden_UI.multiply(rest_UI > 0)  # a repeated pair may be on both sides
    hidden_UI.eliminate_zeros()
    return Split(rest, rest_UI, hidden_UI)


def learn(fit: Fit, train: Dataset, key: PRNGKeyArray, steps: int) -> Change:
    """Learn the change of a filter by ``steps`` steps of Adam on hidden train pairs.

    One of ten users is left out. If the loss of these users is not lower after the change than
    before it, there is no change.

    Args:
      fit: fits the unchanged filter.
      key: random key that draws hidden pairs and users.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    split = hide(train, rng)
    fitted, spectrum = fit(split.rest)
    unchanged = no_change(fitted)
    user_N = rng.permutation(np.flatnonzero(np.diff(split.hidden_UI.indptr)))
    n_checked = min(len(user_N) // _CHECKED, _MOST_CHECKED)
    checked_N, learned_N = user_N[:n_checked], user_N[n_checked:]
    if n_checked == 0:
        return unchanged
    matrix = halves(fitted.pairs, fitted.user_U, fitted.item_I)
    unchanged_of = (fitted, spectrum.sigma_D.astype(np.float32), fitted.degree_I)
    # These are arguments of the compiled programs, since constants of their size would be slow.
    fixed = jax.tree.map(jnp.asarray, (unchanged_of, matrix))
    size = min(max(_SCORES // train.n_items, 8), 256)

    def batch(user_B: np.ndarray) -> tuple[Array, Array]:
        """Return the users' rows of both kinds, padded with empty rows."""
        padding = ((0, 0), (0, size - len(user_B)))
        rows = (split.rest_UI[user_B], split.hidden_UI[user_B])
        row_IB, hidden_IB = (np.pad(x.toarray().T, padding) for x in rows)
        return jnp.asarray(row_IB), jnp.asarray(hidden_IB)

    def of_batch(
        params: tuple[Change, Array], fixed: Any, row_IB: Array, hidden_IB: Array
    ) -> Array:
        (change, log_tau), (unchanged_of, matrix) = params, fixed
        arrays = change.of(*unchanged_of) | {"matrix": matrix}
        return loss(arrays, log_tau, row_IB, hidden_IB)

    first, _ = batch(learned_N[:size])
    first_IB = scores(unchanged.of(*unchanged_of) | {"matrix": matrix}, first)
    deviation = float(first_IB[:, : len(learned_N)].std())
    params: Any = (unchanged, np.float32(-np.log(max(deviation, 1e-12))))
    params = jax.tree.map(jnp.asarray, params)
    tx = optax.adam(optax.linear_schedule(_RATE, 0.0, steps))

    @jax.jit
    def step(params: Any, state: Any, *batch: Any) -> tuple[Any, Any]:
        return apply(tx, jax.grad(of_batch)(params, *batch), state, params)

    @jax.jit
    def warm(params: Any, state: Any, *batch: Any) -> tuple[Any, Any]:
        change, log_tau = params
        grad = jax.grad(lambda tau: of_batch((change, tau), *batch))(log_tau)
        log_tau, state = apply(warm_tx, grad, state, log_tau)
        return (change, log_tau), state

    def drawn() -> tuple[Any, Array, Array]:
        user_B = rng.choice(learned_N, min(size, len(learned_N)), replace=False)
        return fixed, *batch(user_B)

    # The unchanged filter gets a fitting temperature first, so that the check compares both fairly.
    warm_tx = optax.adam(0.2)
    state = warm_tx.init(params[1])
    for _ in range(min(steps, _WARM)):
        params, state = warm(params, state, *drawn())
    before, state = params, tx.init(params)
    for _ in range(steps):
        params, state = step(params, state, *drawn())

    of_check = jax.jit(of_batch)

    def checked(params: Any) -> float:
        parts = [checked_N[n : n + size] for n in range(0, n_checked, size)]
        lost = [len(part) * float(of_check(params, fixed, *batch(part))) for part in parts]
        return sum(lost) / n_checked

    better = checked(params) < checked(before)  # False for NaN
    return jax.device_get(params[0]) if better else unchanged
