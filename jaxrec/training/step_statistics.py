"""Statistics of steps for the doctor: gradients by group of parameters, and faulty negatives.

The statistics are measured in every ``EVERY``-th step, and summed until the next log record.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrec.data.dataset import Csr
from jaxrec.graph.csr import DeviceCsr, contains
from jaxrec.optax_chain import Accumulated
from jaxrec.training.batch import Batch, TrainData

EVERY = 32
_NEGATIVES = 8  # number of negatives that are inspected per pair


class Against(NamedTuple):
    """Counts of the negatives of a batch; all are 0 in steps that are not watched.

    Attributes:
      negatives: number of unmasked negatives that were inspected.
      known: number of these negatives that are among the user's train items.
      alike: number of these negatives that have the same inputs as the positive.
    """

    negatives: Int[Array, ""]
    known: Int[Array, ""]
    alike: Int[Array, ""]


class Signs(NamedTuple):
    """Sums over the watched steps since the last record of the log.

    Attributes:
      steps: number of watched steps with a finite gradient.
      norm_P: norms of the gradient, by group of parameters.
      fresh: norms of the whole gradient of the step's loss.
      fed: norms of the optimizer's input, which is a sum if gradients are accumulated.
      against: counts of negatives.
    """

    steps: Int[Array, ""]
    norm_P: Float[Array, "P"]
    fresh: Float[Array, ""]
    fed: Float[Array, ""]
    against: Against


def _none() -> Against:
    return Against(*(jnp.zeros((), jnp.int32) for _ in Against._fields))


def zero_signs(n_parts: int) -> Signs:
    """Return zero sums in separate buffers."""
    zeros = jnp.zeros(()), jnp.zeros(())
    return Signs(jnp.zeros((), jnp.int32), jnp.zeros(n_parts), *zeros, _none())


def _is_watched(step: Int[Array, ""]) -> Bool[Array, ""]:
    return step % EVERY == 0


def look(batch: Batch, data: TrainData, step: Int[Array, ""]) -> Against:
    """Count the inspected negatives of a batch, and the faulty negatives among them."""

    def count() -> Against:
        neg_BN, used_BN = batch.negatives()
        neg_BN, used_BN = neg_BN[:, :_NEGATIVES], used_BN[:, :_NEGATIVES]
        user_B, item_B = batch.positives.user_B, batch.positives.item_B
        used_BN = used_BN & (batch.positives.weight_B > 0)[:, None]
        known_BN = contains(data.known, user_B, neg_BN)
        alike_BN = neg_BN == item_B[:, None]
        if data.input_I is not None:
            alike_BN = data.input_I[neg_BN] == data.input_I[item_B][:, None]
        seen = used_BN, used_BN & known_BN, used_BN & alike_BN
        return Against(*(jnp.sum(x, dtype=jnp.int32) for x in seen))

    if batch.neg.size == 0 and batch.hard_BH is None:
        return _none()
    return jax.lax.cond(_is_watched(step), count, _none)


def _name(path: Any) -> str:
    """Return a parameter's group: the first name of its path."""
    keys = jax.tree_util.keystr(path) if isinstance(path, tuple) else str(path)
    return keys.split("'")[1]


def _by_path(tree: Any) -> list[tuple[str, Any]]:
    """Return (group, leaf) for each leaf of a tree, or of a dictionary whose keys are paths."""
    if isinstance(tree, dict):
        return [(_name(key), leaf) for key, leaf in tree.items()]
    return [(_name(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]


def parts_of(params: Any) -> tuple[str, ...]:
    """Return the groups of a model's parameters, sorted by name."""
    return tuple(sorted({name for name, _ in _by_path(params)}))


def _square(leaf: Array) -> Float[Array, ""]:
    return jnp.sum(jnp.square(leaf.astype(jnp.float32)))


def watched(
    signs: Signs,
    parts: tuple[str, ...],
    step: Int[Array, ""],
    gradient: Any,
    opt_state: Any,
    against: Against | None,
) -> Signs:
    """Add this step to the sums, if the step is watched.

    Args:
      parts: names of the groups of parameters, for ``norm_P``.
      gradient: gradient of the step's loss.
      opt_state: optimizer state after the update.
      against: counts over the step's negatives.
    """

    def add(signs: Signs) -> Signs:
        named = _by_path(gradient)
        square_P = jnp.stack(
            [sum((_square(x) for name, x in named if name == p), jnp.zeros(())) for p in parts]
        )
        fresh = jnp.sqrt(jnp.sum(square_P))
        totals = [s for s in jax.tree.leaves(opt_state, is_leaf=_is_sum) if _is_sum(s)]
        fed = fresh
        if totals:
            fed = jnp.sqrt(sum(map(_square, jax.tree.leaves(totals)), jnp.zeros(())))
        good = jnp.isfinite(fresh) & jnp.isfinite(fed)
        found = Signs(jnp.int32(1), jnp.sqrt(square_P), fresh, fed, signs.against)
        return jax.tree.map(
            lambda old, new: jnp.where(good, old + new, old), signs._replace(against=_none()), found
        )._replace(against=signs.against)

    made = jax.lax.cond(_is_watched(step), add, lambda signs: signs, signs)
    if against is None:
        return made
    return made._replace(against=jax.tree.map(jnp.add, signs.against, against))


def _is_sum(x: Any) -> bool:
    return isinstance(x, Accumulated)


def record(signs: Signs | None, parts: tuple[str, ...]) -> dict[str, float]:
    """Return the means and shares for the log, computed from the sums."""
    if signs is None:
        return {}
    found, steps = {}, int(signs.steps)
    if steps:
        found = {
            f"gradient/{p}": float(x) / steps for p, x in zip(parts, signs.norm_P, strict=True)
        }
        found["gradient"] = float(signs.fresh) / steps
        found["fed_gradient"] = float(signs.fed) / steps
    negatives, known, alike = (int(x) for x in signs.against)
    if negatives:
        found |= {"false_negatives": known / negatives, "identical_inputs": alike / negatives}
    return found


def counter(train: Csr, validation: Csr) -> Callable[[Batch], np.ndarray]:
    """Return a function that counts a batch's unmasked negatives.

    The function returns [3]: how many negatives are among the user's train items, how many are
    among the user's validation items, and the number of all negatives.
    """
    liked = [DeviceCsr(jnp.asarray(p.indptr), jnp.asarray(p.indices)) for p in (train, validation)]

    @jax.jit
    def count(batch: Batch, liked: list[DeviceCsr]) -> jax.Array:
        user_B = batch.positives.user_B
        neg_BN, used_BN = batch.negatives()
        known = [jnp.sum(contains(k, user_B, neg_BN) & used_BN) for k in liked]
        return jnp.stack([*known, jnp.sum(used_BN)])

    return lambda batch: jax.device_get(count(batch, liked))
