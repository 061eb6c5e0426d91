"""The interface through which training uses an objective for data with users."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.config import Config
from jaxrec.data.dataset import Counted, Dataset
from jaxrec.graph.bipartite import Bipartite
from jaxrec.models import Encoder
from jaxrec.training.batch import Batch, Positives, TrainData


class BatchRows(NamedTuple):
    """The final embeddings of a batch's users, positives, negatives and hard negatives.

    ``neg`` is [S, D] if all pairs share S negatives, and [B, N, D] if each pair has N of its own.
    """

    user_BD: Float[Array, "B D"]
    pos_BD: Float[Array, "B D"]
    neg: Float[Array, "S D"] | Float[Array, "B N D"]
    own_BHD: Float[Array, "B H D"] | None


class UserObjective(ABC):
    """Base class of objectives with users; its default methods suit ranking."""

    @abstractmethod
    def against(
        self, config: Config, n_items: int, data: TrainData, pairs: Positives, step: Int[Array, ""]
    ) -> Batch:
        """Draw negatives for the given positives, and return the batch."""

    @abstractmethod
    def loss(
        self, config: Config, model: Encoder, rows: BatchRows, batch: Batch, share_B: Array
    ) -> Float[Array, ""]:
        """Compute the loss of a batch without L2; ``share_B`` holds the weights of the pairs."""

    @abstractmethod
    def constant(self, config: Config, train: Dataset, hard: int = 0) -> float:
        """Compute the mean loss per pair, without L2, of the best constant prediction.

        Args:
          hard: number of hard negatives per pair in the last step.
        """

    @abstractmethod
    def temperature(self, config: Config) -> float:
        """Return the number by which the doctor divides pair scores."""

    def targets(self, config: Config, train: Dataset) -> np.ndarray | None:
        """Return the target of each pair, [E]; None if pairs have no targets."""
        return None

    def levels(self, config: Config, train: Dataset) -> int:
        """Return the number of rating levels that the loss predicts; 0 if it predicts no levels.

        Raises:
          InputError: the data lacks what the loss needs.
        """
        return 0

    def observed(self, part: Dataset) -> np.ndarray | None:
        """Return the values that scores predict, [E]; None if scores only rank items."""
        return None

    def takes_all_rows(self, n_rows: int, n_nodes: int) -> bool:
        """Return whether a step computes the rows of all nodes, not only the rows of its batch."""
        return False

    def filled(
        self,
        x_ND: Float[Array, "N D"],
        graph: Bipartite,
        n_users: int,
        described: tuple[bool, bool],
    ) -> Float[Array, "N D"]:
        """Return the final rows, with untrained rows replaced; the default replaces none.

        Args:
          x_ND: the final rows, in the data set's order.
          described: whether the users have features, and whether the items do.
        """
        return x_ND

    def learned(self, config: Config, train: Counted) -> dict[str, np.ndarray]:
        """Return the arrays that turn scores into predictions, by their names in embeddings.npz."""
        return {}

    def figures(self, config: Config, figures: dict[str, float]) -> dict[str, float]:
        """Return further figures for the doctor, derived from ``figures``."""
        return {}
