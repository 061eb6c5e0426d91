"""Which users and items have a vector that training has made, rather than an initial one."""

import numpy as np

from jaxrec.config import Config, ModelConfig
from jaxrec.data.dataset import Counted, Dataset
from jaxrec.data.schema import Schema
from jaxrec.runfolder import read_embeddings, read_seen
from jaxrec.training import frozen_items
from jaxrec.training.device_data import Inputs


def embeds_unseen(model: ModelConfig, takes: Schema | None) -> bool:
    """Whether the vector of a node without train pairs is made of its features.

    In two-tower a learned row or a mean stands for its id, and in gcmc a node's own id is no part
    of its vector. In pinsage it is, where there are ids, and without pairs it has its initial row.
    """
    if takes is None:
        return False
    return model.name in ("two-tower", "gcmc") or (model.name == "pinsage" and not model.ids)


def learnt(config: Config, train: Counted, takes: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Users [U] and items [I], bool, that train pairs, features or a run to start from tell of.

    Raises:
      InputError: the run to start from, or the file of frozen items, has gone or is damaged.
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
