"""The rating objective: pairs have ratings as targets, and no negatives."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrec import losses
from jaxrec.config import Config
from jaxrec.data.dataset import Counted, Dataset
from jaxrec.diagnosis import measures
from jaxrec.evaluation.ratings import RatingScale, needed_ratings
from jaxrec.graph.bipartite import Bipartite, rating_levels
from jaxrec.models import Encoder
from jaxrec.models.decoder import level_logits
from jaxrec.models.score import pair_scores
from jaxrec.training.batch import Batch, Positives, TrainData
from jaxrec.training.objectives.objective import BatchRows, UserObjective


class Ratings(UserObjective):
    """The objective that predicts ratings, by scores or by a decoder's levels."""

    def against(
        self, config: Config, n_items: int, data: TrainData, pairs: Positives, step: Int[Array, ""]
    ) -> Batch:
        return Batch(pairs, jnp.zeros(0, jnp.int32), None)

    def loss(
        self, config: Config, model: Encoder, rows: BatchRows, batch: Batch, share_B: Array
    ) -> Float[Array, ""]:
        pairs = model, rows.user_BD, rows.pos_BD, batch.positives
        return jnp.sum(share_B * pair_losses(*pairs, config.loss.temperature))

    def constant(self, config: Config, train: Dataset, hard: int = 0) -> float:
        if config.loss.name == "levels":
            return losses.entropy(rating_levels(train)[1], train.weight)
        return losses.variance(needed_ratings(train), train.weight)

    def temperature(self, config: Config) -> float:
        return 1.0

    def targets(self, config: Config, train: Dataset) -> np.ndarray | None:
        """Return each pair's rating level or rating; ``loss.center`` subtracts the mean rating."""
        if config.loss.name == "levels":
            return rating_levels(train)[1]
        mean = RatingScale.of(train).mean if config.loss.center else 0
        return (needed_ratings(train) - mean).astype(np.float32)

    def levels(self, config: Config, train: Dataset) -> int:
        needed_ratings(train)
        if config.loss.name != "levels":
            return 0
        return len(rating_levels(train, "loss.name levels", "set loss.name mse")[0])

    def observed(self, part: Dataset) -> np.ndarray | None:
        return part.rating

    def takes_all_rows(self, n_rows: int, n_nodes: int) -> bool:
        """Return whether the batch has more rows than there are nodes."""
        return n_rows > n_nodes

    def filled(
        self,
        x_ND: Float[Array, "N D"],
        graph: Bipartite,
        n_users: int,
        described: tuple[bool, bool],
    ) -> Float[Array, "N D"]:
        met_N1 = graph.in_data_order(graph.degree_N[:, None]) > 0
        return filled(x_ND, met_N1, n_users, described)

    def learned(self, config: Config, train: Counted) -> dict[str, np.ndarray]:
        assert isinstance(train, Dataset)  # ratings are refused for data in parts
        scale, loss = RatingScale.of(train), config.loss
        found = {"rating_range": np.array(scale[1:], np.float32)}
        if loss.name == "levels":
            return found | {"decoder_level_R": rating_levels(train)[0]}
        found["rating_mean"] = np.array(scale.mean if loss.center else 0, np.float32)
        return found | {"rating_scale": np.array(1 / loss.temperature, np.float32)}

    def figures(self, config: Config, figures: dict[str, float]) -> dict[str, float]:
        if config.loss.name != "mse" or config.model.score == "mlp":
            return {}
        return measures.carried(figures, config.loss.temperature)


OBJECTIVE = Ratings()


def pair_losses(
    model: Encoder,
    user_BD: Float[Array, "B D"],
    item_BD: Float[Array, "B D"],
    pairs: Positives,
    temperature: float,
) -> Float[Array, "B"]:
    """Compute each pair's loss from its embeddings, which include the bias columns, if any."""
    assert pairs.target_B is not None
    if model.decoder is not None:
        logit_BR = level_logits(model.decoder.weights, user_BD, item_BD)
        return losses.level_loss(logit_BR, pairs.target_B)
    if model.score is None:
        score_B = jnp.einsum("bd,bd->b", user_BD, item_BD)
    else:
        (user_BD, left), (item_BD, right) = (
            jnp.split(x, [model.out_dim], axis=1) for x in (user_BD, item_BD)
        )
        score_B1 = pair_scores(model.score.weights, user_BD, item_BD[:, None])
        score_B = score_B1[:, 0] + jnp.einsum("bd,bd->b", left, right)
    return losses.squared_error(score_B / temperature, pairs.target_B)


def filled(
    x_ND: Float[Array, "N D"],
    met_N1: Bool[Array, "N 1"],
    n_users: int,
    described: tuple[bool, bool],
) -> Float[Array, "N D"]:
    """Replace untrained rows, which are noise, by the mean trained row of users or of items.

    Args:
      met_N1: whether each node has train ratings.
      described: whether the users have features, and whether the items do; rows of users or
        items with features are not changed.
    """
    sides = []
    for side, has_features in zip((slice(n_users), slice(n_users, None)), described, strict=True):
        x, met = x_ND[side], met_N1[side]
        count = jnp.maximum(jnp.sum(met, dtype=x.dtype), 1)
        mean_D = jnp.sum(jnp.where(met, x, 0), axis=0) / count
        sides.append(x if has_features else jnp.where(met, x, mean_D))
    return jnp.concatenate(sides)
