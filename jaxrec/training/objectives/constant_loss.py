"""The ranking loss of a constant prediction, which gives every pair the same score.

The doctor compares a run's loss with this loss. It is computed from the formula of the loss and
from the numbers and probabilities of the negatives.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxrec import losses
from jaxrec.config import Config
from jaxrec.data.dataset import Dataset
from jaxrec.training.batch import steps_per_epoch


def constant_loss(config: Config, train: Dataset, hard: int = 0) -> float:
    """Compute the mean loss per pair, without L2, of the best constant prediction.

    Args:
      hard: number of hard negatives per pair in the last step.
    """
    batch = config.train.batch_size
    if config.loss.name not in losses.LOSSES:
        return losses.at_gap(
            config.loss.name, 0.0, float(config.negatives.against(batch, train.n_items) + hard)
        )
    if config.loss.name != "softmax":
        return losses.at_gap(config.loss.name, 0.0, margin=config.loss.margin)
    sizes = [batch]
    if config.negatives.name == "in-batch" and config.train.positives == "edges":
        per_epoch = steps_per_epoch(train.n_edges, batch)
        # An epoch's last batch is smaller.
        sizes = [batch] * (per_epoch - 1) + [train.n_edges - (per_epoch - 1) * batch]
    cost = {}
    for size in set(sizes):
        count_n, share_n = _negatives(config, train, size)
        cost[size] = sum(
            share * losses.at_gap("softmax", 0.0, count + hard)
            for count, share in zip(*_distinct(count_n, share_n), strict=True)
        )
    return float(np.mean([cost[size] for size in sizes]))


class _Negatives(NamedTuple):
    """Groups of pairs with equal numbers of negatives, for the softmax loss.

    Attributes:
      count_n: number of negatives per pair of each group; with the log q correction, the sum of
        q_pos / q_neg over the negatives of a pair.
      share_n: share of each group in all pairs.
    """

    count_n: Float[np.ndarray, "n"]
    share_n: Float[np.ndarray, "n"]


def _distinct(count_n: np.ndarray, share_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge groups with equal counts, and drop groups with share 0."""
    there_n = share_n > 0
    count_m, group_n = np.unique(count_n[there_n], return_inverse=True)
    return count_m, np.bincount(group_n.reshape(-1), share_n[there_n])


def _share(x_n: np.ndarray) -> np.ndarray:
    return x_n / x_n.sum()


def _negatives(config: Config, train: Dataset, batch_size: int) -> _Negatives:
    """Return groups of pairs, one per user or per item, and their numbers of negatives.

    Hard negatives are not counted.
    """
    how, by_users = config.negatives, config.train.positives == "users"
    count = how.against(batch_size, train.n_items)
    if how.picks is not None or (how.private and not config.corrects):
        return _Negatives(np.array([float(count)]), np.ones(1))
    degree_U, met_I = train.user_counts(), train.item_counts()
    pair_I = _share(train.item_shares() if by_users else met_I)
    pair_U = _share(degree_U > 0 if by_users else degree_U)
    drawn_I = _drawn(config, pair_I, met_I)
    known_U = np.bincount(train.user, drawn_I[train.item], train.n_users)
    if config.corrects:
        possible_U = _possible(config, int(np.count_nonzero(drawn_I)), degree_U, known_U)
        if how.name == "all":
            count_I = drawn_I * (1 / drawn_I[drawn_I > 0]).sum() - 1
        else:
            count_I = count * drawn_I * (possible_U @ pair_U)
        return _Negatives(count_I, pair_I)
    if how.rejects:
        whole = train.n_items if how.name == "all" else count
        return _Negatives(whole * (1 - known_U), pair_U)
    if how.name == "in-batch":  # the pair's own item is not a negative
        return _Negatives(count * (1 - drawn_I), pair_I)
    return _Negatives(np.array([float(count)]), np.ones(1))


def _drawn(config: Config, pair_I: np.ndarray, met_I: np.ndarray) -> np.ndarray:
    """Return each item's probability of being a negative, as in ``device_data.popularity``."""
    how = config.negatives
    if how.name == "in-batch":
        return pair_I
    if how.popularity > 0:
        return _share(np.where(met_I > 0, np.power(met_I / met_I.max(), how.popularity), 0.0))
    return _share(met_I > 0 if config.draws_some_items else np.ones(len(met_I)))


def _possible(
    config: Config, n_items: int, degree_U: np.ndarray, known_U: np.ndarray
) -> np.ndarray:
    """Return [U], the expectation of 1 / q for a negative of each user, for the log q correction.

    q is the probability of drawing the negative, and 1 / q counts as 0 for a masked negative. So
    the expectation is the number of items that are valid for the user. It is higher if invalid
    items are drawn again.

    Args:
      n_items: number of items that can be drawn.
      known_U: probability of drawing an item that the user knows.
    """
    how = config.negatives
    if not how.rejects:
        return np.full(len(degree_U), n_items - (how.name == "in-batch"))
    # Among private negatives, items that the user knows are drawn again; among shared negatives,
    # they are masked.
    again_U = 1 - known_U if how.private else 1.0
    return (n_items - degree_U) / np.maximum(again_U, 1e-9)
