"""Compute singular vectors of the normalised interaction matrix by the trainer's sparse product."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.spmm import propagate

_OVERSAMPLING = 16
_ITERATIONS = 6


class Singular(NamedTuple):
    """Leading singular triplets of B̃ = D_u^-1/2 B D_i^-1/2 ≈ U diag(σ) Vᵀ.

    B is the interaction matrix, and D_u and D_i hold the degrees. The σ are in [0, 1], descending.
    """

    user_UD: Float[Array, "U D"]
    sigma_D: Float[Array, "D"]
    item_ID: Float[Array, "I D"]


@partial(jax.jit, static_argnames=("n_users", "dim"))
def singular_vectors(graph: Bipartite, n_users: int, dim: int, key: PRNGKeyArray) -> Singular:
    """Compute the ``dim`` leading singular triplets of B̃, the user-item block of the graph.

    Source: Halko, Martinsson and Tropp, "Finding structure with randomness", 2011, algorithm 4.4
    (subspace iteration), 6 rounds with 16 extra vectors. A triplet beyond the rank of the block has
    σ = 0 and user vector 0.

    Args:
      graph: N nodes, the first ``n_users`` of them users.
      n_users: U.
      dim: D, at most min(U, I).
      key: random key for the start vectors.
    """
    n_items = graph.n_nodes - n_users
    width = min(dim + _OVERSAMPLING, n_users, n_items)

    def to_users(item_IK: Array) -> Array:
        x_NK = jnp.zeros((graph.n_nodes, width)).at[n_users:].set(item_IK)
        return propagate(graph, x_NK)[:n_users]

    def to_items(user_UK: Array) -> Array:
        x_NK = jnp.zeros((graph.n_nodes, width)).at[:n_users].set(user_UK)
        return propagate(graph, x_NK)[n_users:]

    def improve(_: Array, item_IK: Array) -> Array:
        return jnp.linalg.qr(to_items(to_users(item_IK)))[0]

    start_IK = jnp.linalg.qr(jax.random.normal(key, (n_items, width)))[0]
    item_IK = jax.lax.fori_loop(0, _ITERATIONS, improve, start_IK)
    user_UK = to_users(item_IK)
    left_UK, sigma_K, right_KK = jnp.linalg.svd(user_UK, full_matrices=False)
    real_K = sigma_K > 1e-5
    sigma_K, left_UK = jnp.where(real_K, sigma_K, 0), jnp.where(real_K, left_UK, 0)
    return Singular(left_UK[:, :dim], sigma_K[:dim], (item_IK @ right_KK.T)[:, :dim])


def spectral_table(
    graph: Bipartite, n_users: int, dim: int, layers: int, rms: float, key: PRNGKeyArray
) -> Float[Array, "N D"]:
    """Compute a LightGCN table whose final scores are a rank-D approximation of the data.

    The gain of L layers is p(σ) = 1/(L+1) Σ_l σ^l. Users get U σ^1/2 / p(σ), and items get D_i^1/2
    V σ^1/2 / p(σ). After propagation, users then score items by about U σ V^T D_i^1/2, which
    approximates the interactions with scaled user rows. Finally, users and items are each scaled to
    the given root mean square. Columns beyond min(U, I) are normal noise with this root mean
    square.

    Args:
      graph: N nodes, the first ``n_users`` of them users.
      n_users: U.
      dim: D.
      layers: L of the encoder.
      rms: root mean square of the users' entries, and of the items'.
      key: random key for the start vectors and the noise.
    """
    width = min(dim, n_users, graph.n_nodes - n_users)
    start_key, noise_key = jax.random.split(key)
    triplets = singular_vectors(graph, n_users, width, start_key)
    gain_D = sum((triplets.sigma_D**n for n in range(layers + 1)), jnp.zeros(width)) / (layers + 1)
    scale_D = jnp.sqrt(triplets.sigma_D) / gain_D

    def scaled(x: Array) -> Array:
        return x * rms / jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(x))), 1e-30)

    user_UD = scaled(triplets.user_UD * scale_D)
    item_ID = scaled(triplets.item_ID * scale_D * jnp.sqrt(graph.degree_N[n_users:, None]))
    noise_NK = rms * jax.random.normal(noise_key, (graph.n_nodes, dim - width))
    return jnp.concatenate([jnp.concatenate([user_UD, item_ID]), noise_NK], axis=1)
