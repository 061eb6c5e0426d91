# %% [markdown]
# # A model of your own
#
# An `Encoder` makes its parameters once, and embeddings of all nodes from the graph. The losses,
# samplers, optimizers, evaluation, checkpoints and the doctor work as for jaxrec's own models.

# %%
import os

import jax
import jax.numpy as jnp
from flax import nnx

import jaxrec

SMALL = "SMALL" in os.environ  # as the tests run it

# %% [markdown]
# Each node's embedding is its own row plus the mean of its neighbours' rows.


# %%
class Neighbours(jaxrec.models.Encoder):
    """A node's row and the mean of its neighbours' rows, weighed by ``own``."""

    def __init__(self, sizes, config, rngs, *, own: float = 1.0):
        shape = (sizes.n_nodes, config.dim)
        self.embedding = nnx.Param(config.init_std * jax.random.normal(rngs.params(), shape))
        self.own = own

    def embed(self, graph, key=None):
        x = self.embedding[...]
        sent = jax.ops.segment_sum(x[graph.senders], graph.receivers, x.shape[0])
        return self.own * x + sent / jnp.maximum(graph.degree_N, 1)[:, None]


# %% [markdown]
# A loss of your own is a function of scores; here BPR with a margin.


# %%
def margin_bpr(pos_B, neg_BN, valid_BN=None):
    """BPR that asks for a distance of 1/2 between the scores."""
    loss_BN = jax.nn.softplus(neg_BN - pos_B[:, None] + 0.5)
    return jnp.mean(loss_BN, axis=1, where=valid_BN)


# %%
dim, epochs = (8, 1) if SMALL else (64, 20)
run = jaxrec.train(
    "quickstart",
    model=Neighbours,
    model_options={"own": 0.5},
    loss=margin_bpr,
    dim=dim,
    epochs=epochs,
    run="own-run",
)
print(run)

# %% [markdown]
# What it is worth: the same preset with jaxrec's LightGCN and BPR, on the same split.

# %%
other = jaxrec.train("quickstart", dim=dim, epochs=epochs, run="lightgcn-run", quiet=True)
print(f"recall@20: own {run.metrics['recall@20']:.3f}, LightGCN {other.metrics['recall@20']:.3f}")
print("healthy" if jaxrec.doctor(run.folder).healthy else "the doctor has a finding")
