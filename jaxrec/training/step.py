"""TrainState, and the pure train step that maps (state, data) to the next state."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxrec import losses
from jaxrec.config import Config
from jaxrec.graph.bipartite import Bipartite, NodeFeatures
from jaxrec.graph.rows import take
from jaxrec.models import Encoder, LocalEncoder, Nodes
from jaxrec.models.encoder import unit_rows
from jaxrec.optax_chain import TABLE
from jaxrec.platforms import platform_of_programs
from jaxrec.randomness import OfData, child
from jaxrec.rowwise import RowOptimizer, RowState, distinct
from jaxrec.training import negative_choice, objectives
from jaxrec.training.batch import Batch, TrainData, positives
from jaxrec.training.objectives.objective import BatchRows, UserObjective
from jaxrec.training.step_statistics import Against, Signs, look, parts_of, watched, zero_signs


def apply(
    tx: optax.GradientTransformation, gradient: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    """Apply an optax chain; return the next parameters and the chain's next state."""
    with jax.numpy_dtype_promotion("standard"):  # optax relies on this promotion
        updates, opt_state = tx.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def written(table: Array, row: Any, rows: np.ndarray) -> Array:
    """Return a copy of a table in which ``rows`` replace the rows with the numbers ``row``.

    The copy is made on the host to save device memory.
    """
    made = np.array(table)
    made[row] = rows
    return jnp.asarray(made)


def split_table(params: nnx.State) -> tuple[Float[Array, "N D"], dict[str, Array]]:
    """Return the embedding table, and the other parameters by path."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    others = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    (table,) = [path for path in others if path.startswith(f"['{TABLE}']")]
    return others.pop(table), others


def joined_table(
    like: nnx.State, table_ND: Float[Array, "N D"], others: dict[str, Array]
) -> nnx.State:
    """Invert :func:`split_table`: return parameters in the structure of ``like``."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: others.get(jax.tree_util.keystr(path), table_ND), like
    )


SCAN_LENGTH = 128  # the largest number of steps per dispatch


class Totals(NamedTuple):
    """Sums since the last record of the log.

    Attributes:
      loss: sum of the losses, including L2.
      l2: sum of the L2 terms.
      steps: number of steps.
      bad_step: first step with a non-finite loss, or -1.
      signs: statistics for the doctor; None if the doctor is off.
    """

    loss: Float[Array, ""]
    l2: Float[Array, ""]
    steps: Int[Array, ""]
    bad_step: Int[Array, ""]
    signs: Signs | None = None


class Feed(NamedTuple):
    """Inputs of a step besides the state: the batch, and the plan of the table rows to read.

    Attributes:
      block: the encoder's plan for the batch's nodes; None unless the encoder samples neighbours or
        the optimizer is row-wise.
      key: the random key for dropout; None without dropout.
      against: statistics of the negatives for the doctor.
    """

    batch: Batch
    block: Any
    key: PRNGKeyArray | None
    against: Against | None = None


class SplitState(NamedTuple):
    """State of a row-wise optimizer for the table, and of an optax chain for other parameters."""

    rows: RowState
    rest: Any


class TrainState(NamedTuple):
    """The state that changes from step to step. Random numbers depend only on (key, step)."""

    step: Int[Array, ""]
    params: Any  # an nnx.State; for item models, tables by name
    opt_state: Any  # the state of an optax chain, or a SplitState
    totals: Totals


