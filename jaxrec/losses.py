"""Losses of a batch of scores, as pure functions without overflow.

Every loss takes pos_B [B] and neg_BN [B, N] and returns one value per pair, [B]; the caller
averages over the pairs. A negative counts only where ``valid_BN`` is True. For example, it is False
for a user's known positives among shared negatives. A pair without a valid negative has loss 0 in
``bpr``.

The CS224W lecture behind this project prints its mini-batch BPR loss as -log(σ(pos) - σ(neg)),
which is undefined if pos <= neg. Rendle et al. (2009), and the lecture's own sentence above the
formula, say -log σ(pos - neg), averaged over the pairs outside the logarithm. Summing the scores
of many pairs inside one sigmoid is another mistake: the sigmoid saturates and embeddings collapse.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrec import registry
from jaxrec.platforms import platform_of_programs

__all__ = [
    "Loss",
    "bce",
    "bpr",
    "hinge",
    "level_loss",
    "sampled_softmax",
    "squared_error",
    "triplet",
]


@runtime_checkable
class Loss(Protocol):
    """A loss of a batch of scores, which returns one value per pair, [B].

    The arguments are the scores of the positives [B], the scores of the negatives [B, N], and which
    negatives count, [B, N] bool; None counts all.
    """

    def __call__(
        self,
        pos_B: Float[Array, "B"],
        neg_BN: Float[Array, "B N"],
        valid_BN: Bool[Array, "B N"] | None = None,
    ) -> Float[Array, "B"]: ...


def _mean_valid(value_BN: Array, valid_BN: Array | None) -> Array:
    if valid_BN is None:
        return jnp.mean(value_BN, axis=1)
    count_B = jnp.sum(valid_BN, axis=1, dtype=value_BN.dtype)
    return jnp.sum(jnp.where(valid_BN, value_BN, 0), axis=1) / jnp.maximum(count_B, 1)


def bpr(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """Compute Bayesian personalised ranking: 1/N Σ_n -log σ(pos - neg_n).

    It is computed as softplus(neg_n - pos), and is log 2 at equal scores. Source: Rendle et al.,
    UAI 2009.

    >>> import jax.numpy as jnp
    >>> [f"{loss:.4f}" for loss in bpr(jnp.array([0.0, 9.0]), jnp.array([[0.0], [-9.0]]))]
    ['0.6931', '0.0000']
    """
    return _mean_valid(jax.nn.softplus(neg_BN - pos_B[:, None]), valid_BN)


def bce(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """Compute binary cross-entropy: -log σ(pos) - 1/N Σ_n log(1 - σ(neg_n)), by softplus.

    It is 2 log 2 at scores of 0. Source: CS224W, lecture on recommender systems, "binary loss".

    >>> import jax.numpy as jnp
    >>> [f"{loss:.4f}" for loss in bce(jnp.array([0.0, 9.0]), jnp.array([[0.0], [-9.0]]))]
    ['1.3863', '0.0002']
    """
    return jax.nn.softplus(-pos_B) + _mean_valid(jax.nn.softplus(neg_BN), valid_BN)


def sampled_softmax(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """Compute sampled softmax: -log( e^pos / (e^pos + Σ_n e^neg_n) ).

    It is log(1 + N) at equal scores. Source: Wu et al., "On the effectiveness of sampled softmax
    loss", 2022.

    >>> import jax.numpy as jnp
    >>> f"{sampled_softmax(jnp.array([1.0]), jnp.array([[1.0, 1.0, 1.0]]))[0]:.4f}"  # log 4
    '1.3863'
    """
    if valid_BN is not None:
        neg_BN = jnp.where(valid_BN, neg_BN, -jnp.inf)
    # Compute the logsumexp over the positive and the negatives without concatenating them.
    top_B = jax.lax.stop_gradient(jnp.maximum(jnp.max(neg_BN, axis=1, initial=-jnp.inf), pos_B))
    neg_sum_B = jnp.sum(jnp.exp(neg_BN - top_B[:, None]), axis=1)
    return jnp.log(neg_sum_B + jnp.exp(pos_B - top_B)) + top_B - pos_B


def triplet(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """Compute 1/N Σ_n 1 - σ(pos - neg_n), a bounded loss that is 1/2 at equal scores.

    This is BPR without the logarithm: a smooth share of wrongly ordered pairs, which estimates
    1 - AUC. Its gradient vanishes for pairs far in the right order and for pairs far in the wrong
    order.

    >>> import jax.numpy as jnp
    >>> [f"{loss:.4f}" for loss in triplet(jnp.array([0.0, 9.0]), jnp.array([[0.0], [-9.0]]))]
    ['0.5000', '0.0000']
    """
    return _mean_valid(jax.nn.sigmoid(neg_BN - pos_B[:, None]), valid_BN)


def hinge(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
    margin: float = 1.0,
) -> Float[Array, "B"]:
    """Compute the hinge loss 1/N Σ_n max(0, margin - pos + neg_n).

    It equals the margin at equal scores. Source: Weston et al., "WSABIE", IJCAI 2011, without the
    rank weights. Schroff et al. 2015 use the same loss with distances for scores.

    >>> import jax.numpy as jnp
    >>> hinge(jnp.array([0.0, 2.0]), jnp.array([[0.5], [0.5]])).tolist()
    [1.5, 0.0]
    """
    return _mean_valid(jax.nn.relu(neg_BN - pos_B[:, None] + margin), valid_BN)


def squared_error(score_B: Float[Array, "B"], rating_B: Float[Array, "B"]) -> Float[Array, "B"]:
    """Compute (r - r̂)² of ratings r and predicted ratings r̂.

    If every prediction is the mean rating, the mean of the result is the variance of the ratings.

    >>> import jax.numpy as jnp
    >>> squared_error(jnp.array([3.5, 5.0]), jnp.array([4.0, 5.0])).tolist()
    [0.25, 0.0]
    """
    return jnp.square(rating_B - score_B)


def level_loss(logit_BR: Float[Array, "B R"], level_B: Int[Array, "B"]) -> Float[Array, "B"]:
    """Compute the cross-entropy of rating levels, -log softmax(logits)[level].

    It is log R at equal logits of the R levels. Source: van den Berg et al., "Graph convolutional
    matrix completion", 2018, section 2.5.

    >>> import jax.numpy as jnp
    >>> f"{level_loss(jnp.zeros((1, 5)), jnp.array([3]))[0]:.4f}"  # log 5
    '1.6094'
    """
    if platform_of_programs() == "gpu":  # a gather's gradient would use atomic additions
        here_BR = level_B[:, None] == jnp.arange(logit_BR.shape[1], dtype=level_B.dtype)
        own_B1 = jnp.sum(jnp.where(here_BR, logit_BR, 0), axis=1, keepdims=True)
    else:
        own_B1 = jnp.take_along_axis(logit_BR, level_B[:, None], axis=1)
    return jax.nn.logsumexp(logit_BR, axis=1) - own_B1[:, 0]


LOSSES: dict[str, Loss] = {
    "bpr": bpr,
    "bce": bce,
    "softmax": sampled_softmax,
    "triplet": triplet,
    "hinge": hinge,
}

AT_GAP: dict[str, Callable[[float, float, float], float]] = {
    "bpr": lambda gap, negatives, margin: float(np.logaddexp(0, -gap)),
    "bce": lambda gap, negatives, margin: 2 * float(np.logaddexp(0, -gap / 2)),
    "softmax": lambda gap, negatives, margin: float(np.log1p(negatives * np.exp(-gap))),
    "triplet": lambda gap, negatives, margin: float(np.exp(-np.logaddexp(0, gap))),
    "hinge": lambda gap, negatives, margin: max(0.0, margin - gap),
}
"""The built-in losses as functions of (gap, negatives, margin); see :func:`at_gap`."""


def at_gap(name: str, gap: float, negatives: float = 1.0, margin: float = 1.0) -> float:
    """Evaluate the named loss for a positive score of gap / 2 and negative scores of -gap / 2.

    A gap of 0 is a constant prediction. If scores are bounded by ±s, the least loss is at gap 2 s.

    Args:
      name: see :func:`of_name`; a registered loss is evaluated on arrays of these scores.
      negatives: number N of negatives. Only softmax, log(1 + N e^-gap), depends on it. If ``LogQ``
        corrects the scores, give Σ_n q_pos / q_n instead; q is the probability of drawing an item.
      margin: margin of the hinge loss.
    """
    if name in AT_GAP:
        return AT_GAP[name](gap, negatives, margin)
    n = max(1, round(negatives))
    if gap == 0 and name in registry.CONSTANTS:
        return float(registry.CONSTANTS[name](n))
    pos_B, neg_BN = jnp.full(1, gap / 2), jnp.full((1, n), -gap / 2)
    loss: Any = of_name(name)
    if name in registry.OF_EMBEDDINGS:  # one-dimensional vectors whose products are these scores
        user_BD, pos_BD, neg_BND = jnp.ones((1, 1)), pos_B[:, None], neg_BN[:, :, None]
        return float(loss(user_BD, pos_BD, neg_BND, jnp.ones(1), None, 1.0))
    return float(loss(pos_B, neg_BN)[0])


def variance(rating_E: np.ndarray, weight_E: np.ndarray | None = None) -> float:
    """Return the mean ``squared_error`` of the best constant prediction, the mean rating."""
    rating_E = rating_E.astype(np.float64)
    mean = np.average(rating_E, weights=weight_E)
    return float(np.average(np.square(rating_E - mean), weights=weight_E))


def entropy(level_E: np.ndarray, weight_E: np.ndarray | None = None) -> float:
    """Return the mean ``level_loss`` of the best constant prediction, the levels' frequencies."""
    count_R = np.bincount(level_E, weight_E).astype(np.float64)
    share_R = count_R[count_R > 0] / count_R.sum()
    return float(-np.sum(share_R * np.log(share_R)))


