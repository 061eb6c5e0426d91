"""The ranking objective: rank each user's items above other items, from interactions."""

from typing import Any

from jaxrec.config.checks import shown_cutoff
from jaxrec.config.objectives.objective import Objective, Table


def ranking_table(config: Any, title: str = "Ranking over all items") -> Table:
    """Return the table of ranking metrics, which every objective has."""
    k = shown_cutoff(config.eval.k)
    return Table(title, [f"recall@{k}", f"ndcg@{k}"], ("random", "popularity"))


def numbers_of_pairs(config: Any, private: int = 0, shared: int = 0) -> int:
    """Return the number of elements in the table rows and the scores of a batch of pairs.

    Args:
      private: number of negatives per pair that are drawn for each pair separately.
      shared: number of negatives that all pairs of the batch share.
    """
    model, batch = config.model, config.train.batch_size
    rows = batch * (2 + private) + shared
    count = rows * model.rows_a_node * model.dim + batch * shared
    if model.score == "mlp":
        count += batch * (1 + private + shared) * model.score_width
    return count


def _batch_numbers(config: Any, n_items: int) -> int:
    how = config.negatives
    private = (how.count * how.candidates if how.private else 0) + how.hard
    sizes = {"shared": how.count, "in-batch": config.train.batch_size, "all": n_items}
    return numbers_of_pairs(config, private, sizes.get(how.name, 0))


def _check(config: Any) -> None:
    """Accept every configuration."""


RANKING = Objective(
    "ranking",
    of="models of users and items",
    losses=("bpr", "bce", "softmax", "triplet", "hinge"),
    default_metric="recall@{k}",
    check=_check,
    tables=lambda config: [ranking_table(config)],
    batch_numbers=_batch_numbers,
    trains="jaxrec.training.objectives.ranking",
    task="jaxrec.training.interactions",
    judges="jaxrec.evaluation.user_runs",
    mesh=True,
    host_tables=True,
)
