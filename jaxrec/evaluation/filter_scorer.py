"""Scorers of graph filters, which score items for users, or for given histories of items."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxrec.data.dataset import Csr
from jaxrec.evaluation.scorers import PAIRS, Scorer, table_scorer
from jaxrec.evaluation.topk import power_of_two
from jaxrec.graph.filters import (
    Filter,
    Neighbours,
    Weighted,
    halves,
    linear_scores,
    neighbour_scores,
)
from jaxrec.runfolder import Embeddings, read_filter

_PAIRS_AT_ONCE = 64
_FULL = 64  # histories are multiplied as dense rows if their density is at least 1 / _FULL


def _sums(params: dict[str, Any], user_B: Array, start: Any, add: Any) -> Any:
    """Fold ``add(carry, item_B, value_B)`` over B histories of items, starting with ``start``.

    Step e passes item e of each history, and its value. Past the end of a history, the value is 0.
    """
    first_B = params["indptr"][user_B]
    degree_B = params["indptr"][user_B + 1] - first_B

    def body(e: Array, carry: Any) -> Any:
        exists_B = e < degree_B
        at_B = jnp.where(exists_B, first_B + e, 0)
        item_B = params["indices"][at_B]
        value_B = params["weight"][at_B] if "weight" in params else jnp.float32(1)
        return add(carry, item_B, jnp.where(exists_B, value_B, 0))

    return lax.fori_loop(0, degree_B.max(), body, start)


def _filtered(params: dict[str, Any], user_B: Array) -> Array:
    n_items, rows_B = len(params["item"]), jnp.arange(len(user_B))

    def add(carry: tuple[Array, Array], item_B: Array, value_B: Array) -> tuple[Array, Array]:
        x_IB, z_BD = carry
        x_IB = x_IB.at[item_B, rows_B].add(value_B * params["in_I"][item_B])
        z_BD = z_BD + (value_B * params["ratio_I"][item_B])[:, None] * params["item"][item_B]
        return x_IB, z_BD

    dim = params["item"].shape[1]
    start = jnp.zeros((n_items, len(user_B))), jnp.zeros((len(user_B), dim))
    x_IB, z_BD = _sums(params, user_B, start, add)
    score_BI = linear_scores(params, x_IB, z_BD)
    in_I1 = params["in_I"][:, None]
    row_IB = jnp.where(in_I1 > 0, x_IB / jnp.where(in_I1 > 0, in_I1, 1), 0)
    new_BI, blended = (row_IB == 0).T, []
    if "neighbours" in params:
        near_BI = neighbour_scores(params["matrix"], params["neighbours"], row_IB).T
        blended.append((params["neighbours"].blend[0], near_BI))
    if "weight_II" in params:
        blended.append((params["ease_weight"][0], _ease_scores(params, user_B)))
    if blended:
        score_BI = _scaled(score_BI, new_BI)
    for weight, other_BI in blended:
        score_BI += weight * _scaled(other_BI, new_BI)
    return _or_popular(params, user_B, score_BI)


def _or_popular(params: dict[str, Any], user_B: Array, score_BI: Array) -> Array:
    """Replace the scores of users without items by the items' popularity."""
    empty_B = params["indptr"][user_B + 1] == params["indptr"][user_B]
    return jnp.where(empty_B[:, None], params["degree"], score_BI)


def _scaled(score_BI: Array, new_BI: Array) -> Array:
    """Divide each row by its standard deviation over new items; a row without deviation gets 0."""
    deviation_B1 = jnp.std(score_BI, axis=1, keepdims=True, where=new_BI)
    there_B1 = deviation_B1 > 0  # also False for NaN, the deviation if there are no new items
    return jnp.where(there_B1, score_BI / jnp.where(there_B1, deviation_B1, 1), 0)


def _ease_scores(params: dict[str, Any], user_B: Array) -> Array:
    """Compute EASE's scores; every interaction counts 1, whatever its weight."""
    weight_II, rows_B = params["weight_II"], jnp.arange(len(user_B))
    n_items, n_rows = len(weight_II), len(params["indptr"]) - 1

    def put(row_BI: Array, item_B: Array, there_B: Array) -> Array:
        return row_BI.at[rows_B, item_B].add(there_B)

    def of_user(user: Array) -> Array:
        ends = params["indptr"][user], params["indptr"][user + 1]

        def add(e: Array, score_I: Array) -> Array:
            return score_I + weight_II[params["indices"][e]]

        return lax.fori_loop(*ends, add, jnp.zeros(n_items))

    if n_items * n_rows > _FULL * len(params["indices"]):
        return lax.map(of_user, user_B)
    plain = {name: x for name, x in params.items() if name != "weight"}
    row_BI = _sums(plain, user_B, jnp.zeros((len(user_B), n_items)), put)
    return jnp.matmul(row_BI, weight_II, precision=lax.Precision.HIGHEST)


