"""Losses of a batch of scores: pure, elementwise in the pairs, safe at any score.

Every loss takes pos_B [B] and neg_BN [B, N] and gives one value a pair, [B]; the caller
averages over the pairs. ``valid_BN`` switches single negatives off (known positives in a shared
set); a pair without a valid negative costs 0 in ``bpr``.

The CS224W lecture behind this project prints its mini-batch BPR loss as
-log(σ(pos) - σ(neg)), which is undefined wherever pos <= neg. What Rendle et al. (2009), and
the lecture's own sentence above the formula, mean is -log σ(pos - neg), with a mean over the
pairs outside the logarithm. Summing the scores of many pairs inside one sigmoid is another
mistake with a name: it saturates, and embeddings collapse.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrec import registry


@runtime_checkable
class Loss(Protocol):
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
    """Bayesian personalised ranking: 1/N Σ_n -log σ(pos - neg_n), as softplus(neg_n - pos).

    Source: Rendle et al., UAI 2009. log 2 at equal scores.
    """
    return _mean_valid(jax.nn.softplus(neg_BN - pos_B[:, None]), valid_BN)


def bce(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """The binary loss: -log σ(pos) - 1/N Σ_n log(1 - σ(neg_n)), as two softplus.

    Source: CS224W, lecture on recommender systems, "binary loss". 2 log 2 at scores of 0.
    """
    return jax.nn.softplus(-pos_B) + _mean_valid(jax.nn.softplus(neg_BN), valid_BN)


def sampled_softmax(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """-log( e^pos / (e^pos + Σ_n e^neg_n) ), by logsumexp (log(1 + N) at equal scores).

    Source: Wu et al., "On the effectiveness of sampled softmax loss", 2022.
    """
    if valid_BN is not None:
        neg_BN = jnp.where(valid_BN, neg_BN, -jnp.inf)
    # logsumexp over both, without an array that holds both
    top_B = jax.lax.stop_gradient(jnp.maximum(jnp.max(neg_BN, axis=1, initial=-jnp.inf), pos_B))
    of_neg_B = jnp.sum(jnp.exp(neg_BN - top_B[:, None]), axis=1)
    return jnp.log(of_neg_B + jnp.exp(pos_B - top_B)) + top_B - pos_B


def triplet(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
) -> Float[Array, "B"]:
    """1/N Σ_n 1 - σ(pos - neg_n), as σ(neg_n - pos): 1/2 at equal scores, and bounded.

    BPR without its logarithm (a smooth count of the pairs in the wrong order, an AUC): its gradient
    vanishes where a pair is far from right as well as where it is right.
    """
    return _mean_valid(jax.nn.sigmoid(neg_BN - pos_B[:, None]), valid_BN)


def hinge(
    pos_B: Float[Array, "B"],
    neg_BN: Float[Array, "B N"],
    valid_BN: Bool[Array, "B N"] | None = None,
    margin: float = 1.0,
) -> Float[Array, "B"]:
    """1/N Σ_n max(0, margin - pos + neg_n); the margin at equal scores.

    Source: Weston et al., "WSABIE", IJCAI 2011, without its weights of ranks; the triplet loss of
    Schroff et al. 2015 is the same of distances.
    """
    return _mean_valid(jax.nn.relu(neg_BN - pos_B[:, None] + margin), valid_BN)


def squared_error(score_B: Float[Array, "B"], rating_B: Float[Array, "B"]) -> Float[Array, "B"]:
    """(r - r̂)². Its mean at the ratings' mean is their variance."""
    return jnp.square(rating_B - score_B)


def level_loss(logit_BR: Float[Array, "B R"], level_B: Int[Array, "B"]) -> Float[Array, "B"]:
    """-log P(level) with P = softmax(logits); log R at equal logits.

    Source: van den Berg et al., "Graph convolutional matrix completion", 2018, section 2.5.
    """
    at_B1 = jnp.take_along_axis(logit_BR, level_B[:, None], axis=1)
    return jax.nn.logsumexp(logit_BR, axis=1) - at_B1[:, 0]


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
"""The losses of rankings at a single gap, by name: see :func:`at_gap`."""


