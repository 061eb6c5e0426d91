"""The training step on a mesh: each device runs its part of :mod:`jaxrec.training.step`."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from jaxrec.graph import halo
from jaxrec.graph.halo import DATA, TABLE
from jaxrec.graph.rows import by_sort, groups, table, totals
from jaxrec.graph.spmm import Kernel
from jaxrec.models import Encoder, Nodes
from jaxrec.models.encoder import unit_rows
from jaxrec.rowwise import RowOptimizer, distinct
from jaxrec.training.batch import Batch
from jaxrec.training.placement.mesh_data import MeshData, Sizes, draw, part_of
from jaxrec.training.placement.relayout import of_table
from jaxrec.training.step import (
    SplitState,
    Stepper,
    Totals,
    TrainState,
    apply,
    joined_table,
    next_state,
    scanned,
    split_table,
)


@dataclass(frozen=True)
class MeshStepper(Stepper):
    """The static part of a step on a mesh of devices with the axes ``data`` and ``table``.

    Every device draws the whole batch. A device's index along ``data`` selects the part of the
    batch whose loss it computes; its index along ``table`` selects the table rows that it owns.
    Each device computes the final embeddings of its own rows, and sums over ``table`` bring them to
    all devices. The gradients of the whole batch are gathered over ``data``, and each device
    updates its own rows.
    """

    mesh: Mesh
    rows: int  # R, rows of one part of the table
    sizes: Sizes
    kernel: Kernel

    def specs(self, state: TrainState) -> TrainState:
        """Return how a state is sharded: tables by rows, everything else replicated."""
        size = self.rows * self.mesh.shape[TABLE]

        def spec(path: Any, leaf: Any) -> PartitionSpec:
            return PartitionSpec(TABLE) if of_table(path, leaf, size) else PartitionSpec()

        return jax.tree_util.tree_map_with_path(spec, state)

    def dispatch(
        self, state: TrainState, data: Any, n: Int[Array, ""]
    ) -> tuple[TrainState, Totals]:
        """Run n steps, as ``Stepper.dispatch`` does, with arrays on the mesh."""
        specs, whole = self.specs(state), PartitionSpec()

        def body(state: TrainState, data: MeshData, n: Array) -> tuple[TrainState, Totals]:
            part = _part(data)
            return scanned(lambda state: self.step(state, part), state, n)

        specs = (specs, data.specs(), whole), (specs, whole)
        return halo.on_mesh(self.mesh, body, *specs)(state, data, n)

    def batch(self, data: Any, step: Int[Array, ""]) -> Batch:
        """Return the whole batch of a step, drawn from arrays on the mesh."""

        def body(data: MeshData, step: Array) -> Batch:
            return draw(self.config, self.n_items, _part(data), self.sizes, step)

        whole = PartitionSpec()
        return halo.on_mesh(self.mesh, body, (data.specs(), whole), whole)(data, step)

    def embedded(self, state: TrainState, data: MeshData) -> Float[Array, "S D"]:
        """Return final embeddings in the order of table rows, normalised if scores are cosines."""

        def body(state: TrainState, data: MeshData) -> Array:
            model = nnx.merge(self.graphdef, self.current(state))
            how: dict[str, Any] = {"kernel": self.kernel, "dtype": self.config.model.dtype}
            part = _part(data).shard
            emb_RD = halo.all_of_layers(part, model.embedding[...], model.shares(), **how)
            return unit_rows(emb_RD) if self.config.model.score == "cosine" else emb_RD

        specs = self.specs(state), data.specs()
        return halo.on_mesh(self.mesh, body, specs, PartitionSpec(TABLE))(state, data)

    def step(self, state: TrainState, data: Any) -> TrainState:
        """Run one device's part of a step; ``state`` and ``data`` are this device's shards."""
        whole = draw(self.config, self.n_items, data, self.sizes, state.step)
        batch, total = part_of(whole), jnp.sum(whole.positives.weight_B)
        row_B = data.place_N[self._nodes_of(batch)]
        if isinstance(self.tx, RowOptimizer):
            updated = self._mesh_rows(self.tx, state, batch, row_B, total)
        else:
            updated = self._mesh_all(self.tx, state, data, batch, row_B, total)
        return next_state(state, *updated, state.totals.signs)

    def _mesh_all(
        self,
        tx: optax.GradientTransformation,
        state: TrainState,
        data: MeshData,
        batch: Batch,
        row_B: Array,
        total: Array,
    ) -> tuple[Array, Array, Any, Any]:
        def loss_of(params: nnx.State) -> tuple[Array, Array]:
            model = nnx.merge(self.graphdef, params)
            how: dict[str, Any] = {"kernel": self.kernel, "dtype": self.config.model.dtype}
            table_RD, share_L = model.embedding[...], model.shares()
            rows = halo.sum_of_layers(data.shard, table_RD, row_B, share_L, **how)
            return self._loss_of(Nodes(*rows), batch, model, total)

        (loss, l2), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        table_RD, others = split_table(gradient)
        loss, l2, others = jax.lax.psum((loss, l2, others), DATA)
        table_RD, others = self._clipped(table_RD, others)
        gradient = joined_table(gradient, table_RD, others)
        return loss, l2, *apply(tx, gradient, state.opt_state, state.params)

    def _clipped(self, table_RD: Array, others: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Clip gradients by their norm over all devices, as ``optax.clip_by_global_norm`` does."""
        limit = self.config.optim.clip_norm
        if limit is None:
            return table_RD, others
        square = jax.lax.psum(jnp.sum(jnp.square(table_RD)), TABLE)
        square += sum((jnp.sum(jnp.square(x)) for x in others.values()), jnp.float32(0))
        by = jnp.minimum(1, limit / jnp.maximum(jnp.sqrt(square), 1e-30))
        return jax.tree.map(lambda x: by * x, (table_RD, others))

    def _mesh_rows(
        self, tx: RowOptimizer, state: TrainState, batch: Batch, row_B: Array, total: Array
    ) -> tuple[Array, Array, Any, Any]:
        """Run a step that updates only the rows of the batch; each device updates its own rows."""
        table_RD, others = split_table(state.params)
        row_M = jax.lax.all_gather(row_B, DATA, tiled=True)
        local_M, own_M = halo.own_rows(row_M, self.rows)
        row_Q, slot_M = distinct(jnp.where(own_M, local_M, self.rows), self.rows)
        rows, rest = state.opt_state
        read = tx.read(table_RD, rows, row_Q)
        at = jax.lax.axis_index(DATA).astype(jnp.int32) * len(row_B)
        slot_B = jax.lax.dynamic_slice_in_dim(slot_M, at, len(row_B))
        own_B = jax.lax.dynamic_slice_in_dim(own_M, at, len(row_B))
        x_BD = jax.lax.psum(halo.masked(read.x_RD[slot_B], own_B), TABLE)

        def loss_of(x_BD: Array, others: dict[str, Array]) -> tuple[Array, Array]:
            model: Encoder = nnx.merge(self.graphdef, joined_table(state.params, table_RD, others))
            return self._loss_of(Nodes(x_BD, x_BD), batch, model, total)

        (loss, l2), (g_BD, gradient) = jax.value_and_grad(loss_of, (0, 1), has_aux=True)(
            x_BD, others
        )
        loss, l2, gradient = jax.lax.psum((loss, l2, gradient), DATA)
        g_MD = halo.masked(jax.lax.all_gather(g_BD, DATA, tiled=True), own_M)
        if by_sort():
            grouped = groups(slot_M, len(read.x_RD))
            g_QD = table(grouped, totals(grouped, g_MD))
        else:
            g_QD = jnp.zeros_like(read.x_RD).at[slot_M].add(g_MD)
        table_RD, rows = tx.write(table_RD, rows, row_Q, read, g_QD)
        others, rest = apply(self.rest, gradient, rest, others)
        return loss, l2, joined_table(state.params, table_RD, others), SplitState(rows, rest)


def _part(data: MeshData) -> MeshData:
    """Return this device's part of the data, without its leading axis of length 1."""
    first = {
        name: jax.tree.map(lambda x: x[0], getattr(data, name))
        for name in ("shard", "pairs", "known", "users")
    }
    return data._replace(**first)