def _weighed(params: dict[str, Any], user_B: Array) -> Array:
    return _or_popular(params, user_B, _ease_scores(params, user_B))


def _pairs(fn: Any) -> Any:
    """Return a function that scores pairs by computing whole rows and taking one entry of each."""

    def scores(params: dict[str, Any], user_Q: Array, item_Q: Array) -> Array:
        n, size = len(user_Q), min(_PAIRS_AT_ONCE, len(user_Q))
        padding = (0, -n % max(size, 1))
        blocks = [jnp.pad(x, padding).reshape(-1, size) for x in (user_Q, item_Q)]

        def block(pairs: tuple[Array, Array]) -> Array:
            return fn(params, pairs[0])[jnp.arange(size), pairs[1]]

        return lax.map(block, tuple(blocks)).reshape(-1)[:n]

    return scores


PAIRS |= {_filtered: _pairs(_filtered), _weighed: _pairs(_weighed)}


def filter_scorer(fitted: Filter, history: Csr | None = None) -> Scorer:
    """Make the scorer of a filter, for its users or for given histories.

    Args:
      history: histories to score, as items by row; default: the train items of all users.
    """
    pairs = fitted.pairs if history is None else Weighted(history, None)
    params: dict[str, Any] = {"user": fitted.vectors(*pairs), "item": fitted.item_ID}
    params |= pairs.known._asdict()
    if history is not None:  # pad the history, since each new length would be compiled
        params |= _padded_history(history, params["user"])
    if pairs.weight_E is not None:
        params["weight"] = pairs.weight_E
    n_items = len(fitted.in_I)
    params["degree"] = fitted.degree_I
    if fitted.weight_II is not None:
        params["weight_II"] = fitted.weight_II
    if fitted.weight_II is not None and fitted.ease_weight is None:
        return Scorer(_weighed, jax.tree.map(jnp.asarray, params), n_items)
    names = ("coefficient_K", "gain_D", "in_I", "out_I", "ratio_I")
    params |= {name: getattr(fitted, name) for name in names}
    if fitted.neighbours is not None:
        params["neighbours"] = fitted.neighbours
    if fitted.ease_weight is not None:
        params["ease_weight"] = fitted.ease_weight
    params |= {"matrix": halves(fitted.pairs, fitted.user_U, fitted.item_I)}
    return Scorer(_filtered, jax.tree.map(jnp.asarray, params), n_items)


def _padded(x: np.ndarray, rows: int | None = None, mode: Any = "constant") -> np.ndarray:
    size = power_of_two(len(x)) if rows is None else rows
    return np.pad(x, [(0, size - len(x)), *[(0, 0)] * (x.ndim - 1)], mode=mode)


def _padded_history(history: Csr, user_nD: np.ndarray) -> dict[str, np.ndarray]:
    """Pad the numbers of rows and of pairs in a history to powers of two."""
    rows = power_of_two(len(user_nD))
    indptr = _padded(history.indptr, rows + 1, "edge")
    return {"user": _padded(user_nD, rows), "indptr": indptr, "indices": _padded(history.indices)}


def stored_filter(run: Path, table: Embeddings) -> Filter | None:
    """Read the filter of a finished run; return None if the run's model is not a filter.

    Raises:
      InputError: the filter's file is damaged.
    """
    arrays = read_filter(run, len(table.user_ids), len(table.item_ids), table.item.shape[1])
    if arrays is None:
        return None
    names = [name for name in Neighbours._fields if f"neighbour_{name}" in arrays]
    found = {name: arrays.pop(f"neighbour_{name}") for name in names}
    neighbours = Neighbours(**found) if found else None
    return Filter(item_ID=table.item, neighbours=neighbours, **arrays)


def run_scorer(run: Path, table: Embeddings) -> Scorer:
    """Make the scorer of a finished run, from its embeddings or its filter."""
    fitted = stored_filter(run, table)
    return table_scorer(table) if fitted is None else filter_scorer(fitted)
