"""Functions that build the constant inputs of training on the device."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxrec.config import Config
from jaxrec.data import schema
from jaxrec.data.dataset import Counted, Dataset
from jaxrec.data.schema import Encoded, Schema
from jaxrec.errors import InputError, nearest
from jaxrec.graph import bipartite
from jaxrec.graph.bipartite import Bipartite, NodeFeatures
from jaxrec.graph.csr import DeviceCsr
from jaxrec.graph.neighbors import all_most_visited
from jaxrec.graph.pagerank import Window, rank_window
from jaxrec.graph.spmm import resolve
from jaxrec.models.encoder import unit_rows
from jaxrec.models.inputs import FeatureSizes
from jaxrec.negatives import Popularity
from jaxrec.negatives import popularity as popularity_of
from jaxrec.randomness import OfData, child
from jaxrec.training import objectives
from jaxrec.training.batch import Pairs, TrainData
from jaxrec.training.memory import device_memory

_GRAPH_SHARE = 0.5  # the graph is kept on the device if it takes at most this share of memory


class Inputs(NamedTuple):
    """A model's inputs besides ids: feature schemas and rating levels.

    Attributes:
      user, item: feature schemas of users and items; None for a side whose features are not used.
      levels: number of edge types.
      decodes: number of rating levels in the loss; 0 if the loss has none.
    """

    user: Schema | None = None
    item: Schema | None = None
    levels: int = 1
    decodes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the schemas and the number of edge types as JSON values."""
        schemas = {"user": self.user, "item": self.item}
        made = {side: None if of is None else of.to_dict() for side, of in schemas.items()}
        return made | {"levels": self.levels}

    @property
    def sizes(self) -> tuple[FeatureSizes | None, FeatureSizes | None]:
        """The sizes of the features of users and of items, for encoders."""
        user, item = (
            None if s is None else FeatureSizes(s.n_numbers, s.category_sizes, s.bag_sizes)
            for s in (self.user, self.item)
        )
        return user, item


def inputs(config: Config, train: Dataset) -> Inputs:
    """Determine the inputs of the configured model for this data.

    Raises:
      InputError: the configuration needs features, ratings or ranks that the data lacks.
    """
    how, (first, last) = config.model, config.negatives.hard_ranks
    if config.negatives.hard and last > train.n_items:
        raise InputError(
            f"negatives.hard_ranks {first} {last} reaches past the {train.n_items} items of "
            f"{train.name}; set ranks of at most {train.n_items}"
        )
    decodes = objectives.of(config).levels(config, train)
    if not how.kind.features:
        return Inputs(decodes=decodes)
    user = item = None
    if how.features is not False:
        _refuse_unknown(config, train)
        user = _fit(train.user_features, train.user_counts(), how.columns)
        item = _fit(train.item_features, train.item_counts(), how.columns)
    if how.features and user is None and item is None:
        raise InputError(f"{train.name}: model.features needs features, {_NO_FEATURES}")
    if not how.ids and (user is None or item is None):
        side = "users" if user is None else "items"
        raise InputError(f"{train.name}: without model.ids {side} need features, {_NO_FEATURES}")
    if not how.kind.rating_levels or how.levels is False:
        return Inputs(user, item, decodes=decodes)
    if how.levels is None and not bipartite.has_levels(train):
        return Inputs(user, item, decodes=decodes)
    return Inputs(user, item, len(bipartite.rating_levels(train)[0]), decodes)


_NO_FEATURES = (
    "and this data has none; `jaxrec data import ... --items FILE --users FILE` adds them"
)


def _fit(
    features: schema.Features | None, counts: np.ndarray, columns: tuple[str, ...]
) -> Schema | None:
    """Fit a schema to the selected feature columns (default: all), on rows with train pairs."""
    if features is not None and columns:
        features = features.only(columns)
    if features is None or not features.columns:
        return None
    return schema.fit(features, np.flatnonzero(counts))


def _refuse_unknown(config: Config, train: Dataset) -> None:
    """Raise InputError if model.columns names a feature that neither users nor items have."""
    there = [name for side in train.features().values() for name in side.columns]
    for name in config.model.columns:
        if name not in there:
            listed = ", ".join(there) or "none"
            raise InputError(
                f"{train.name}: model.columns names {name!r}{nearest(name, there)}; "
                f"the features are: {listed}"
            )


def on_host(config: Config, train: Dataset) -> bool:
    """Return whether blocks are sampled on the host, as configured or because of a large graph."""
    if not config.model.sampled or config.model.sampling != "auto":
        return config.model.sampling == "host"
    limit = device_memory()
    needs = 24 * train.n_edges + 8 * max(config.model.hops) * (train.n_users + train.n_items)
    return limit is not None and needs > _GRAPH_SHARE * limit


def popularity(config: Config, train: Counted) -> Popularity | None:
    """Return each item's probability of being drawn as a negative.

    In-batch negatives are drawn as positives of other pairs. The result is None if no sampler or
    loss needs it.
    """
    in_batch = config.negatives.name == "in-batch"
    if in_batch and config.train.positives == "users":
        return popularity_of(train.item_shares())
    power = 1.0 if in_batch else config.negatives.popularity
    # With power 0, the distribution is uniform over the items with train pairs.
    if power == 0 and config.draws_some_items:
        return popularity_of(train.item_counts() > 0)
    if power == 0 and not config.corrects:
        return None
    return popularity_of(train.item_counts() if power > 0 else np.ones(train.n_items), power)