def constant_of_pairs(name: str, per_pair: float, weight_E: np.ndarray) -> float:
    """Return the mean loss per pair of a ``PAIR_LOSSES`` loss at the best constant score.

    With k negatives per pair, the best score of ``sgns`` has sigmoid 1 / (1 + k). The best score of
    ``weights``, where negatives have target 0, is the mean weight divided by 1 + k.

    Args:
      per_pair: number k of negatives per pair.
      weight_E: weights of the pairs.
    """
    if name == "sgns":
        return float(np.log1p(per_pair) + per_pair * np.log1p(1 / per_pair))
    mean = float(np.mean(weight_E, dtype=np.float64))
    return float(np.var(weight_E, dtype=np.float64)) + mean**2 * per_pair / (1 + per_pair)


def of_name(name: str) -> Loss:
    """Look up a loss by name, in ``LOSSES`` or among the losses that the user registered.

    Raises:
      InputError: the name is unknown.
    """
    return LOSSES[name] if name in LOSSES else registry.LOSSES.get(name)


# Number of pairs per block with shared negatives; the scores of a block fit in a core's cache.
_BLOCK = 512
_MOST_SCORES = 2**26  # the most scores of a block on a GPU, 256 MB


def _block_size(n_shared: int) -> int:
    """Return the number of pairs per block if all pairs share ``n_shared`` negatives."""
    if platform_of_programs() != "gpu":
        return _BLOCK
    # A GPU launches about 14 kernels per block, so there the blocks are as large as memory allows.
    return max(_BLOCK, _MOST_SCORES // max(n_shared, 1))


PairFn = Callable[[Any, Array, Array], Array]
"""Maps (weights, users [B, D], items [S, D] or [B, N, D]) to scores [B, S] or [B, N]."""


class _Form(NamedTuple):
    """Static options of :func:`mean`."""

    loss: str
    temperature: float
    dtype: str
    pairs: PairFn | None = None
    margin: float | None = None

    @property
    def score_loss(self) -> Loss:
        if self.margin is not None:
            return partial(hinge, margin=self.margin)
        return of_name(self.loss)


class _Rows(NamedTuple):
    user_BD: Array
    pos_BD: Array
    neg: Array
    own_BHD: Array | None
    weights: Any = None


class LogQ(NamedTuple):
    """Log probabilities with which items were drawn; sampled softmax subtracts them from scores.

    Source: Bengio and Senécal 2008; for in-batch negatives Yi et al., RecSys 2019.

    Attributes:
      pos_B: log probability of each pair's positive.
      neg: log probabilities of the negatives, [S] if shared, or [B, N].
    """

    pos_B: Float[Array, "B"]
    neg: Float[Array, "S"] | Float[Array, "B N"]


def _mean(
    form: _Form, x: _Rows, share_B: Array, valid_BN: Array | None, log_q: LogQ | None
) -> Array:
    x = jax.tree.map(lambda part: part.astype(form.dtype), x)
    score = partial(form.pairs or products, x.weights, x.user_BD)
    if form.pairs is None:
        product = partial(jnp.einsum, preferred_element_type=jnp.float32)
        pos_B = product("bd,bd->b", x.user_BD, x.pos_BD) / form.temperature
    else:
        pos_B = score(x.pos_BD[:, None])[:, 0] / form.temperature
    neg_BN = score(x.neg) / form.temperature
    if log_q is not None:
        pos_B, neg_BN = pos_B - log_q.pos_B, neg_BN - log_q.neg
    if x.own_BHD is not None:
        neg_BN = jnp.concatenate([neg_BN, score(x.own_BHD) / form.temperature], axis=1)
    return jnp.sum(share_B * form.score_loss(pos_B, neg_BN, valid_BN))


def products(
    _: None, user_BD: Float[Array, "B D"], item: Float[Array, "S D"] | Float[Array, "B N D"]
) -> Float[Array, "B S"] | Float[Array, "B N"]:
    """Score each user by u · v with all S shared items, or with the N items of the user's pair."""
    pattern = "bd,sd->bs" if item.ndim == 2 else "bd,bnd->bn"
    return jnp.einsum(pattern, user_BD, item, preferred_element_type=jnp.float32)


def _blocks(x: Array, n_blocks: int) -> Array:
    """Reshape [B, ...] to [n_blocks, B / n_blocks, ...], padding B with zeros."""
    padding = -len(x) % n_blocks
    padded = jnp.pad(x, [(0, padding), *[(0, 0)] * (x.ndim - 1)])
    return padded.reshape(n_blocks, -1, *x.shape[1:])


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _shared_mean(
    form: _Form, x: _Rows, share_B: Array, valid_BS: Array | None, log_q: LogQ | None
) -> Array:
    return _mean(form, x, share_B, valid_BS, log_q)


def _shared_forward(
    form: _Form, x: _Rows, share_B: Array, valid_BS: Array | None, log_q: LogQ | None
) -> tuple[Array, _Rows]:
    """Compute value and gradient together by blocks, so that few scores exist at a time."""
    n_blocks = -(-len(share_B) // _block_size(len(x.neg)))
    value_and_grad = jax.value_and_grad(_mean, argnums=1)

    def body(sums: tuple, block: tuple) -> tuple[tuple, tuple]:
        user_BD, pos_BD, own_BHD, share_B, valid_BS, log_q_B = block
        rows = _Rows(user_BD, pos_BD, x.neg, own_BHD, x.weights)
        block_log_q = None if log_q is None else LogQ(log_q_B, log_q.neg)
        value, gradient = value_and_grad(form, rows, share_B, valid_BS, block_log_q)
        terms = value, gradient.neg, gradient.weights
        return jax.tree.map(jnp.add, sums, terms), (
            gradient.user_BD,
            gradient.pos_BD,
            gradient.own_BHD,
        )

    log_q_B = None if log_q is None else log_q.pos_B
    parts = (x.user_BD, x.pos_BD, x.own_BHD, share_B, valid_BS, log_q_B)
    blocks = jax.tree.map(lambda part: _blocks(part, n_blocks), parts)
    start = jnp.float32(0), *jax.tree.map(jnp.zeros_like, (x.neg, x.weights))
    (value, neg, weights), per_pair = jax.lax.scan(body, start, blocks)
    user_BD, pos_BD, own_BHD = jax.tree.map(
        lambda g: g.reshape(-1, *g.shape[2:])[: len(share_B)], per_pair
    )
    return value, _Rows(user_BD, pos_BD, neg, own_BHD, weights)


def _shared_backward(form: _Form, gradient: _Rows, g: Array) -> tuple[_Rows, None, None, None]:
    return jax.tree.map(lambda part: g * part, gradient), None, None, None


_shared_mean.defvjp(_shared_forward, _shared_backward)


def mean(
    name: str,
    user_BD: Float[Array, "B D"],
    pos_BD: Float[Array, "B D"],
    neg: Float[Array, "S D"] | Float[Array, "B N D"],
    share_B: Float[Array, "B"],
    valid_BN: Bool[Array, "B _"] | None = None,
    log_q: LogQ | None = None,
    own_BHD: Float[Array, "B H D"] | None = None,
    *,
    temperature: float | Array = 1.0,
    dtype: str = "float32",
    pairs: PairFn | None = None,
    weights: Any = None,
    margin: float | None = None,
) -> Float[Array, ""]:
    """Compute Σ_b share_b · loss(u_b·p_b / T, u_b·n / T) for the named loss.

    u_b and p_b are the embeddings of pair b's user and positive, and n those of its negatives. With
    negatives that all pairs share, value and gradient are computed together in blocks of
    pairs, so only the scores of one block exist at a time. The result is differentiable in
    the embeddings and the weights.

    Args:
      name: see :func:`of_name`.
      user_BD, pos_BD: embeddings, float32.
      neg: embeddings of the negatives, [S, D] if all pairs share them, or [B, N, D].
      share_B: weight of each pair.
      valid_BN: which negatives count for a pair; None counts all. There is a column for each of the
        N or S negatives of ``neg``, followed by H columns for ``own_BHD``.
      log_q: log probabilities to subtract from the scores, except those of ``own_BHD``, or None.
      own_BHD: H more negatives per pair, or None.
      temperature: T. If trials train together, T may be an array. Then the users' vectors are
        divided by T, which divides scores by T only if scores are products.
      dtype: number type of the products; their sums are float32.
      pairs: scoring function to use with ``weights`` instead of products. Pass the same function
        object at each call, or JAX traces it again.
      margin: margin of the hinge loss.
    """
    if isinstance(temperature, jax.Array):
        user_BD, temperature = user_BD / temperature, 1.0
    form = _Form(name, temperature, dtype, pairs, margin)
    rows = _Rows(user_BD, pos_BD, neg, own_BHD, weights)
    total = _shared_mean if neg.ndim == 2 else _mean
    return total(form, rows, share_B, valid_BN, log_q)


class Scored(NamedTuple):
    """Scores and weights of item pairs and of their sampled negatives.

    Attributes:
      pos, pos_weight: scores and weights of the pairs, of any shape.
      target: score that each pair should have, for losses that use it.
      neg, neg_weight: scores and weights of negatives. If pairs share negatives, one score replaces
        those of several negatives, and has their summed weight.
    """

    pos: Float[Array, "*pairs"]
    pos_weight: Float[Array, "*pairs"]
    target: Float[Array, "*pairs"]
    neg: Float[Array, "*negatives"]
    neg_weight: Float[Array, "*negatives"]


def sgns(x: Scored) -> Float[Array, ""]:
    """Compute skip-gram with negative sampling: Σ w · -log σ(pos) + Σ v · -log σ(-neg).

    w and v are the weights of the pairs and of the negatives. Source: Mikolov et al.,
    "Distributed representations of words and phrases", NIPS 2013, eq. 4.
    """
    return jnp.sum(x.pos_weight * _softplus(-x.pos)) + jnp.sum(x.neg_weight * _softplus(x.neg))


def weights(x: Scored) -> Float[Array, ""]:
    """Compute Σ w · (pos - target)² + Σ v · neg², a regression with target 0 for negatives.

    w and v are the weights of the pairs and of the negatives.
    """
    return jnp.sum(x.pos_weight * jnp.square(x.pos - x.target)) + jnp.sum(
        x.neg_weight * jnp.square(x.neg)
    )


PAIR_LOSSES = {"sgns": sgns, "weights": weights}
"""Losses of item models by their name in loss.name."""


@jax.custom_vjp
def _softplus(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Compute log(1 + e^x), with one exponential for both value and gradient."""
    return _softplus_forward(x)[0]


def _softplus_forward(x: Array) -> tuple[Array, Array]:
    small = jnp.exp(-jnp.abs(x))
    return jnp.maximum(x, 0) + jnp.log1p(small), jnp.where(x >= 0, 1, small) / (1 + small)


_softplus.defvjp(_softplus_forward, lambda sigmoid, g: (g * sigmoid,))


def squared_norm(x: Float[Array, "*rows D"]) -> Float[Array, "*rows"]:
    """Return |x|^2 of each row."""
    return jnp.sum(jnp.square(x), axis=-1)
