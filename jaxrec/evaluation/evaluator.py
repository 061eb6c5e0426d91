"""Evaluates embeddings of any training loop by full ranking; the data are arrays of pairs."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from jaxrec.data.dataset import items_by_user
from jaxrec.data.pair_keys import pair_keys, rows_of_keys
from jaxrec.errors import InputError
from jaxrec.evaluation.ranking import Evaluator as Ranking
from jaxrec.evaluation.scorers import dot_scorer
from jaxrec.models.encoder import unit_rows


class Evaluator:
    """Ranks all items for users with test pairs, and computes the ranking metrics of jaxrec runs.

    The pairs stay on the devices between calls, and later calls do not recompile.

    >>> import numpy as np
    >>> train, test = [[0, 0], [1, 1]], [[0, 1], [1, 0]]
    >>> judge = Evaluator(train, test, k=[1])
    >>> judge(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))["recall@1"]
    1.0

    Args:
      train: known pairs, which are masked: [E, 2] rows (user, item), a tuple of two columns [E], or
        a scipy sparse matrix [U, I].
      test: relevant pairs, in one of the same forms; test pairs that are in train too are dropped.
      k: cut-offs.
      n_users, n_items: U and I; by default one more than the largest row number, or the shape of
        the matrices.
      score: "dot", or "cosine".

    Raises:
      ValueError: pairs have a wrong shape, or row numbers are out of range.
      InputError: every test pair is in train too.
    """

    def __init__(
        self,
        train: Any,
        test: Any,
        k: Sequence[int] = (10, 20, 50),
        *,
        n_users: int | None = None,
        n_items: int | None = None,
        score: str = "dot",
    ) -> None:
        if score not in ("dot", "cosine"):
            raise ValueError(f"score must be dot or cosine, not {score!r}")
        if not len(k) or min(k) < 1:
            raise ValueError(f"k must be one or more cut-offs of at least 1, not {tuple(k)}")
        pairs = [_pairs(name, part) for name, part in (("train", train), ("test", test))]
        sizes = [(n_users, 0), (n_items, 1)]
        users, items = (
            max(shape[axis] for _, shape in pairs) if size is None else size for size, axis in sizes
        )
        known, wanted = (_keys(part, users, items) for part, _ in pairs)
        new = wanted[~np.isin(wanted, known)]
        if not len(new):
            raise InputError(
                "nothing to evaluate: every test pair is in train too; give test pairs that are "
                "not in train"
            )
        seen, relevant = (
            items_by_user(*rows_of_keys(key, items), users, items) for key in (known, new)
        )
        self.n_users, self.n_items, self.score = users, items, score
        self._ranking = Ranking(relevant, seen, tuple(k), items)

    def __call__(
        self,
        user_emb: Any,
        item_emb: Any,
        *,
        user_bias: Any = None,
        item_bias: Any = None,
    ) -> dict[str, float]:
        """Compute the mean of every metric over users, by name and cut-off ("recall@20").

        Args:
          user_emb, item_emb: embeddings, [U, D] and [I, D].
          user_bias, item_bias: optional biases [U] and [I], which are added to the scores.

        Raises:
          ValueError: array sizes do not match.
          RunError: a score is NaN.
        """
        for name, array, size in (
            ("user_emb", user_emb, self.n_users),
            ("item_emb", item_emb, self.n_items),
        ):
            if np.ndim(array) != 2 or np.shape(array)[0] != size:
                raise ValueError(f"{name} has shape {np.shape(array)}, not ({size}, D)")
        if np.shape(user_emb)[1] != np.shape(item_emb)[1]:
            raise ValueError(f"widths differ: {np.shape(user_emb)[1]} and {np.shape(item_emb)[1]}")
        user, item = (jnp.asarray(x, jnp.float32) for x in (user_emb, item_emb))
        if self.score == "cosine":
            user, item = unit_rows(user), unit_rows(item)
        biases: dict[str, Any] = {"user_bias_U": user_bias, "item_bias_I": item_bias}
        metrics = self._ranking(dot_scorer(user, item, **biases))
        assert metrics is not None, "there is no should_stop"
        return metrics


def _pairs(name: str, part: Any) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the pairs, [E, 2] int64, and the numbers of users and items that they imply."""
    if sp.issparse(part):
        matrix = part.tocoo()
        kept = matrix.data != 0
        return np.stack([matrix.row[kept], matrix.col[kept]], axis=1).astype(np.int64), part.shape
    if isinstance(part, tuple) and len(part) == 2:
        if np.shape(part[0]) != np.shape(part[1]):
            raise ValueError(
                f"{name}: the shapes of the columns differ: {np.shape(part[0])} and "
                f"{np.shape(part[1])}"
            )
        part = np.stack([np.asarray(column) for column in part], axis=-1)
    array = np.asarray(part)
    if array.size == 0:
        return np.zeros((0, 2), np.int64), (0, 0)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise ValueError(f"{name}: must be [E, 2] whole numbers, not {array.dtype} {array.shape}")
    if array.min() < 0:
        raise ValueError(f"{name}: a row number is negative")
    return array.astype(np.int64), tuple((array.max(axis=0) + 1).tolist())


def _keys(pairs: np.ndarray, n_users: int, n_items: int) -> np.ndarray:
    """Encode pairs as user · I + item. Raises ValueError for a pair out of range."""
    if len(pairs) and (pairs[:, 0].max() >= n_users or pairs[:, 1].max() >= n_items):
        raise ValueError(f"a pair has a row number outside of {n_users} users or {n_items} items")
    return pair_keys(pairs[:, 0], pairs[:, 1], n_items)
