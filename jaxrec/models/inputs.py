"""Input of the first layer: id embeddings, encoded features, or both."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxrec.config import ModelConfig
from jaxrec.graph.bipartite import Encoded, NodeFeatures
from jaxrec.graph.rows import take
from jaxrec.models.encoder import ModelSizes


class FeatureSizes(NamedTuple):
    """The number of numeric features, and the vocabulary size of each category and each bag."""

    numbers: int
    categories: tuple[int, ...]
    bags: tuple[int, ...]


class FeatureEncoder(nnx.Module):
    """The sum of a linear map of numbers, category embeddings, and mean embeddings of bags.

    The sum equals a dense layer over numbers, one-hot categories and multi-hot bags, where a bag is
    scaled to sum 1 unless ``sum_bags`` is True.

    Args:
      sum_bags: sum the embeddings of a bag instead of averaging them.
    """

    def __init__(
        self,
        sizes: FeatureSizes,
        dim: int,
        init_std: float,
        rngs: nnx.Rngs,
        *,
        sum_bags: bool = False,
    ) -> None:
        def table(rows: int) -> nnx.Param:
            return nnx.Param(init_std * jax.random.normal(rngs.params(), (rows, dim)))

        self.number = table(sizes.numbers) if sizes.numbers else None
        self.category = nnx.List([table(rows) for rows in sizes.categories])
        self.bag = nnx.List([table(rows) for rows in sizes.bags])
        self.bias = nnx.Param(jnp.zeros(dim))
        self.sum_bags = sum_bags

    def __call__(self, x: Encoded) -> Float[Array, "n D"]:
        total_nD = jnp.broadcast_to(self.bias[...], (x.number.shape[0], self.bias[...].shape[0]))
        if self.number is not None:
            total_nD = total_nD + x.number @ self.number[...]
        for table, code_n in zip(self.category, x.category, strict=True):
            total_nD = total_nD + take(table[...], jnp.asarray(code_n))
        for table, code_nW in zip(self.bag, x.bag, strict=True):
            # The codes of names start at 1; an empty bag holds only code 0.
            used_nW = (code_nW > 0) | (jnp.arange(code_nW.shape[1]) == 0)
            size_n1 = jnp.float32(1)
            if not self.sum_bags:
                size_n1 = jnp.sum(used_nW, axis=1, keepdims=True, dtype=jnp.float32)
            share_nW = jnp.where(used_nW, 1 / size_n1, 0)
            total_nD = total_nD + jnp.einsum(
                "nw,nwd->nd", share_nW, take(table[...], jnp.asarray(code_nW))
            )
        return total_nD


class NodeInput(nnx.Module):
    """The input x_n of node n: the embedding of its id plus its encoded features.

    Users and items have separate feature encoders.

    Args:
      n_users: number of users, U; rows from number U on are items.
      sizes: sizes of the users' and items' features; None for a side without features.
    """

    def __init__(
        self,
        n_users: int,
        sizes: tuple[FeatureSizes | None, FeatureSizes | None],
        dim: int,
        init_std: float,
        rngs: nnx.Rngs,
    ) -> None:
        self.n_users, self.dim = n_users, dim
        self.user, self.item = (
            None if of is None else FeatureEncoder(of, dim, init_std, rngs) for of in sizes
        )

    def all(
        self, features: NodeFeatures | None, n_nodes: int, table_ND: Array | None
    ) -> Float[Array, "N D"]:
        """Compute the input of all nodes."""
        user, item = (None, None) if features is None else features
        sides = [
            jnp.zeros((n, self.dim)) if encoder is None or x is None else encoder(x)
            for encoder, x, n in (
                (self.user, user, self.n_users),
                (self.item, item, n_nodes - self.n_users),
            )
        ]
        encoded_ND = jnp.concatenate(sides)
        return encoded_ND if table_ND is None else table_ND + encoded_ND

    def of_items(self, x: Encoded) -> Float[Array, "n D"]:
        """Compute the input of items that have features only."""
        assert self.item is not None, "the model has no item features"
        return self.item(x)

    def rows(
        self, features: NodeFeatures | None, node_M: Int[Array, "M"], table_MD: Array | None
    ) -> Float[Array, "M D"]:
        """Compute the input of some nodes from their table rows ``table_MD``."""
        total_MD = jnp.zeros((node_M.shape[0], self.dim)) if table_MD is None else table_MD
        if features is None:
            return total_MD
        is_user_M1 = (node_M < self.n_users)[:, None]
        for encoder, x, row_M, mine_M1 in (
            (self.user, features.user, node_M, is_user_M1),
            (self.item, features.item, node_M - self.n_users, ~is_user_M1),
        ):
            if encoder is not None and x is not None:
                encoded_MD = encoder(taken(x, row_M))
                total_MD = total_MD + jnp.where(mine_M1, encoded_MD, 0)
        return total_MD


def taken(x: Encoded, row_M: Int[Array, "M"]) -> Encoded:
    """Gather the features of some rows; row numbers are clipped to the table."""

    def of(array: Any) -> Array:
        return array[jnp.clip(row_M, 0, array.shape[0] - 1)]

    return jax.tree.map(of, x)


def of_features(config: ModelConfig, sizes: ModelSizes) -> dict[str, Any]:
    """Return the constructor arguments shared by graph models with features (gcmc, pinsage)."""
    return {
        "hidden": config.hidden_dim or config.dim,
        "ids": config.ids,
        "sizes": sizes.features,
        "init_std": config.init_std,
        "kernel": config.kernel,
        "linear": config.matrices == "linear",
    }
