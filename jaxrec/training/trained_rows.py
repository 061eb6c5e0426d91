"""Finds the users and items that have a trained vector, not only an initial one."""

import numpy as np

from jaxrec.config import Config, ModelConfig
from jaxrec.data.dataset import Counted, Dataset
from jaxrec.data.schema import Schema
from jaxrec.runfolder import read_embeddings, read_seen
from jaxrec.training import frozen_items
from jaxrec.training.device_data import Inputs


def embeds_unseen(model: ModelConfig, takes: Schema | None) -> bool:
    """Return whether nodes without train pairs get meaningful vectors from their features.

    For such a node, two-tower uses a learned or mean row instead of the node's own row, and gcmc
    never uses the node's own row. pinsage with ids uses the node's own row, which is untrained.
    """
    return takes is not None and model.feature_rows


def learnt(config: Config, train: Counted, takes: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of the users [U] and of the items [I] that have a trained vector.

    A vector is trained by train pairs, by usable features or in the run of the warm start. With
    model.frozen_items, only the items in that file have a trained vector.

    Raises:
      InputError: the warm start's run or the file of frozen items is missing or damaged.
    """
    has_U, has_I = train.user_counts() > 0, train.item_counts() > 0
    if config.warm_start is not None:
        table = read_embeddings(config.warm_start)
        before = read_seen(config.warm_start, len(table.user_ids), len(table.item_ids))
        for has, ids, old_ids, old in (
            (has_U, train.user_ids, table.user_ids, before.learnt_users()),
            (has_I, train.item_ids, table.item_ids, before.learnt_items(len(table.item_ids))),
        ):
            has |= np.isin(np.asarray(ids).astype(str), old_ids[old])
    if embeds_unseen(config.model, takes.user):
        has_U[:] = True
    if embeds_unseen(config.model, takes.item):
        has_I[:] = True
    if config.model.frozen_items is not None and isinstance(train, Dataset):
        vectors = frozen_items.read(config, train)
        assert vectors is not None
        has_I[:] = False
        has_I[vectors.row] = True
    return has_U, has_I