def at_gap(name: str, gap: float, negatives: float = 1.0, margin: float = 1.0) -> float:
    """The named loss of a pair whose positive scores gap / 2, and each negative -gap / 2.

    A gap of 0 is a constant prediction; scores within ±s cost the least at a gap of 2 s.

    Args:
      name: see :func:`of_name`; of a registered loss it is what that gives for such scores.
      negatives: how many there are, N: softmax is log(1 + N e^-gap), and the others are means over
        negatives. Where ``LogQ`` is taken off the scores, Σ_n q_pos / q_n.
      margin: of hinge.
    """
    if name in AT_GAP:
        return AT_GAP[name](gap, negatives, margin)
    n = max(1, round(negatives))
    if gap == 0 and name in registry.CONSTANTS:
        return float(registry.CONSTANTS[name](n))
    pos_B, neg_BN = jnp.full(1, gap / 2), jnp.full((1, n), -gap / 2)
    loss: Any = of_name(name)
    if name in registry.OF_EMBEDDINGS:  # of vectors whose products are these scores
        one, pos_BD, neg_BND = jnp.ones((1, 1)), pos_B[:, None], neg_BN[:, :, None]
        return float(loss(one, pos_BD, neg_BND, jnp.ones(1), None, 1.0))
    return float(loss(pos_B, neg_BN)[0])


def variance(rating_E: np.ndarray, weight_E: np.ndarray | None = None) -> float:
    """``squared_error`` of the best constant prediction, which is the mean of the ratings."""
    rating_E = rating_E.astype(np.float64)
    mean = np.average(rating_E, weights=weight_E)
    return float(np.average(np.square(rating_E - mean), weights=weight_E))


def entropy(level_E: np.ndarray, weight_E: np.ndarray | None = None) -> float:
    """``level_loss`` of the best constant prediction, which is how often each level occurs."""
    count_R = np.bincount(level_E, weight_E).astype(np.float64)
    share_R = count_R[count_R > 0] / count_R.sum()
    return float(-np.sum(share_R * np.log(share_R)))


def constant_of_pairs(name: str, per_pair: float, weight_E: np.ndarray) -> float:
    """A loss of ``PAIR_LOSSES`` for the best constant score, per pair.

    The best score has the sigmoid 1 / (1 + k) in ``sgns``, with k negatives a pair; in ``weights``
    it is the mean weight over 1 + k, for weights that are 0 of the negatives.

    Args:
      per_pair: k.
      weight_E: of the pairs.
    """
    if name == "sgns":
        return float(np.log1p(per_pair) + per_pair * np.log1p(1 / per_pair))
    mean = float(np.mean(weight_E, dtype=np.float64))
    return float(np.var(weight_E, dtype=np.float64)) + mean**2 * per_pair / (1 + per_pair)


def of_name(name: str) -> Loss:
    """The loss of a name: one of ``LOSSES``, or one that a user has registered.

    Raises:
      InputError: there is none of this name.
    """
    return LOSSES[name] if name in LOSSES else registry.LOSSES.get(name)


_BLOCK = 512  # pairs at once against shared negatives: their scores then stay in a core's cache


PairFn = Callable[[Any, Array, Array], Array]
"""(weights, user [B, D], items [S, D] or [B, N, D]) to scores [B, S] or [B, N]."""


