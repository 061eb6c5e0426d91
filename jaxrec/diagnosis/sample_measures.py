"""Measures the sample of a run: rows, scores of pairs, and lists of users.

The device scores, ranks and gathers in one program, so a run waits for it only once. NumPy computes
the figures (``measures``), because an XLA program for them would take longer to compile than many
runs take to train, and the threads of XLA and LAPACK would spin while waiting for each other.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.diagnosis import measures
from jaxrec.evaluation.scorers import BY_ITEM, BY_USER, PAIRS, Scorer, fn_of, from_host
from jaxrec.evaluation.topk import Rows, rank, rank_from_host

TOP = 20
_EACH = 4
"""The score grid uses only every fourth listed user and every fourth item, and the alignment only
every fourth pair. More rows would not make these figures more useful."""


class Pairs(NamedTuple):
    """Pairs of one split; ``other_P`` has an item unknown to the user of each pair.

    ``rating_P`` is None unless ratings are predicted.
    """

    user_P: Int[np.ndarray, "P"]
    item_P: Int[np.ndarray, "P"]
    other_P: Int[np.ndarray, "P"]
    rating_P: Float[np.ndarray, "P"] | None = None


class Sample(NamedTuple):
    """The rows and pairs on which a run is measured; splits without pairs are None.

    Attributes:
      user_n, item_m: users and items whose vectors are measured.
      listed_l: users whose lists are measured.
      popular_K: the most popular items; None without data.
      train, validation: pairs of the splits.
    """

    user_n: Int[np.ndarray, "n"]
    item_m: Int[np.ndarray, "m"]
    listed_l: Int[np.ndarray, "l"]
    popular_K: Int[np.ndarray, "K"] | None
    train: Pairs | None
    validation: Pairs | None

    def parts(self) -> dict[str, Pairs]:
        """Return the pairs by the name of their split, without empty splits."""
        there = {"train": self.train, "validation": self.validation}
        return {name: pairs for name, pairs in there.items() if pairs is not None}


Within = Callable[..., dict[str, Array]]
"""Computes further arrays by name, in the same program as the scores."""


class Seen(NamedTuple):
    """The device's results for a sample: R rows, scores of Q pairs, lists and extra arrays."""

    user_RD: Array | np.ndarray
    item_RD: Array | np.ndarray
    score_Q: Array
    item_lK: Array
    within: dict[str, Array]


def program(function: Callable[..., Any], static: tuple[int, ...] = ()) -> Callable[..., Any]:
    """Jit a function with fast compilation, since it runs only for about 2 ms per evaluation."""
    # On CPU, LLVM's passes take half of the compile time, and save less than 1 ms per call.
    cheap = takes("xla_backend_optimization_level", 0) if jax.default_backend() == "cpu" else {}
    return jax.jit(function, static_argnums=static, compiler_options=cheap or None)


