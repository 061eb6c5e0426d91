"""The objective of item models: relate items by weighted pairs, without users."""

import dataclasses
from typing import Any

from jaxrec.config.checks import check
from jaxrec.config.objectives.objective import Objective, Table
from jaxrec.config.objectives.ranking import ranking_table


def _check(config: Any) -> None:
    name, how = config.model.name, config.negatives
    check(
        config.eval.cold == "keep",
        f"eval.cold is not for {name}; its metrics that end in _seen leave out items without train "
        "pairs",
    )
    for section in ("split", "filter"):
        options = getattr(config, section)
        check(
            options == type(options)(),
            f"the options {section}.* are for interactions, not for {name}; use pairs.* and "
            "walks.*",
        )
    check(not config.eval.repeatable, f"eval.repeatable needs users, but {name} has none")
    check(
        config.train.positives == "walks" or name != "skipgram",
        "train.positives must be walks for skipgram; item-mf takes edges too",
    )
    check(
        config.train.positives in ("walks", "edges"),
        f"train.positives must be walks or edges for {name}, not {config.train.positives}",
    )
    plain = {f.name: f.default for f in dataclasses.fields(how)}
    for field_name in ("candidates", "pick", "hard", "log_q", "reject_known"):
        check(
            getattr(how, field_name) == plain[field_name],
            f"negatives.{field_name} is not for {name}",
        )
    check(
        how.name == "shared",
        f"negatives.name must be shared for {name}, not {how.name}",
    )
    check(
        config.train.batch_size % how.groups == 0,
        f"negatives.groups ({how.groups}) must divide train.batch_size ({config.train.batch_size})",
    )
    check(
        config.optim.can_be_sparse and config.optim.sparse is not False,
        f"{name} needs an optimizer that updates only the rows of a batch: optim.name sgd (without "
        "optim.momentum), adagrad, rowwise_adagrad or adam; leave out optim.clip_norm and "
        "optim.sparse",
    )
    check(
        config.train.l2_over == "batch" and not config.mistakes,
        f"train.l2_over and mistakes are not for {name}",
    )
    check(config.loss.temperature == 1, f"loss.temperature is not for {name}")
    check(
        config.optim.rest_rate == 1,
        f"optim.rest_rate is not for {name}, which has no parameters beside its tables",
    )


def _tables(config: Any) -> list[Table]:
    areas = ["auc", "auc_seen", "average_precision"]
    tables = [Table("Labelled pairs", areas, ("random", "popularity"))]
    if config.pairs.ranked:
        tables.insert(0, ranking_table(config, "Held-out neighbours among all items"))
    return tables


def _batch_numbers(config: Any, n_items: int) -> int:
    how, batch, dim = config.negatives, config.train.batch_size, config.model.dim
    length = config.walks.length if config.train.positives == "walks" else 2
    return batch * length * (length + dim + how.count) + how.groups * how.count * dim


ITEM_PAIRS = Objective(
    "item-pairs",
    of="item models",
    losses=("sgns", "weights"),
    default_metric="auc",
    check=_check,
    tables=_tables,
    batch_numbers=_batch_numbers,
    trains="jaxrec.training.items.objective",
    task="jaxrec.training.items.task",
    judges="jaxrec.evaluation.item_runs",
    metrics=("auc", "auc_seen", "average_precision", "average_precision_seen"),
    options={"pairs": (), "walks": (), "negatives": ("per_pair", "groups")},
    values=(("train", "positives", "walks"),),
    users=False,
)