class _Form(NamedTuple):
    """How embeddings are scored: the static part."""

    loss: str
    temperature: float
    dtype: str
    pairs: PairFn | None = None
    margin: float | None = None

    @property
    def of_scores(self) -> Loss:
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
    """Logarithms of the probabilities with which items were drawn, which softmax takes off.

    Source: Bengio and Senécal 2008; for in-batch negatives Yi et al., RecSys 2019.

    Attributes:
      pos_B: of each pair's positive.
      neg: of the negatives, [S] for shared ones or [B, N].
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
    return jnp.sum(share_B * form.of_scores(pos_B, neg_BN, valid_BN))


def products(
    _: None, user_BD: Float[Array, "B D"], item: Float[Array, "S D"] | Float[Array, "B N D"]
) -> Float[Array, "B S"] | Float[Array, "B N"]:
    """u · v of every user with all items, or with its own: the plain score of pairs."""
    pattern = "bd,sd->bs" if item.ndim == 2 else "bd,bnd->bn"
    return jnp.einsum(pattern, user_BD, item, preferred_element_type=jnp.float32)


def _blocks(x: Array, n_blocks: int) -> Array:
    """[B, ...] as [n_blocks, B / n_blocks, ...], padded with zeros."""
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
    """Value and gradient together, block by block: no array of B x S is ever whole."""
    n_blocks = -(-len(share_B) // _BLOCK)
    value_and_grad = jax.value_and_grad(_mean, argnums=1)

    def body(sums: tuple, block: tuple) -> tuple[tuple, tuple]:
        user_BD, pos_BD, own_BHD, share_B, valid_BS, log_q_B = block
        rows = _Rows(user_BD, pos_BD, x.neg, own_BHD, x.weights)
        of_block = None if log_q is None else LogQ(log_q_B, log_q.neg)
        value, gradient = value_and_grad(form, rows, share_B, valid_BS, of_block)
        of_all = value, gradient.neg, gradient.weights
        return jax.tree.map(jnp.add, sums, of_all), (
            gradient.user_BD,
            gradient.pos_BD,
            gradient.own_BHD,
        )

    of_pos_B = None if log_q is None else log_q.pos_B
    parts = (x.user_BD, x.pos_BD, x.own_BHD, share_B, valid_BS, of_pos_B)
    blocks = jax.tree.map(lambda part: _blocks(part, n_blocks), parts)
    start = jnp.float32(0), *jax.tree.map(jnp.zeros_like, (x.neg, x.weights))
    (value, neg, weights), of_pairs = jax.lax.scan(body, start, blocks)
    user_BD, pos_BD, own_BHD = jax.tree.map(
        lambda g: g.reshape(-1, *g.shape[2:])[: len(share_B)], of_pairs
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
    temperature: float = 1.0,
    dtype: str = "float32",
    pairs: PairFn | None = None,
    weights: Any = None,
    margin: float | None = None,
) -> Float[Array, ""]:
    """Σ_b share_b · loss(u_b·p_b / T, u_b·n / T), the named loss of the embeddings' products.

    Against negatives that all pairs share, the gradient is made along with the value in blocks of
    pairs, so that the B x S scores stay in cache and are never stored. Differentiable in the
    embeddings and the weights.

    Args:
      name: see :func:`of_name`.
      user_BD, pos_BD: embeddings, float32.
      neg: those of the negatives, [S, D] for all pairs or [B, N, D] of each pair's own.
      share_B: weight of each pair.
      valid_BN: which negatives count for a pair, N = S for shared ones, and H more columns for
        ``own_BHD``; all where None.
      log_q: taken off the scores, but for those of ``own_BHD``; nothing where None.
      own_BHD: further negatives of each pair's own; none where None.
      temperature: T.
      dtype: compute type of the products; their sums are float32.
      pairs: scores instead of the products, with ``weights``; its function must be a lasting one.
      margin: of hinge.
    """
    form = _Form(name, temperature, dtype, pairs, margin)
    rows = _Rows(user_BD, pos_BD, neg, own_BHD, weights)
    of_scores = _shared_mean if neg.ndim == 2 else _mean
    return of_scores(form, rows, share_B, valid_BN, log_q)


class Scored(NamedTuple):
    """Scores of item pairs, and of their sampled negatives, with what each counts.

    Attributes:
      pos, pos_weight: of the pairs, any shape; ``target`` is what a pair's score should be, for
        losses that have such.
      neg, neg_weight: of negatives; a set that stands for n negatives a pair has their weight.
    """

    pos: Float[Array, "*pairs"]
    pos_weight: Float[Array, "*pairs"]
    target: Float[Array, "*pairs"]
    neg: Float[Array, "*negatives"]
    neg_weight: Float[Array, "*negatives"]


def sgns(x: Scored) -> Float[Array, ""]:
    """Σ w · -log σ(pos) + Σ v · -log σ(-neg), summed over pairs and negatives.

    Mikolov et al., "Distributed representations of words and phrases", NIPS 2013, eq. 4.
    """
    return jnp.sum(x.pos_weight * _softplus(-x.pos)) + jnp.sum(x.neg_weight * _softplus(x.neg))


def weights(x: Scored) -> Float[Array, ""]:
    """Σ w · (pos - target)² + Σ v · neg²: pairs by their weights, sampled ones by 0."""
    return jnp.sum(x.pos_weight * jnp.square(x.pos - x.target)) + jnp.sum(
        x.neg_weight * jnp.square(x.neg)
    )


PAIR_LOSSES = {"sgns": sgns, "weights": weights}
"""Losses of item pairs, by loss.name."""


@jax.custom_vjp
def _softplus(x: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """log(1 + e^x), value and gradient of one exponential."""
    return _softplus_forward(x)[0]


def _softplus_forward(x: Array) -> tuple[Array, Array]:
    small = jnp.exp(-jnp.abs(x))
    return jnp.maximum(x, 0) + jnp.log1p(small), jnp.where(x >= 0, 1, small) / (1 + small)


_softplus.defvjp(_softplus_forward, lambda sigmoid, g: (g * sigmoid,))


def squared_norm(x: Float[Array, "*rows D"]) -> Float[Array, "*rows"]:
    """|x|^2 of each row."""
    return jnp.sum(jnp.square(x), axis=-1)
