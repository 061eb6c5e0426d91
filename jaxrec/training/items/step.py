"""The training step of item models, which updates only the rows of its batch."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrec import losses
from jaxrec.config import Config
from jaxrec.graph.rows import counts, take
from jaxrec.models import skipgram
from jaxrec.models.skipgram import Tables
from jaxrec.rowwise import RowOptimizer, distinct_by
from jaxrec.training.items import objective
from jaxrec.training.items.batch import ItemData, Windows, stretches, windows
from jaxrec.training.step import Totals, TrainState, next_state, zero_totals

_OF_FEATURES = 0.03  # factor of the mean gradient that updates a feature's vector
_CHUNK = 16  # number of steps whose sequences are drawn at once


@dataclass(frozen=True)
class ItemStepper:
    """The static part of a training step: configuration and optimizer.

    Attributes:
      tx: the optimizer that updates rows of every table.
    """

    config: Config
    tx: RowOptimizer

    def init(self, tables: Tables) -> TrainState:
        """Return the state before step 0."""
        kept = {name: self.tx.init(_wide(table)) for name, table in tables.items()}
        return TrainState(jnp.int32(0), tables, kept, zero_totals())

    def current(self, state: TrainState) -> Tables:
        """Return the tables for scoring, with pending row-wise updates applied."""
        return {
            name: _flat(self.tx.current(_wide(table), state.opt_state[name]), table)
            for name, table in state.params.items()
        }

    def loss(
        self, rows: Tables, data: ItemData, batch: Windows
    ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, ""]]]:
        """Return a batch's summed loss including L2, the L2 alone, and the weight of its pairs.

        All negatives of a centre together weigh ``negatives.per_pair`` times as much as its pairs.
        The L2 of each pair is l2 / 2 · (|centre|² + |context|²).

        Args:
          rows: for each table, the rows with the numbers that :meth:`rows_of` returns.
        """
        n_stretches, length = batch.item_BL.shape
        groups, count = batch.neg_GS.shape
        n_tokens = n_stretches * length
        own_TD = rows["embedding"][:n_tokens]
        item_T = batch.item_BL.reshape(-1)
        side = None if data.side is None else data.side.take(item_T)
        centre_TD = skipgram.centres(own_TD, side, rows.get("feature"), rows.get("share"))
        context_RD = rows["context" if "context" in rows else "embedding"]
        centre_BLD = centre_TD.reshape(n_stretches, length, -1)
        context_BLD = context_RD[:n_tokens].reshape(centre_BLD.shape)
        centre_GTD = centre_TD.reshape(groups, n_tokens // groups, -1)
        neg_GSD = context_RD[n_tokens:].reshape(groups, count, -1)
        pos_BLL = skipgram.products(centre_BLD, context_BLD)
        neg_GTS = skipgram.products(centre_GTD, neg_GSD)
        if "bias" in rows:
            bias_BL = rows["bias"][:n_tokens].reshape(n_stretches, length)
            pos_BLL += bias_BL[:, :, None] + bias_BL[:, None, :]
            bias_GS = rows["bias"][n_tokens:].reshape(groups, count)
            neg_GTS += bias_BL.reshape(groups, -1, 1) + bias_GS[:, None, :]
        count_BL = jnp.sum(batch.weight_BLL, axis=2)
        share_GT1 = count_BL.reshape(groups, -1, 1) * (self.config.negatives.per_pair / count)
        scored = losses.Scored(
            pos_BLL,
            batch.weight_BLL,
            batch.target_BLL,
            neg_GTS,
            jnp.broadcast_to(share_GT1, neg_GTS.shape),
        )
        value = objective.loss(self.config, scored)
        l2 = jnp.float32(0)
        if self.config.train.l2 > 0:
            as_context_BL = jnp.sum(batch.weight_BLL, axis=1)
            of_centres = jnp.sum(count_BL * losses.squared_norm(centre_BLD))
            of_contexts = jnp.sum(as_context_BL * losses.squared_norm(context_BLD))
            l2 = self.config.train.l2 / 2 * (of_centres + of_contexts)
        return value + l2, (l2, jnp.sum(count_BL))

    def rows_of(self, tables: Tables, data: ItemData, batch: Windows) -> dict[str, Array]:
        """Return for each table the numbers of the rows that the loss reads."""
        item_T = batch.item_BL.reshape(-1)
        both_R = jnp.concatenate([item_T, batch.neg_GS.reshape(-1)])
        rows = {"embedding": item_T if "context" in tables else both_R, "context": both_R}
        rows |= {"bias": both_R, "share": item_T}
        if data.side is not None:
            rows["feature"] = jnp.asarray(data.side.code_IK)[item_T].reshape(-1)
        return {name: rows[name] for name in tables}

    def step(
        self, state: TrainState, scratch: dict[str, Array], data: ItemData, batch: Windows
    ) -> tuple[TrainState, dict[str, Array]]:
        """Run one step: read rows, compute loss and gradient, and write the updated rows.

        Args:
          scratch: for each table, an int32 array with one number per row, whose values do not
            matter. It is overwritten in every step to find the distinct rows of the batch.
        """
        slots, reads = {}, {}
        scratch = dict(scratch)
        for name, row_R in self.rows_of(state.params, data, batch).items():
            scratch[name], distinct_R, slot_R = distinct_by(scratch[name], row_R)
            table = _wide(state.params[name])
            read = self.tx.read(table, state.opt_state[name], distinct_R)
            slots[name], reads[name] = (distinct_R, slot_R), read

        def loss_of(x: Tables) -> tuple[Array, Any]:
            rows = {name: take(x[name], slots[name][1]) for name in x}
            rows = {name: _flat(x, state.params[name]) for name, x in rows.items()}
            if "feature" in rows:
                n_tokens = batch.item_BL.size
                rows["feature"] = rows["feature"].reshape(n_tokens, -1, rows["feature"].shape[-1])
            return self.loss(rows, data, batch)

        at = {name: read.x_RD for name, read in reads.items()}
        (total, (l2, pairs)), gradient = jax.value_and_grad(loss_of, has_aux=True)(at)
        tables, kept = {}, {}
        for name, read in reads.items():
            before = state.params[name]
            if name == "feature":
                # The gradient of a feature's row is a sum over many items. Large steps of the row
                # would soon align these items, so it gets only a part of the mean gradient.
                slot_R = slots[name][1]
                count_R = counts(slot_R, len(slot_R))
                gradient[name] *= _OF_FEATURES / jnp.maximum(count_R, 1)[:, None]
            at = slots[name][0]
            table, kept[name] = self.tx.write(
                _wide(before), state.opt_state[name], at, read, gradient[name]
            )
            tables[name] = _flat(table, before)
        pairs = jnp.maximum(pairs, 1e-9)
        return next_state(state, total / pairs, l2 / pairs, tables, kept), scratch

    def dispatch(
        self, state: TrainState, data: ItemData, n: Int[Array, ""]
    ) -> tuple[TrainState, Totals]:
        """Run n steps, as ``Stepper.dispatch`` does; the training loop jits this method.

        Walks are drawn for ``_CHUNK`` steps at once. The result is the same, to the last bit, for
        any value of ``_CHUNK``.
        """

        def chunk(i: Array, carry: tuple) -> tuple:
            first = i * _CHUNK
            place_C = jnp.arange(_CHUNK, dtype=jnp.int32)
            drawn = stretches(self.config, data, carry[0].step + place_C)

            def one(j: Array, carry: tuple) -> tuple:
                batch = windows(self.config, data, jax.tree.map(lambda x: x[j], drawn))
                state, scratch = carry
                return self.step(state, scratch, data, batch)

            return jax.lax.fori_loop(0, jnp.minimum(n - first, _CHUNK), one, carry)

        # One program runs any n steps, so the lengths of both loops are computed from n. If the
        # loops had fixed lengths and skipped steps by lax.cond, XLA would copy the tables per step.
        scratch = {name: jnp.zeros(len(table), jnp.int32) for name, table in state.params.items()}
        state, _ = jax.lax.fori_loop(0, (n + _CHUNK - 1) // _CHUNK, chunk, (state, scratch))
        return state, state.totals


def _wide(table: Array) -> Array:
    """Return a table in the shape [N, D] that the optimizers take."""
    return table[:, None] if table.ndim == 1 else table


def _flat(x: Array, like: Array) -> Array:
    """Undo :func:`_wide` if the table ``like`` has one axis."""
    return x[..., 0] if like.ndim == 1 else x
