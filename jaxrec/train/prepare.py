"""The train part of a data set as arrays on the device, ready for a configuration."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrec.config import Config
from jaxrec.data import schema
from jaxrec.data.dataset import Dataset
from jaxrec.data.schema import Encoded, Schema
from jaxrec.errors import InputError
from jaxrec.evaluate.ratings import RatingScale, needed_ratings
from jaxrec.graph import bipartite
from jaxrec.graph.bipartite import Bipartite, NodeFeatures
from jaxrec.graph.csr import DeviceCsr
from jaxrec.graph.neighbors import all_most_visited
from jaxrec.graph.pagerank import Window, rank_window
from jaxrec.graph.spmm import resolve
from jaxrec.models.inputs import FeatureSizes
from jaxrec.negatives import Popularity
from jaxrec.negatives import popularity as popularity_of
from jaxrec.train.batches import Pairs
from jaxrec.train.draw import TrainData


class Inputs(NamedTuple):
    """What a model takes in besides ids: the schemas of both sides' features, rating levels.

    Attributes:
      user, item: None where a side has no features, or they are not asked for.
      levels: how many types of edges there are.
      decodes: how many rating levels the loss tells apart; 0 where it does not.
    """

    user: Schema | None = None
    item: Schema | None = None
    levels: int = 1
    decodes: int = 0

    @property
    def sizes(self) -> tuple[FeatureSizes | None, FeatureSizes | None]:
        """Of the features, as encoders take them."""
        user, item = (
            None if s is None else FeatureSizes(s.n_numbers, s.category_sizes, s.bag_sizes)
            for s in (self.user, self.item)
        )
        return user, item


def inputs(config: Config, train: Dataset) -> Inputs:
    """What the configured model takes of this data.

    Raises:
      InputError: it asks for features or ratings that the data lacks.
    """
    how = config.model
    decodes = 0
    if config.loss.rates:
        needed_ratings(train)
    if config.loss.name == "levels":
        levels = bipartite.rating_levels(train, "loss.name levels", "take loss.name mse")
        decodes = len(levels[0])
    if how.name not in ("gcmc", "pinsage"):
        return Inputs(decodes=decodes)
    user = item = None
    if how.features is not False:
        user = _fit(train.user_features, train.user_counts())
        item = _fit(train.item_features, train.item_counts())
    if how.features and user is None and item is None:
        raise InputError(f"{train.name}: model.features needs features, {_NO_FEATURES}")
    if not how.ids and (user is None or item is None):
        side = "users" if user is None else "items"
        raise InputError(f"{train.name}: without model.ids {side} need features, {_NO_FEATURES}")
    has_levels = how.name == "gcmc" and how.levels is not False
    if not has_levels or (how.levels is None and train.rating is None):
        return Inputs(user, item, decodes=decodes)
    return Inputs(user, item, len(bipartite.rating_levels(train)[0]), decodes)


_NO_FEATURES = (
    "and this data has none; `jaxrec data import ... --items FILE --users FILE` adds them"
)


def _fit(features: schema.Features | None, counts: np.ndarray) -> Schema | None:
    return None if features is None else schema.fit(features, np.flatnonzero(counts))


def _popularity(config: Config, train: Dataset) -> Popularity | None:
    """How likely each item is to be drawn: in the batch, or as a negative."""
    in_batch = config.negatives.name == "in-batch"
    if in_batch and config.train.positives == "users":
        a_user = 1 / np.maximum(train.user_counts(), 1)
        return popularity_of(np.bincount(train.item, a_user[train.user], train.n_items))
    power = 1.0 if in_batch else config.negatives.popularity
    if power == 0 and not config.corrects:
        return None
    return popularity_of(train.item_counts() if power > 0 else np.ones(train.n_items), power)


def hard_window(config: Config, train: Dataset, graph: Bipartite) -> Window:
    """Where hard negatives are drawn from."""
    first, last = config.negatives.hard_ranks
    if first >= train.n_items:
        raise InputError(
            f"negatives.hard_ranks begins at {first}, and there are {train.n_items} items in train"
        )
    known = train.csr()
    window = rank_window(graph, (known.indptr, known.indices), train.n_users, first, last)
    return jax.block_until_ready(window)


def train_data(config: Config, train: Dataset, takes: Inputs, key: PRNGKeyArray) -> TrainData:
    """All that a step reads and does not change."""
    order = np.lexsort((train.item, train.user))
    indptr = np.zeros(train.n_users + 1, np.int64)
    np.cumsum(train.user_counts(), out=indptr[1:])
    weight, target = train.weight, _targets(config, train)
    pairs = Pairs(
        user_E=jnp.asarray(train.user[order]),
        item_E=jnp.asarray(train.item[order]),
        weight_E=None if weight is None else jnp.asarray(weight[order], jnp.float32),
        indptr=jnp.asarray(indptr, jnp.int32),
        active=jnp.asarray(np.flatnonzero(train.user_counts()), jnp.int32),
        target_E=None if target is None else jnp.asarray(target[order]),
    )
    known = train.csr()
    device_known = DeviceCsr(jnp.asarray(known.indptr), jnp.asarray(known.indices))
    graph = _graph(config, train, takes, key)
    return TrainData(graph, pairs, device_known, key, _popularity(config, train))


def _targets(config: Config, train: Dataset) -> np.ndarray | None:
    """What the loss wants of each pair, where it is of ratings: the level, or what is left of the
    rating without the mean."""
    if not config.loss.rates:
        return None
    if config.loss.name == "levels":
        return bipartite.rating_levels(train)[1]
    return (needed_ratings(train) - RatingScale.of(train).mean).astype(np.float32)


def _graph(config: Config, train: Dataset, takes: Inputs, key: PRNGKeyArray) -> Bipartite:
    how = config.model
    sampled = how.name == "pinsage"
    graph = bipartite.build(
        train,
        reorder=not sampled,  # a block's rows are all over the graph anyway
        buckets=resolve(how.kernel) == "buckets",
        levels=takes.levels > 1,
    )
    graph = graph._replace(features=node_features(train, takes, graph))
    if not sampled or how.neighbors == "uniform":
        return graph
    walk = jax.jit(all_most_visited, static_argnums=1, static_argnames=("walks", "length"))
    near = walk(
        DeviceCsr(graph.indptr, graph.senders),
        max(how.hops),
        walks=how.walks,
        length=how.walk_length,
        key=jax.random.fold_in(key, 4),
    )
    return graph._replace(neighbors=near)


def _encoded(
    features: schema.Features | None, of: Schema | None, rows: np.ndarray
) -> Encoded | None:
    if features is None or of is None:
        return None
    return jax.tree.map(jnp.asarray, schema.encode(features.take(rows), of))


def node_features(train: Dataset, takes: Inputs, graph: Bipartite) -> NodeFeatures | None:
    """The features that a model takes, in the order of the graph's rows."""
    n_users = train.n_users
    node_N = np.arange(graph.n_nodes)
    if graph.place_N is not None:
        node_N[np.asarray(graph.place_N)] = node_N.copy()

    def of_side(
        features: schema.Features | None, of: Schema | None, row: np.ndarray
    ) -> Encoded | None:
        if features is None or of is None:
            return None
        return jax.tree.map(jnp.asarray, schema.encode(features.take(row), of))

    user = of_side(train.user_features, takes.user, node_N[:n_users])
    item = of_side(train.item_features, takes.item, node_N[n_users:] - n_users)
    return None if user is None and item is None else NodeFeatures(user, item)
