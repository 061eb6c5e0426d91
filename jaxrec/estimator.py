"""A model as scikit-learn has them: made of parameters, fitted to a matrix, asked by rows."""

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
    """Trains a preset on a matrix of users by items.

    Users and items are the rows and columns of the matrix. A share of the entries (``validation``)
    chooses the length of training, and none is a test: that is another matrix's.
    ``sklearn.base.clone``, ``cross_val_score`` and searches over parameters take it.

    Args:
      preset: the name of a preset.
      run: the run folder to write, which is replaced; a temporary one where None.
      options: any field of the configuration, as of :func:`jaxrec.train`: ``epochs=3``.
    """

    def __init__(
        self, preset: str = "lightgcn", *, run: str | Path | None = None, **options: Any
    ) -> None:
        self.preset, self.run = preset, run
        self.options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What the constructor was given."""
        return {"preset": self.preset, "run": self.run, **self.options}

    def set_params(self, **params: Any) -> GraphRecommender:
        """Change what the constructor was given."""
        for name, value in params.items():
            if name in ("preset", "run"):
                setattr(self, name, value)
            else:
                self.options[name] = value
        return self

    def fit(self, X: Any, y: Any = None) -> GraphRecommender:
        """Train.

        Args:
          X: a scipy sparse matrix or array [users, items]; what is not zero is an interaction, and
            its value the weight.
          y: not used.

        Raises:
          InputError, RunError: as :func:`jaxrec.train`.
        """
        from jaxrec.data.formats.in_memory import from_scipy
        from jaxrec.training.run import train

        folder = self.run
        if folder is None:
            made = tempfile.mkdtemp(prefix="jaxrec-")
            weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
            folder = Path(made) / "run"
        there = (Path(folder) / "config.json").is_file()
        self.shape_ = X.shape
        self.run_: Run = train(
            preset=self.preset,
            data=from_scipy(X),
            run=folder,
            overwrite=there,
            quiet=True,
            **({"split.name": "random", "split.test": 0.0} | self.options),
        )
        self.recommender_: Recommender = self.run_.recommender()
        return self

    def recommend(
        self, users: Any, k: int = 20, *, include_seen: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of each user.

        Args:
          users: row numbers [n].

        Returns:
          Columns [n, k] int64 and scores [n, k] float32; -1 and -inf where fewer items are left, as
          for rows without an entry in the matrix, which get popular items.

        Raises:
          InputError: it has not been fitted.
        """
        rec = self._fitted()
        users = np.atleast_1d(np.asarray(users))
        frame = rec.recommend(users, k, include_seen=include_seen, unknown="popular")
        k = min(k, self.shape_[1])
        items = np.full((len(users), k), -1, np.int64)
        scores = np.full((len(users), k), -np.inf, np.float32)
        starts = np.flatnonzero(frame["rank"].to_numpy() == 1)
        row = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(frame))))
        asked = [str(user) for user in users.tolist()]
        if len(starts) == len(asked):
            place = frame["rank"].to_numpy() - 1
            items[row, place] = frame["item"].cast(int).to_numpy()
            scores[row, place] = frame["score"].to_numpy()
            return items, scores
        for n, user in enumerate(asked):  # some have no item left
            own = frame.filter(frame["user"] == user)
            own = own[: own["rank"].max() or 0]
            items[n, : len(own)] = own["item"].cast(int).to_numpy()
            scores[n, : len(own)] = own["score"].to_numpy()
        return items, scores

    def similar_items(self, items: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest items of each by the cosine: columns [n, k] and cosines [n, k].

        Raises:
          InputError: it has not been fitted, or an item is not in the matrix.
        """
        items = np.atleast_1d(np.asarray(items))
        frame = self._fitted().similar_items(items, k, unknown="fail")
        shape = (len(items), -1)
        near = frame["similar"].cast(int).to_numpy().reshape(shape)
        return near, frame["score"].to_numpy().reshape(shape)

    def score(self, X: Any, y: Any = None, k: int = 20) -> float:
        """Recall@k on held-out entries [users, items], those of the fitted matrix masked.

        Raises:
          InputError: it has not been fitted.
        """
        self._fitted()
        X = X.tocsr()
        users = np.flatnonzero(np.diff(X.indptr))
        if not len(users):
            raise InputError("score needs a matrix with entries")
        found, _ = self.recommend(users, k)
        shares = []
        for user, items in zip(users, found, strict=True):
            held_out = X.indices[X.indptr[user] : X.indptr[user + 1]]
            shares.append(np.isin(held_out, items).mean())
        return float(np.mean(shares))

    def _fitted(self) -> Recommender:
        if not hasattr(self, "recommender_"):
            raise InputError("it has not been fitted; call fit with a matrix first")
        return self.recommender_

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"GraphRecommender({given})"
