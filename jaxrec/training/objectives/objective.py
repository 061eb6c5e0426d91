"""What an objective does in training, where it learns from users and items."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.graph.bipartite import Bipartite
from jaxrec.models import Encoder
from jaxrec.training.batch import Batch, Positives, TrainData


class BatchRows(NamedTuple):
    """The rows that a batch is scored with: of its users, positives, negatives, hard negatives."""

    user_BD: Float[Array, "B D"]
    pos_BD: Float[Array, "B D"]
    neg: Float[Array, "S D"] | Float[Array, "B N D"]
    own_BHD: Float[Array, "B H D"] | None


class UserObjective(ABC):
    """An objective of users and items. What a ranking has no use for is empty here."""

    @abstractmethod
    def against(
        self, config: Config, n_items: int, data: TrainData, pairs: Positives, step: Int[Array, ""]
    ) -> Batch:
        """The batch of given positives: what stands against them."""

    @abstractmethod
    def loss(
        self, config: Config, model: Encoder, rows: BatchRows, batch: Batch, share_B: Array
    ) -> Float[Array, ""]:
        """The loss of a batch, without L2; ``share_B`` is what each pair weighs in it."""

    @abstractmethod
    def constant(self, config: Config, train: Dataset, hard: int = 0) -> float:
        """The mean loss of a pair, without L2, of the best prediction that is the same for all.

        Args:
          hard: hard negatives a pair, as the last step had them.
        """

    @abstractmethod
    def temperature(self, config: Config) -> float:
        """What the doctor divides the scores of pairs by."""

    def targets(self, config: Config, train: Dataset) -> np.ndarray | None:
        """What the loss wants of each pair, [E]; None where it wants nothing of a single one."""
        return None

    def levels(self, config: Config, train: Dataset) -> int:
        """How many levels of a target the model decodes; 0 where it does not.

        Raises:
          InputError: the data lacks what the loss needs.
        """
        return 0

    def observed(self, part: Dataset) -> np.ndarray | None:
        """What the scores of pairs stand for, [E]; None where they only order items."""
        return None

    def takes_all_rows(self, n_rows: int, n_nodes: int) -> bool:
        """Whether a step makes the rows of all nodes, rather than those of its batch."""
        return False

    def filled(
        self,
        x_ND: Float[Array, "N D"],
        graph: Bipartite,
        n_users: int,
        described: tuple[bool, bool],
    ) -> Float[Array, "N D"]:
        """Final rows in the data set's order, those that nothing has trained made good.

        Args:
          described: whether users, and items, have features.
        """
        return x_ND

    def learned(self, config: Config, train: Dataset) -> dict[str, np.ndarray]:
        """What makes predictions of scores, by the names that it has in embeddings.npz."""
        return {}

    def figures(self, config: Config, figures: dict[str, float]) -> dict[str, float]:
        """What else the doctor makes of its figures."""
        return {}
