"""TrainState and the pure train step: (state, data) to the next state, under one scan."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec import losses
from jaxrec.config import Config
from jaxrec.graph.bipartite import Bipartite
from jaxrec.models import Nodes
from jaxrec.rowwise import RowOptimizer, distinct
from jaxrec.train.draw import Batch, TrainData, draw

SCAN_LENGTH = 128  # steps compiled into one dispatch; a dispatch may ask for fewer


class Totals(NamedTuple):
    """Sums since the last line of the log.

    Attributes:
      loss: of the steps' losses, L2 included.
      l2: of the L2 part alone.
      steps: how many steps the sums hold.
      bad_step: the first step whose loss was not finite, or -1.
    """

    loss: Float[Array, ""]
    l2: Float[Array, ""]
    steps: Int[Array, ""]
    bad_step: Int[Array, ""]


class TrainState(NamedTuple):
    """All that changes from step to step. Random numbers come from (key, step) alone."""

    step: Int[Array, ""]
    params: nnx.State
    opt_state: Any  # optax's, or a RowState
    totals: Totals


@dataclass(frozen=True)
class Stepper:
    """The static half of a step: configuration, the encoder's structure and the optimizer.

    With a :class:`RowOptimizer` the parameters are one table, whose rows are the embeddings.
    """

    config: Config
    graphdef: nnx.GraphDef
    tx: optax.GradientTransformation | RowOptimizer
    n_users: int
    n_items: int

    def init(self, params: nnx.State) -> TrainState:
        """The state before step 0."""
        tx = self.tx
        state = tx.init(_table(params)) if isinstance(tx, RowOptimizer) else tx.init(params)
        return TrainState(jnp.int32(0), params, state, zero_totals())

    def current(self, state: TrainState) -> nnx.State:
        """The parameters to score with: rows that a row-wise optimizer left behind brought up."""
        if not isinstance(self.tx, RowOptimizer):
            return state.params
        return _with_table(state.params, self.tx.current(_table(state.params), state.opt_state))

    def nodes(self, params: nnx.State, graph: Bipartite) -> Nodes:
        """Final embeddings in the data set's order, of length 1 where the score is cosine."""
        nodes = self._scored(nnx.merge(self.graphdef, params)(graph))
        return Nodes(*map(graph.in_data_order, nodes))

    def _scored(self, nodes: Nodes) -> Nodes:
        if self.config.model.score == "dot":
            return nodes
        return nodes._replace(emb_ND=unit_rows(nodes.emb_ND))

    def batch(self, data: TrainData, step: Int[Array, ""]) -> Batch:
        """The batch of a step, drawn on the device from (key, step)."""
        return draw(self.config, self.n_items, data, step)

    def loss(
        self, params: nnx.State, graph: Bipartite, batch: Batch, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Mean loss of the batch with its L2, and the L2 part alone; the key is for dropout."""
        node_R = self._nodes_of(batch)
        rows = nnx.merge(self.graphdef, params).rows(graph, graph.places(node_R), key)
        return self._loss_of(rows, batch)

    def _dropout_key(self, data: TrainData, step: Array) -> PRNGKeyArray | None:
        if not self.config.model.drops:
            return None
        return jax.random.fold_in(jax.random.fold_in(data.key, 2), step)

    def _nodes_of(self, batch: Batch) -> Int[Array, "R"]:
        user_B, item_B, _ = batch.positives
        hard = () if batch.hard_BH is None else (batch.hard_BH.reshape(-1),)
        items = jnp.concatenate([item_B, batch.neg.reshape(-1), *hard])
        return jnp.concatenate([user_B, items + self.n_users])

    def _loss_of(self, rows: Nodes, batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The loss from the rows of ``_nodes_of``.

        L2 is l2 / 2 · (|u|² + |i|² + mean_n |n|²) on the table's rows, averaged over the pairs
        as the loss is (LightGCN-PyTorch's form for one negative). Hard negatives that count add the
        sum of their |h|² over the most that there can be.
        """
        rows, weight_B = self._scored(rows), batch.positives.weight_B
        n_pairs = len(weight_B)
        rows, batch = self._hardest(rows, batch)

        def parts(x_RD: Array) -> tuple[Array, Array, Array, Array | None]:
            ends = [n_pairs, 2 * n_pairs, 2 * n_pairs + batch.neg.size]
            user_BD, pos_BD, neg_RD, own_RD = jnp.split(x_RD, ends)
            neg = neg_RD.reshape(*batch.neg.shape, -1)
            hard_BH = batch.hard_BH
            own_BHD = None if hard_BH is None else own_RD.reshape(*hard_BH.shape, -1)
            return user_BD, pos_BD, neg, own_BHD

        share_B = weight_B / jnp.sum(weight_B)
        form = {"temperature": self.config.loss.temperature, "dtype": self.config.model.dtype}
        name, valid_BN = self.config.loss.name, batch.valid_BN
        user_BD, pos_BD, neg, own_BHD = parts(rows.emb_ND)
        weighed = share_B, valid_BN, batch.log_q, own_BHD
        value = losses.mean(name, user_BD, pos_BD, neg, *weighed, **form)
        l2 = jnp.float32(0)
        if self.config.train.l2 > 0:
            user_B, pos_B, neg, own_BH = jax.tree.map(losses.squared_norm, parts(rows.base_ND))
            norm_B = user_B + pos_B + jnp.mean(neg, axis=-1)
            if own_BH is not None:
                assert valid_BN is not None
                used_BH = valid_BN[:, -own_BH.shape[1] :]
                norm_B += jnp.sum(jnp.where(used_BH, own_BH, 0), axis=1) / own_BH.shape[1]
            l2 = self.config.train.l2 / 2 * jnp.sum(share_B * norm_B)
        return value + l2, l2

    def _hardest(self, rows: Nodes, batch: Batch) -> tuple[Nodes, Batch]:
        """Of each negative's candidates the one that its user scores highest now.

        Source: Zhang et al., "Optimizing top-N collaborative filtering via dynamic negative item
        sampling", SIGIR 2013.
        """
        config = self.config.negatives
        if config.candidates == 1:
            return rows, batch
        n_pairs = len(batch.positives.user_B)
        user_BD, neg_RD = rows.emb_ND[:n_pairs], rows.emb_ND[2 * n_pairs :]
        neg_BND = neg_RD.reshape(n_pairs, -1, neg_RD.shape[-1])
        score_BN = jnp.einsum("bd,bnd->bn", *map(jax.lax.stop_gradient, (user_BD, neg_BND)))
        if batch.valid_BN is not None:
            score_BN = jnp.where(batch.valid_BN, score_BN, -jnp.inf)
        score_BNC = score_BN.reshape(n_pairs, config.count, config.candidates)
        first_N = jnp.arange(config.count, dtype=jnp.int32) * config.candidates
        place_BN = jnp.argmax(score_BNC, axis=2).astype(jnp.int32) + first_N

        def chosen(x_BN: Array) -> Array:
            return jnp.take_along_axis(x_BN, place_BN, axis=1)

        row_BN = chosen(jnp.arange(2 * n_pairs, len(rows.emb_ND)).reshape(n_pairs, -1))
        row_R = jnp.concatenate([jnp.arange(2 * n_pairs), row_BN.reshape(-1)])
        valid_BN = None if batch.valid_BN is None else chosen(batch.valid_BN)
        kept = batch._replace(neg=chosen(batch.neg), valid_BN=valid_BN)
        return Nodes(*(x_RD[row_R] for x_RD in rows)), kept

    def step(self, state: TrainState, data: TrainData) -> TrainState:
        """One step: batch, loss, gradient, update."""
        batch = self.batch(data, state.step)
        if isinstance(self.tx, RowOptimizer):
            made = self._update_rows(self.tx, state, data.graph, batch)
        else:
            key = self._dropout_key(data, state.step)
            made = self._update(self.tx, state, data.graph, batch, key)
        loss, l2, params, opt_state = made
        seen = state.totals
        first_bad = (seen.bad_step < 0) & ~jnp.isfinite(loss)
        totals = Totals(
            seen.loss + loss,
            seen.l2 + l2,
            seen.steps + 1,
            jnp.where(first_bad, state.step, seen.bad_step),
        )
        return TrainState(state.step + 1, params, opt_state, totals)

    def _update(
        self,
        tx: optax.GradientTransformation,
        state: TrainState,
        graph: Bipartite,
        batch: Batch,
        key: PRNGKeyArray | None,
    ) -> tuple[Array, Array, Any, Any]:
        (loss, l2), gradient = jax.value_and_grad(self.loss, has_aux=True)(
            state.params, graph, batch, key
        )
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it, whatever is set outside
            updates, opt_state = tx.update(gradient, state.opt_state, state.params)
        return loss, l2, optax.apply_updates(state.params, updates), opt_state

    def _update_rows(
        self, tx: RowOptimizer, state: TrainState, graph: Bipartite, batch: Batch
    ) -> tuple[Array, Array, Any, Any]:
        table_ND = _table(state.params)
        row_R, slot_B = distinct(graph.places(self._nodes_of(batch)), table_ND.shape[0])
        read = tx.read(table_ND, state.opt_state, row_R)

        def loss_of(x_RD: Array) -> tuple[Array, Array]:
            return self._loss_of(Nodes(x_RD[slot_B], x_RD[slot_B]), batch)

        (loss, l2), gradient_RD = jax.value_and_grad(loss_of, has_aux=True)(read.x_RD)
        table_ND, opt_state = tx.write(table_ND, state.opt_state, row_R, read, gradient_RD)
        return loss, l2, _with_table(state.params, table_ND), opt_state

    def dispatch(
        self, state: TrainState, data: TrainData, n: Int[Array, ""]
    ) -> tuple[TrainState, Totals]:
        """n <= SCAN_LENGTH steps under one scan: what the loop jits, with the state donated.

        The scan has a fixed length and skips what lies past n, so that one compiled program
        serves every n and the bits do not depend on how a run is cut into dispatches. The totals
        come out once more, in buffers that the next dispatch does not take.
        """

        def body(state: TrainState, i: Array) -> tuple[TrainState, None]:
            return jax.lax.cond(i < n, lambda s: self.step(s, data), lambda s: s, state), None

        state, _ = jax.lax.scan(body, state, jnp.arange(SCAN_LENGTH, dtype=jnp.int32))
        return state, state.totals


def _table(params: nnx.State) -> Float[Array, "N D"]:
    (table_ND,) = jax.tree.leaves(params)
    return table_ND


def _with_table(params: nnx.State, table_ND: Float[Array, "N D"]) -> nnx.State:
    return jax.tree.unflatten(jax.tree.structure(params), [table_ND])


def zero_totals() -> Totals:
    """Empty sums, each in a buffer of its own (donation takes every buffer once)."""
    return Totals(jnp.zeros(()), jnp.zeros(()), jnp.int32(0), jnp.array(-1, jnp.int32))


def unit_rows(x: Float[Array, "*rows D"]) -> Float[Array, "*rows D"]:
    """x / |x| by rows; a row of zeros stays zeros, with a gradient of zeros."""
    square = losses.squared_norm(x)[..., None]
    return x * jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)