@dataclass(frozen=True)
class Stepper:
    """The static part of a step: configuration, encoder structure and optimizer.

    If ``tx`` is a :class:`RowOptimizer`, it updates the embedding table, and ``rest`` updates the
    other parameters. Otherwise ``tx`` updates all parameters.
    """

    config: Config
    encoder: Encoder  # only the structure, with shapes in place of parameters
    tx: optax.GradientTransformation | RowOptimizer
    n_users: int
    n_items: int
    rest: optax.GradientTransformation

    @cached_property
    def objective(self) -> UserObjective:
        """The training objective."""
        return objectives.of(self.config)

    @cached_property
    def graphdef(self) -> nnx.GraphDef:
        """The structure of the encoder, to merge with parameters."""
        return nnx.graphdef(self.encoder)

    def init(self, params: nnx.State) -> TrainState:
        """Build the state before step 0."""
        state: Any = None
        if isinstance(self.tx, RowOptimizer):
            table_ND, others = split_table(params)
            state = SplitState(self.tx.init(table_ND), self.rest.init(others))
        else:
            state = self.tx.init(params)
        return TrainState(jnp.int32(0), params, state, self.zero_totals())

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the parameter groups whose gradients the doctor watches."""
        return parts_of(nnx.state(self.encoder))

    def zero_totals(self) -> Totals:
        """Return totals of 0 in separate buffers, since a buffer cannot be donated twice."""
        totals = zero_totals()
        if not self.config.log.doctor:
            return totals
        return totals._replace(signs=zero_signs(len(self.parts)))

    def current(self, state: TrainState) -> nnx.State:
        """Return the parameters for scoring, with pending row-wise updates applied."""
        if not isinstance(self.tx, RowOptimizer):
            return state.params
        table_ND, others = split_table(state.params)
        current_ND = self.tx.current(table_ND, state.opt_state.rows)
        return joined_table(state.params, current_ND, others)

    def nodes(self, params: nnx.State, graph: Bipartite) -> Nodes:
        """Compute the final embeddings in the data set's order, normalised for cosine scores."""
        nodes = self._scored(nnx.merge(self.graphdef, params)(graph))
        nodes = Nodes(*map(graph.in_data_order, nodes))
        features = graph.features or NodeFeatures(None, None)
        frozen = self.config.model.frozen_items is not None
        described = features.user is not None, features.item is not None or frozen
        emb_ND = self.objective.filled(nodes.emb_ND, graph, self.n_users, described)
        return nodes._replace(emb_ND=emb_ND)

    def biases(self, params: nnx.State, graph: Bipartite) -> Float[Array, "N"] | None:
        """Return the learned biases of all nodes; None if the model has no biases."""
        bias = nnx.merge(self.graphdef, params).bias
        if bias is None:
            return None
        bias_N1, undescribed = bias[...][:, None], (False, False)
        return self.objective.filled(bias_N1, graph, self.n_users, undescribed)[:, 0]

    def _scored(self, nodes: Nodes) -> Nodes:
        if self.config.model.score == "cosine":
            return nodes._replace(emb_ND=unit_rows(nodes.emb_ND))
        return nodes

    def batch(self, data: TrainData, step: Int[Array, ""]) -> Batch:
        """Draw the batch of a step on the device from (key, step)."""
        pairs = positives(self.config, data, step)
        batch = self.objective.against(self.config, self.n_items, data, pairs, step)
        if data.alike_IF is None:
            return batch
        return negative_choice.by_features(self.config.negatives, data.alike_IF, batch)

    def feed(self, data: TrainData, step: Int[Array, ""]) -> Feed:
        """Draw the batch of a step and plan the rows that it reads; this needs no parameters."""
        batch, key = self.batch(data, step), self._model_key(data, step)
        seen = look(batch, data, step) if self.config.log.doctor else None
        if not (self.config.model.sampled or isinstance(self.tx, RowOptimizer)):
            return Feed(batch, None, key, seen)
        row_R = data.graph.places(self._nodes_of(batch))
        encoder = cast(LocalEncoder, self.encoder)  # the configuration ensures this
        return Feed(batch, encoder.plan(data.graph, row_R, key), None, seen)

    def loss(
        self, params: nnx.State, graph: Bipartite, feed: Feed
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return the mean loss of the batch (including L2), and the L2 term alone."""
        model = nnx.merge(self.graphdef, params)
        if feed.block is None:
            row_R = graph.places(self._nodes_of(feed.batch))
            if self.objective.takes_all_rows(len(row_R), graph.n_nodes):
                rows = Nodes(*(take(x_ND, row_R) for x_ND in model(graph, feed.key)))
            else:
                rows = model.rows(graph, row_R, feed.key)
            return self._loss_of(rows, feed.batch, model)
        table_ND = model.embedding
        table_MD = None if table_ND is None else take(table_ND[...], feed.block.node_M)
        return self._loss_of(model.of_block(graph, table_MD, feed.block), feed.batch, model)

    def rows_of(self, params: nnx.State, graph: Bipartite, batch: Batch) -> Nodes:
        """Compute the final embeddings of a batch's users, items and negatives, without dropout.

        The rows are in this order. If the model has biases, two more columns hold them.
        """
        model = nnx.merge(self.graphdef, params)
        rows = model.rows(graph, graph.places(self._nodes_of(batch)), None)
        return self._with_biases(self._scored(rows), batch, model)

    def _with_biases(self, rows: Nodes, batch: Batch, model: Encoder) -> Nodes:
        if model.bias is None:
            return rows
        n_pairs = len(batch.positives.weight_B)
        return with_biases(rows, model.bias[...], self._nodes_of(batch), n_pairs)

    def _model_key(self, data: TrainData, step: Array) -> PRNGKeyArray | None:
        if not self.config.model.draws:
            return None
        return jax.random.fold_in(child(data.key, OfData.DROPOUT), step)

    def _nodes_of(self, batch: Batch) -> Int[Array, "R"]:
        user_B, item_B = batch.positives[:2]
        hard = () if batch.hard_BH is None else (batch.hard_BH.reshape(-1),)
        items = jnp.concatenate([item_B, batch.neg.reshape(-1), *hard])
        return jnp.concatenate([user_B, items + self.n_users])

    def _loss_of(
        self, rows: Nodes, batch: Batch, model: Encoder, total: Array | None = None
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return the loss (including L2) and the L2 term, from the rows of the batch's nodes.

        By default, the L2 term of a pair (u, i) with negatives n is
        l2 / 2 · (|u|² + |i|² + mean_n |n|²) on the table's rows. It is averaged over pairs like the
        loss (as in LightGCN-PyTorch for one negative). With H hard negatives per pair, the sum in
        parentheses includes Σ_h |h|² / H over the valid hard negatives h.

        Args:
          rows: the rows of the nodes that ``_nodes_of`` returns.
          total: the weight of the whole batch, if ``batch`` is only one part of it.
        """
        weight_B = batch.positives.weight_B
        n_pairs = len(weight_B)
        rows = self._with_biases(self._scored(rows), batch, model)
        weights = None if model.score is None else model.score.weights
        rows, batch = negative_choice.by_embeddings(self.config, rows, batch, weights)

        def parts(x_RD: Array) -> BatchRows:
            ends = [n_pairs, 2 * n_pairs, 2 * n_pairs + batch.neg.size]
            user_BD, pos_BD, neg_RD, own_RD = jnp.split(x_RD, ends)
            neg = neg_RD.reshape(*batch.neg.shape, x_RD.shape[1])
            hard_BH = batch.hard_BH
            own_BHD = None if hard_BH is None else own_RD.reshape(*hard_BH.shape, -1)
            return BatchRows(user_BD, pos_BD, neg, own_BHD)

        share_B = weight_B / (jnp.sum(weight_B) if total is None else total)
        value = self.objective.loss(self.config, model, parts(rows.emb_ND), batch, share_B)
        l2 = jnp.float32(0)
        weight = self.config.train.l2
        # The weight is an array if several runs are trained together.
        if isinstance(weight, jax.Array) or weight > 0:
            scored = self.config.train.l2_over == "embeddings"
            of = rows.emb_ND if scored else rows.base_ND
            l2 = self._l2(model, batch, share_B, jax.tree.map(losses.squared_norm, parts(of)))
        return value + l2, l2

    def _l2(
        self,
        model: Encoder,
        batch: Batch,
        share_B: Float[Array, "B"],
        norms: Any,
    ) -> Float[Array, ""]:
        """Return the L2 term; train.l2_over selects what is penalised.

        Args:
          norms: the squared norms of the batch's rows, as a BatchRows.
        """
        over, valid_BN = self.config.train.l2_over, batch.valid_BN
        if self.config.train.l2_of_all:
            of = model.embedding if over == "tables" else nnx.state(model)
            squares = jax.tree.map(lambda x: jnp.sum(jnp.square(x)), jax.tree.leaves(of))
            return self.config.train.l2 / 2 * jnp.sum(jnp.stack(squares))
        user_B, pos_B, neg, own_BH = norms
        norm_B = user_B + pos_B
        if batch.neg.size:
            norm_B += jnp.mean(neg, axis=-1)
        if own_BH is not None:
            assert valid_BN is not None
            used_BH = valid_BN[:, -own_BH.shape[1] :]
            norm_B += jnp.sum(jnp.where(used_BH, own_BH, 0), axis=1) / own_BH.shape[1]
        return self.config.train.l2 / 2 * jnp.sum(share_B * norm_B)

    def step(self, state: TrainState, data: TrainData) -> TrainState:
        """Run one step: draw a batch, compute the loss and its gradient, update the parameters."""
        return self.fed(state, data.graph, self.feed(data, state.step))

    def fed(
        self,
        state: TrainState,
        graph: Bipartite,
        feed: Feed,
        at: tuple[Array, Array] | None = None,
    ) -> TrainState:
        """Run one step on a given batch.

        Args:
          at: the result of ``distinct`` for the block's rows, for a row-wise optimizer; computed
            if None.
        """
        if isinstance(self.tx, RowOptimizer):
            made = self._update_rows(self.tx, state, graph, feed, at)
        else:
            made = self._update(self.tx, state, graph, feed)
        loss, l2, params, opt_state, gradient = made
        signs = state.totals.signs
        if signs is not None:
            signs = watched(signs, self.parts, state.step, gradient, opt_state, feed.against)
        return next_state(state, loss, l2, params, opt_state, signs)

    def _update(
        self, tx: optax.GradientTransformation, state: TrainState, graph: Bipartite, feed: Feed
    ) -> tuple[Array, Array, Any, Any, Any]:
        (loss, l2), gradient = jax.value_and_grad(self.loss, has_aux=True)(
            state.params, graph, feed
        )
        return loss, l2, *apply(tx, gradient, state.opt_state, state.params), gradient

    def _update_rows(
        self,
        tx: RowOptimizer,
        state: TrainState,
        graph: Bipartite,
        feed: Feed,
        at: tuple[Array, Array] | None,
    ) -> tuple[Array, Array, Any, Any, Any]:
        table_ND, others = split_table(state.params)
        (rows, rest), block = state.opt_state, feed.block
        row_R, slot_M = at or distinct(block.node_M, table_ND.shape[0])
        read = tx.read(table_ND, rows, row_R)

        def loss_of(x_RD: Array, others: dict[str, Array]) -> tuple[Array, Array]:
            model = nnx.merge(self.graphdef, joined_table(state.params, table_ND, others))
            nodes = model.of_block(graph, take(x_RD, slot_M), block)
            return self._loss_of(nodes, feed.batch, model)

        (loss, l2), (grad_RD, gradient) = jax.value_and_grad(loss_of, (0, 1), has_aux=True)(
            read.x_RD, others
        )
        table_ND, rows = tx.write(table_ND, rows, row_R, read, grad_RD)
        others, rest = apply(self.rest, gradient, rest, others)
        whole = {f"['{TABLE}']": grad_RD} | gradient
        return loss, l2, joined_table(state.params, table_ND, others), SplitState(rows, rest), whole

    def dispatch(
        self, state: TrainState, data: TrainData, n: Int[Array, ""]
    ) -> tuple[TrainState, Totals]:
        """Run n <= SCAN_LENGTH steps; the loop compiles this with the state donated."""
        return scanned(lambda state: self.step(state, data), state, n)


def with_biases(
    rows: Nodes, bias_N: Float[Array, "N"], node_R: Int[Array, "R"], n_pairs: int
) -> Nodes:
    """Append two columns to the final rows, so that their products include both biases.

    The columns are [b_u 1] for users and [1 b_i] for items. The table's rows get one more column,
    the bias, which L2 then includes.

    Args:
      node_R: the node of each row; the pairs' users come first.
      n_pairs: number of pairs.
    """
    bias_R1 = take(bias_N, node_R)[:, None]
    is_user_R1 = jnp.arange(len(node_R))[:, None] < n_pairs
    first_R1, last_R1 = jnp.where(is_user_R1, bias_R1, 1), jnp.where(is_user_R1, 1, bias_R1)
    return Nodes(
        jnp.concatenate([rows.emb_ND, first_R1, last_R1], axis=1),
        jnp.concatenate([rows.base_ND, bias_R1], axis=1),
    )


def scanned(
    step: Callable[[TrainState], TrainState], state: TrainState, n: Int[Array, ""]
) -> tuple[TrainState, Totals]:
    """Run n <= SCAN_LENGTH steps by one compiled program, which is the same for every n.

    The results are therefore the same to the last bit, however the steps are divided into
    dispatches. On a CPU, the program is a scan of fixed length that skips the steps past n;
    elsewhere it is a loop of n steps. The totals are also returned as copies, which the next
    dispatch does not donate.
    """

    if platform_of_programs() != "cpu":  # elsewhere, lax.cond copies the state in each step
        last = jnp.minimum(n, SCAN_LENGTH)
        state = jax.lax.fori_loop(0, last, lambda _, state: step(state), state)
        return state, state.totals

    def body(state: TrainState, i: Array) -> tuple[TrainState, None]:
        return jax.lax.cond(i < n, step, lambda s: s, state), None

    state, _ = jax.lax.scan(body, state, jnp.arange(SCAN_LENGTH, dtype=jnp.int32))
    return state, state.totals


def next_state(
    state: TrainState,
    loss: Array,
    l2: Array,
    params: Any,
    opt_state: Any,
    signs: Signs | None = None,
) -> TrainState:
    """Return the state after a step, with the step's losses added to the totals."""
    seen = state.totals
    first_bad = (seen.bad_step < 0) & ~jnp.isfinite(loss)
    totals = Totals(
        seen.loss + loss,
        seen.l2 + l2,
        seen.steps + 1,
        jnp.where(first_bad, state.step, seen.bad_step),
        signs,
    )
    return TrainState(state.step + 1, params, opt_state, totals)


def zero_totals() -> Totals:
    """Return totals of 0 in separate buffers, since a buffer cannot be donated twice."""
    return Totals(jnp.zeros(()), jnp.zeros(()), jnp.int32(0), jnp.array(-1, jnp.int32))


def cleared(totals: Totals) -> Totals:
    """Return zero totals of the same structure."""
    if totals.signs is None:
        return zero_totals()
    return zero_totals()._replace(signs=zero_signs(totals.signs.norm_P.shape[0]))
