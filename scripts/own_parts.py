"""A model, a loss, a sampler of negatives, a metric and a file format of one's own.

Import it, or name it on the command line (from this folder, or with it on PYTHONPATH):

    jaxrec train lightgcn --plugin own_parts --model.name attention-lightgcn --loss.name focal \
        --negatives.name mixed --eval.metric first_hit@20 --data interactions.pairs
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from flax import nnx

import jaxrec
from jaxrec import negatives
from jaxrec.models import Encoder


@jaxrec.register_model("attention-lightgcn")
class AttentionLightGCN(Encoder):
    """LightGCN whose edges weigh by how alike their ends are: softmax over each node's edges."""

    def __init__(self, sizes, config, rngs, *, sharpness: float = 1.0):
        shape = (sizes.n_nodes, config.dim)
        self.embedding = nnx.Param(config.init_std * jax.random.normal(rngs.params(), shape))
        self.layers, self.sharpness = config.layers, sharpness

    def embed(self, graph, key=None):
        x = total = self.embedding[...]
        source, target, n = graph.senders, graph.receivers, x.shape[0]
        for _ in range(self.layers):
            alike = self.sharpness * jnp.sum(x[source] * x[target], axis=1)
            share = jnp.asarray(jraph.segment_softmax(alike, target, n))
            x = jax.ops.segment_sum(share[:, None] * x[source], target, n)
            total = total + x
        return total / (self.layers + 1)


@jaxrec.register_loss("focal")
def focal(pos_B, neg_BN, valid_BN=None):
    """BPR that looks away from pairs that are right already (Lin et al., ICCV 2017)."""
    right = jax.nn.sigmoid(pos_B[:, None] - neg_BN)
    return jnp.mean(-((1 - right) ** 2) * jnp.log(right + 1e-7), axis=1, where=valid_BN)


@jaxrec.register_negatives("mixed")
def mixed(key, count, n_items, positives, known):
    """Half uniform, half the items of the batch's other pairs."""
    drawn = negatives.uniform(key, count, n_items, positives.user_B, known)
    others = jnp.roll(positives.item_B, 1)[:, None]
    return jnp.where(jnp.arange(count) % 2 == 0, drawn, others)


@jaxrec.register_metric("first_hit")
def first_hit(hit_BK, n_relevant_B, k):
    """Whether the very first item is relevant, whatever the cut-off."""
    return hit_BK[:, 0]


@jaxrec.register_format("arrows")
def arrows(path: Path) -> jaxrec.Dataset:
    """Lines of ``user -> item``."""
    pairs = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        user, arrow, item = line.partition(" -> ")
        if not arrow:
            raise jaxrec.InputError(f"{path}:{number}: not `user -> item`; write it so or drop it")
        pairs.append((user, item))
    users, items = (np.unique(side, return_inverse=True) for side in zip(*pairs, strict=True))
    rows = [side[1].astype(np.int32) for side in (users, items)]
    return jaxrec.Dataset(*rows, user_ids=users[0], item_ids=items[0], name=Path(path).stem)