@cache
def takes(option: str, value: int) -> dict[str, int]:
    """Return an option for the XLA compiler, or no option if this XLA does not know it."""
    try:
        jax.jit(lambda: 0, compiler_options={option: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return {option: value}


@cache
def _program() -> Callable[..., Seen]:
    return program(_seen, (0, 1, 2))


@cache
def _pair_program() -> Callable[..., Array]:
    return program(lambda fn, params, user_Q, item_Q: PAIRS[fn](params, user_Q, item_Q), (0,))


def _seen(
    fn: Any,
    n_items: int,
    within: Within | None,
    params: dict[str, Array],
    row: tuple[Array, Array],
    pair: tuple[Array, Array],
    listed_l: Array,
    inputs: tuple[Any, ...],
) -> Seen:
    return Seen(
        params["user"][row[0]],
        params["item"][row[1]],
        PAIRS[fn](params, *pair),
        rank(fn, min(TOP, n_items), params, listed_l, None).item_BK,
        {} if within is None else within(*inputs),
    )


def _seen_from_host(
    params: dict[str, np.ndarray],
    row: tuple[np.ndarray, ...],
    pair: tuple[np.ndarray, ...],
    users: np.ndarray,
) -> Seen:
    """Compute :class:`Seen` from factors in host memory.

    The device gets the rows of the sample, and the items of one tile at a time for the lists.
    """
    of_pairs = {
        name: x[pair[0]] if name in BY_USER else x[pair[1]] if name in BY_ITEM else x
        for name, x in params.items()
    }
    place_Q = np.arange(len(pair[0]), dtype=np.int32)
    score_Q = _pair_program()(fn_of(params), of_pairs, place_Q, place_Q)
    nothing = Rows(np.zeros((1, len(users) + 1), np.int32), np.zeros((1, 0), np.int32))
    how = nothing, None, tuple(jax.local_devices()[:1])
    ranked = rank_from_host(TOP, params, users[None], *how)
    return Seen(params["user"][row[0]], params["item"][row[1]], score_Q, ranked.item_BK[0], {})


def _pieces(x: np.ndarray, like: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield consecutive pieces of x, with the lengths of ``like``."""
    at = 0
    for piece in like:
        yield x[at : at + len(piece)]
        at += len(piece)


def _queries(parts: Mapping[str, Pairs]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the users and the items to score, as two lists of arrays.

    Each split adds two arrays to each list: the users and items of its pairs, and then the same
    users with items that they do not know.
    """
    users = [x for p in parts.values() for x in (p.user_P, p.user_P)]
    return users, [x for p in parts.values() for x in (p.item_P, p.other_P)]


def _of_parts(
    parts: Mapping[str, Pairs], scores: Iterator[np.ndarray], temperature: float
) -> dict[str, float]:
    found = {}
    for name, pairs in parts.items():
        scored = measures.Scored(next(scores), next(scores), pairs.rating_P)
        found |= {f"{name}_{what}": x for what, x in measures.of_pairs(scored, temperature).items()}
    return found


def pairs_of(
    scorer: Scorer, parts: Mapping[str, Pairs], temperature: float = 1.0
) -> dict[str, float]:
    """Measure only the scores of pairs, for each split."""
    if not parts:
        return {}
    users, items = _queries(parts)
    asked = np.concatenate(users), np.concatenate(items)
    score_Q = np.asarray(_pair_program()(scorer.fn, scorer.params, *asked))
    with np.errstate(all="ignore"):
        return _of_parts(parts, _pieces(score_Q, items), temperature)


class Measured(NamedTuple):
    """The figures of a sample, its rows (users, then items), and the extra arrays."""

    figures: dict[str, float]
    row_nD: Float[np.ndarray, "n D"]
    within: dict[str, np.ndarray]


def measured(
    scorer: Scorer,
    sample: Sample,
    temperature: float = 1.0,
    within: Within | None = None,
    inputs: tuple[Any, ...] = (),
) -> Measured:
    """Compute every figure of a sample.

    Args:
      scorer: scorer of embeddings, from ``evaluation.scorers.scorer_of``.
      temperature: divisor of scores in training.
      within: computes the extra arrays from ``inputs``. Pass the same function each time, since the
        compiled program is cached by it. It is not called if the factors are in host memory.
    """
    parts, grid_l, grid_m = sample.parts(), sample.listed_l[::_EACH], sample.item_m[::_EACH]
    near = {name: (p.user_P[::_EACH], p.item_P[::_EACH]) for name, p in parts.items()}
    user_R = [sample.user_n, sample.listed_l, *(user for user, _ in near.values())]
    item_R = [sample.item_m, *(item for _, item in near.values())]
    users, items = _queries(parts)
    users = [np.repeat(grid_l, len(grid_m)), *users]
    items = [np.tile(grid_m, len(grid_l)), *items]
    row, pair = (tuple(map(np.concatenate, x)) for x in ((user_R, item_R), (users, items)))
    if scorer.fn is from_host:
        made = _seen_from_host(scorer.params, row, pair, sample.listed_l)
    else:
        made = _program()(
            *(scorer.fn, scorer.n_items, within, scorer.params, row, pair, sample.listed_l, inputs)
        )
    *arrays, more = jax.device_get(made)
    user_RD, item_RD, score_Q, item_lK = map(np.asarray, arrays)
    user_nD, listed_lD, *user_of = _pieces(user_RD, user_R)
    item_mD, *item_of = _pieces(item_RD, item_R)
    scores = _pieces(score_Q, users)
    # NumPy's warnings are off, since figures that are not finite are counted later.
    with np.errstate(all="ignore"):
        score_lm = next(scores).reshape(len(grid_l), len(grid_m)).astype(np.float64)
        cross = measures.cross_cosines(listed_lD, item_mD)
        mean_user, mean_item = (x.mean(axis=0, dtype=np.float64) for x in (user_nD, item_mD))
        found = {
            "pair_cosine": cross.mean,
            "pair_cosine_sd": cross.sd,
            "score_mean": float(score_lm.mean()),
            "dot_mean": float(mean_user @ mean_item),
            "score_spread": float(score_lm.std(axis=1).mean()),
            # Spread of the scores after subtracting each item's mean score.
            "score_personal": float((score_lm - score_lm.mean(axis=0)).std(axis=1).mean()),
        }
        how = measures.lists(item_lK, scorer.n_items, sample.popular_K)
        found |= {f"list_{name}": x for name, x in how._asdict().items()}
        found |= measures.sides({"user": user_nD, "item": item_mD})
        found |= _of_parts(parts, scores, temperature)
        for name, user_PD, item_PD in zip(near, user_of, item_of, strict=True):
            found[f"{name}_alignment"] = measures.alignment(user_PD, item_PD)
    return Measured(found, np.concatenate([user_nD, item_mD]), more)
