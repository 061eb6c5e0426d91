"""The ranking objective, with losses that compare pairs with negatives."""

from typing import Any

from jaxtyping import Array, Float, Int

from jaxrec import losses, registry
from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.models import Encoder
from jaxrec.models.score import pair_scores
from jaxrec.training.batch import Batch, Positives, TrainData, with_negatives
from jaxrec.training.objectives.constant_loss import constant_loss
from jaxrec.training.objectives.objective import BatchRows, UserObjective


class Ranking(UserObjective):
    """The objective that ranks each user's items above other items."""

    def against(
        self, config: Config, n_items: int, data: TrainData, pairs: Positives, step: Int[Array, ""]
    ) -> Batch:
        return with_negatives(config, n_items, data, pairs, step)

    def loss(
        self, config: Config, model: Encoder, rows: BatchRows, batch: Batch, share_B: Array
    ) -> Float[Array, ""]:
        name, temperature = config.loss_taken, config.loss.temperature
        user_BD, pos_BD, neg, own_BHD = rows
        of_batch: Any = losses.of_name(name)
        if name in registry.OF_EMBEDDINGS:
            weight_B = batch.positives.weight_B
            return of_batch(user_BD, pos_BD, neg, weight_B, batch.valid_BN, temperature)
        weights = None if model.score is None else model.score.weights
        form: dict[str, Any] = {"temperature": temperature, "dtype": config.model.dtype}
        form |= {"pairs": None if weights is None else pair_scores, "weights": weights}
        form |= {"margin": config.loss.margin if name == "hinge" else None}
        weighed = share_B, batch.valid_BN, batch.log_q, own_BHD
        return losses.mean(name, user_BD, pos_BD, neg, *weighed, **form)

    def constant(self, config: Config, train: Dataset, hard: int = 0) -> float:
        return constant_loss(config, train, hard)

    def temperature(self, config: Config) -> float:
        return config.loss.temperature


OBJECTIVE = Ranking()
