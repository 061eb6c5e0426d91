"""An estimator with scikit-learn's interface: fit it to a matrix, and recommend to its rows."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrec.errors import InputError

if TYPE_CHECKING:
    from jaxrec.recommend import Recommender
    from jaxrec.training.finished_run import Run


class GraphRecommender:
    """Train a preset on a sparse matrix, and recommend from it.

    Users and items are the rows and columns of the matrix. A share of the entries is held out as
    validation to choose the length of training. Nothing is held out as test: call :meth:`score`
    with another matrix. The class works with ``sklearn.base.clone``, ``cross_val_score`` and
    searches over parameters.

    Args:
      preset: name of a preset.
      run: run folder to write, replacing an existing run; None writes a temporary folder.
      options: any fields of the configuration, as in :func:`jaxrec.train`: ``epochs=3``.

    >>> import jaxrec
    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> clicks = sp.csr_array(np.tril(np.ones((12, 12))))
    >>> model = jaxrec.GraphRecommender("mf", dim=8, epochs=2).fit(clicks)
    >>> columns, scores = model.recommend([0, 1], k=3)
    >>> columns.shape
    (2, 3)
    """

    def __init__(
        self, preset: str = "lightgcn", *, run: str | Path | None = None, **options: Any
    ) -> None:
        self.preset, self.run = preset, run
        self.options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"preset": self.preset, "run": self.run, **self.options}

    def set_params(self, **params: Any) -> GraphRecommender:
        """Change some of the constructor's arguments."""
        for name, value in params.items():
            if name in ("preset", "run"):
                setattr(self, name, value)
            else:
                self.options[name] = value
        return self

    def fit(self, X: Any, y: Any = None) -> GraphRecommender:
        """Train on a matrix.

        Args:
          X: a scipy sparse matrix or array [users, items]; each nonzero entry is an interaction
            with the value as its weight.
          y: ignored.

        Raises:
          InputError, RunError: as :func:`jaxrec.train` raises.
        """
        from jaxrec.data.formats.in_memory import from_scipy
        from jaxrec.training.run import train

        folder = self.run
        if folder is None:
            temporary = tempfile.mkdtemp(prefix="jaxrec-")
            weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
            folder = Path(temporary) / "run"
        exists = (Path(folder) / "config.json").is_file()
        self.shape_ = X.shape
        self.run_: Run = train(
            preset=self.preset,
            data=from_scipy(X),
            run=folder,
            overwrite=exists,
            quiet=True,
            **({"split.name": "random", "split.test": 0.0} | self.options),
        )
        self.recommender_: Recommender = self.run_.recommender()
        return self

    def recommend(
        self, users: Any, k: int = 20, *, include_seen: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Recommend the k best items to each user.

        Users without an entry in the matrix get popular items.

        Args:
          users: row numbers [n].

        Returns:
          Column numbers [n, k] int64 and scores [n, k] float32. A shorter list is padded with -1
          and -inf. If the matrix has fewer than k columns, k is their number.

        Raises:
          InputError: the estimator has not been fitted.
        """
        rec = self._fitted()
        users = np.atleast_1d(np.asarray(users))
        frame = rec.recommend(users, k, include_seen=include_seen, unknown="popular")
        k = min(k, self.shape_[1])
        items = np.full((len(users), k), -1, np.int64)
        scores = np.full((len(users), k), -np.inf, np.float32)
        starts = np.flatnonzero(frame["rank"].to_numpy() == 1)
        row = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(frame))))
        names = [str(user) for user in users.tolist()]
        if len(starts) == len(names):
            place = frame["rank"].to_numpy() - 1
            items[row, place] = frame["item"].cast(int).to_numpy()
            scores[row, place] = frame["score"].to_numpy()
            return items, scores
        for n, user in enumerate(names):  # users with an empty list have no row in the frame
            best = frame.filter(frame["user"] == user)
            best = best[: best["rank"].max() or 0]
            items[n, : len(best)] = best["item"].cast(int).to_numpy()
            scores[n, : len(best)] = best["score"].to_numpy()
        return items, scores

    def similar_items(self, items: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Find the k nearest items of each item: column numbers [n, k] and scores [n, k].

        The scores are cosines, or for a graph filter the scores of the filter.

        Raises:
          InputError: the estimator has not been fitted, or an item is not in the matrix.
        """
        items = np.atleast_1d(np.asarray(items))
        frame = self._fitted().similar_items(items, k, unknown="fail")
        shape = (len(items), -1)
        near = frame["similar"].cast(int).to_numpy().reshape(shape)
        return near, frame["score"].to_numpy().reshape(shape)

    def score(self, X: Any, y: Any = None, k: int = 20) -> float:
        """Return the mean recall@k over users on held-out entries X [users, items].

        Entries of the fitted matrix are not recommended.

        Raises:
          InputError: the estimator has not been fitted, or X has no entries.
        """
        self._fitted()
        X = X.tocsr()
        users = np.flatnonzero(np.diff(X.indptr))
        if not len(users):
            raise InputError("score needs a matrix with at least one nonzero entry")
        lists, _ = self.recommend(users, k)
        shares = []
        for user, items in zip(users, lists, strict=True):
            held_out = X.indices[X.indptr[user] : X.indptr[user + 1]]
            shares.append(np.isin(held_out, items).mean())
        return float(np.mean(shares))

    def _fitted(self) -> Recommender:
        if not hasattr(self, "recommender_"):
            raise InputError("the estimator has not been fitted; call fit with a matrix first")
        return self.recommender_

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"GraphRecommender({given})"
