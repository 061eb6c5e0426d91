"""The item-pair objective: pair weights, losses, and the loss of a constant score."""

import numpy as np
from jaxtyping import Array, Float

from jaxrec import losses
from jaxrec.config import Config
from jaxrec.data.itemgraph import ItemGraph


def counted(
    config: Config, exists: Float[Array, "*pairs"], weight: Float[Array, "*pairs"]
) -> tuple[Float[Array, "*pairs"], Float[Array, "*pairs"]]:
    """Return each pair's weight in the loss and the target of its score.

    Args:
      exists: 0 where a batch is padded, else 1.
      weight: the pair's weight in the data.
    """
    return exists if config.loss.name == "weights" else exists * weight, weight


def loss(config: Config, scored: losses.Scored) -> Float[Array, ""]:
    """Return the loss of a batch, summed over its pairs."""
    return losses.PAIR_LOSSES[config.loss.name](scored)


def constant(config: Config, train: ItemGraph) -> float:
    """Return the mean loss of the best constant score, over the pairs of walks or of the graph."""
    weight_E = np.ones(1) if config.train.positives == "walks" else train.weight
    return losses.constant_of_pairs(config.loss.name, config.negatives.per_pair, weight_E)