def _alike(config: Config, train: Dataset) -> Array | None:
    """Return normalised raw item features [I, F]; None if negatives are not picked by features.

    The features are numbers, one-hot categories and multi-hot bags.
    """
    if config.negatives.pick != "same-features":
        return None
    if train.item_features is None:
        raise InputError(
            f"{train.name}: negatives.pick same-features needs features of items, {_NO_FEATURES}"
        )
    of = _fit(train.item_features, train.item_counts(), config.model.columns)
    if of is None:
        raise InputError(
            f"{train.name}: negatives.pick same-features needs features of items, but "
            "model.columns selects none; add the name of an item feature to it"
        )
    x = schema.encode(train.item_features, of)
    parts = [x.number]
    for code_I, size in zip(x.category, of.category_sizes, strict=True):
        parts.append(np.eye(size, dtype=np.float32)[code_I])
    for code_IW, size in zip(x.bag, of.bag_sizes, strict=True):
        hot = np.zeros((train.n_items, size), np.float32)
        np.put_along_axis(hot, code_IW, 1, axis=1)
        parts.append(hot * (np.arange(size) > 0))  # code 0 is padding
    return unit_rows(jnp.asarray(np.concatenate(parts, axis=1)))


def _shown(config: Config, train: Dataset) -> DeviceCsr | None:
    """Return the exposed items by user; None if negatives are not drawn from them."""
    if config.negatives.name != "exposed":
        return None
    if train.exposed is None:
        raise InputError(
            f"{train.name}: negatives.name exposed needs items shown without interaction, but "
            "this data has none; `jaxrec data import ... --event-weights shown=0 click=1` reads it"
        )
    return DeviceCsr(*map(jnp.asarray, train.exposed_csr()))


def hard_window(config: Config, train: Dataset, graph: Bipartite) -> Window:
    """Return each user's candidates for hard negatives: the items in a range of PageRank ranks."""
    first, last = config.negatives.hard_ranks
    known = train.csr()
    window = rank_window(graph, (known.indptr, known.indices), train.n_users, first, last)
    return jax.block_until_ready(window)


def train_data(config: Config, train: Dataset, takes: Inputs, key: PRNGKeyArray) -> TrainData:
    """Build the constant inputs of a step."""
    key_E = train.keys()
    order: np.ndarray | slice = slice(None)
    if not (key_E[1:] >= key_E[:-1]).all():
        order = np.argsort(key_E, kind="stable")
    del key_E  # for a large graph, the keys take as much memory as the train data itself
    indptr = np.append(0, np.cumsum(train.user_counts()))
    weight, target = train.weight, objectives.of(config).targets(config, train)
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
    made = TrainData(graph, pairs, device_known, key, popularity(config, train))
    made = made._replace(shown=_shown(config, train), alike_IF=_alike(config, train))
    return made._replace(input_I=_equal_inputs(config, train, takes))


def _equal_inputs(config: Config, train: Dataset, takes: Inputs) -> Array | None:
    """Return one number per item, equal for items with equal features, for models without ids.

    The result is None for other models.
    """
    if config.model.ids or takes.item is None or train.item_features is None:
        return None
    x = schema.encode(train.item_features, takes.item)
    parts = [x.number, *(code_I[:, None] for code_I in x.category), *x.bag]
    rows = np.concatenate([part.astype(np.float64) for part in parts], axis=1)
    same_I = np.unique(rows, axis=0, return_inverse=True)[1]
    return jnp.asarray(same_I.reshape(-1), jnp.int32)


def _graph(config: Config, train: Dataset, takes: Inputs, key: PRNGKeyArray) -> Bipartite:
    how = config.model
    sampled = how.sampled
    drawn = sampled and how.neighbors == "uniform"
    graph = bipartite.build(
        # Sampled neighbours have equal weights, so the edges of the whole graph get equal weights.
        replace(train, weight=None) if drawn else train,
        reorder=not sampled,  # the rows of a sampled block are scattered in any order
        buckets=resolve(how.kernel) == "buckets",
        levels=takes.levels > 1,
    )
    graph = graph._replace(features=node_features(train, takes, graph))
    if not sampled or drawn:
        return graph
    walk = jax.jit(all_most_visited, static_argnums=1, static_argnames=("walks", "length"))
    near = walk(
        DeviceCsr(graph.indptr, graph.senders),
        max(how.hops),
        walks=how.walks,
        length=how.walk_length,
        key=walk_key(key),
    )
    if how.init != "spectral" and not config.negatives.hard:
        # Sampled steps do not read these arrays, which take a quarter of a large graph's memory.
        graph = graph._replace(graph=graph.graph._replace(edges=None, receivers=None))
    return graph._replace(neighbors=near)


def walk_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """Derive the key of random walks from the data's key."""
    return child(key, OfData.NEIGHBORS)


def node_features(train: Dataset, takes: Inputs, graph: Bipartite) -> NodeFeatures | None:
    """Encode the features that the model uses, with rows in the graph's order."""
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
