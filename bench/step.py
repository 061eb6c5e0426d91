"""One training step on Gowalla: jaxrec beside naive JAX, torch COO and CSR, and torch_geometric.

All take the same batches from the same table: LightGCN of 3 layers, BPR with one negative and
L2, dense Adam. Their losses over the first steps must agree, or the case fails.
"""

# The extra `bench` may be missing where the types are checked.
# pyright: reportMissingImports=false
import argparse
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import optax
import torch
from torch_geometric.nn.models import LightGCN

from bench import gowalla
from bench.common import alternate, device, floors, hardware_of_torch, record, torch_device
from jaxrec import presets
from jaxrec.data.dataset import Dataset
from jaxrec.data.split import Splits
from jaxrec.graph import bipartite
from jaxrec.training.problem import Problem

LAYERS, L2, RATE = 3, 1e-4, 1e-3
Step = Callable[[np.ndarray], float]
"""Maps users, positives and negatives [3, B], as nodes, to the loss; waits for the device."""


def jaxrec_steps(problem: Problem, table: np.ndarray) -> Callable[[int], float]:
    """Return a function that runs n steps in one dispatch, as the trainer does."""
    dispatch = jax.jit(problem.stepper.dispatch, donate_argnums=0)
    state = problem.initial_state()
    place = problem.data.graph.place_N
    assert place is not None
    moved = jnp.asarray(table[np.argsort(np.asarray(place))])
    params = jax.tree.map(lambda _: moved, state.params)
    state = problem.stepper.init(params)

    def run(n: int) -> float:
        nonlocal state
        before = float(state.totals.loss)
        state, totals = dispatch(state, problem.data, jnp.int32(n))
        return float(totals.loss) - before

    return run


def naive_jax(data: Dataset, table: np.ndarray) -> Step:
    """Return the step with gather and segment-sum, autodiff and optax."""
    graph, tx = bipartite.build(data), optax.adam(RATE)

    def loss(table: jax.Array, node: jax.Array) -> jax.Array:
        x = total = table
        for _ in range(LAYERS):
            message = graph.weights[:, None] * x[graph.senders]
            x = jraph.segment_sum(message, graph.receivers, len(table), indices_are_sorted=True)
            total = total + x
        user, pos, neg = (total / (LAYERS + 1))[node]
        square = jnp.sum(table[node] ** 2) / node.shape[1]
        bpr = jnp.mean(jax.nn.softplus((user * neg).sum(-1) - (user * pos).sum(-1)))
        return bpr + L2 / 2 * square

    @jax.jit
    def step(table: jax.Array, state: optax.OptState, node: jax.Array) -> tuple:
        value, gradient = jax.value_and_grad(loss)(table, node)
        update, state = tx.update(gradient, state)
        return optax.apply_updates(table, update), state, value

    here = jnp.asarray(table)
    kept = tx.init(here)

    def run(node: np.ndarray) -> float:
        nonlocal here, kept
        here, kept, value = step(here, kept, node)
        return float(value)

    return run


def in_torch(embed: Callable[[torch.Tensor], torch.Tensor], table: torch.Tensor) -> Step:
    """Return a step of torch's Adam on a leaf; ``embed`` maps it to the final embeddings."""
    optimizer = torch.optim.Adam([table], lr=RATE)

    def run(node: np.ndarray) -> float:
        rows = torch.from_numpy(node).to(table.device)
        user, pos, neg = embed(table)[rows]
        gap = (user * neg).sum(-1) - (user * pos).sum(-1)
        loss = torch.nn.functional.softplus(gap).mean()
        loss = loss + L2 / 2 * table[rows].square().sum() / node.shape[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    return run


def sparse_torch(matrix: torch.Tensor, table: np.ndarray) -> Step:
    """Return LightGCN-PyTorch's form: a sparse product per layer, stacked and averaged."""

    def embed(x: torch.Tensor) -> torch.Tensor:
        layers = [x]
        for _ in range(LAYERS):
            layers.append(torch.sparse.mm(matrix, layers[-1]))
        return torch.stack(layers, dim=1).mean(dim=1)

    leaf = torch.from_numpy(table.copy()).to(matrix.device).requires_grad_()
    return in_torch(embed, leaf)


def torch_geometric(edge_index: np.ndarray, table: np.ndarray) -> Step:
    """Return torch_geometric's own LightGCN."""
    model = LightGCN(len(table), table.shape[1], LAYERS).to(torch_device())
    edges = torch.from_numpy(edge_index).to(torch_device())
    with torch.no_grad():
        model.embedding.weight.copy_(torch.from_numpy(table))
    return in_torch(lambda _: model.get_embedding(edges), model.embedding.weight)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    gowalla.add_arguments(parser)
    parser.add_argument("--steps", type=int, default=8, help="steps of ours in a round")
    args = parser.parse_args()
    data, about = gowalla.load(args.data)
    config = presets.get("lightgcn-gowalla")
    config = replace(config, model=replace(config.model, dim=args.dim))
    empty = data.take(np.zeros(0, np.int64))
    problem = Problem.build(config, Splits(data, empty, empty))
    n_nodes = data.n_users + data.n_items
    table = np.random.default_rng(0).normal(size=(n_nodes, args.dim)).astype(np.float32) * 0.1

    draw = jax.jit(problem.stepper.batch)

    def nodes(step: int) -> np.ndarray:
        batch = draw(problem.data, jnp.int32(step))
        parts = batch.positives.user_B, batch.positives.item_B, batch.neg[:, 0]
        user, pos, neg = map(np.asarray, parts)
        return np.stack([user, pos + data.n_users, neg + data.n_users]).astype(np.int64)

    receiver, sender, weight = gowalla.directed(data)
    index = torch.from_numpy(np.stack([receiver, sender]))
    coo = torch.sparse_coo_tensor(index, torch.from_numpy(weight), (n_nodes, n_nodes)).coalesce()
    coo = coo.to(torch_device())
    ours = jaxrec_steps(problem, table)
    theirs = {
        "jax segment_sum, autodiff": naive_jax(data, table),
        "torch COO": sparse_torch(coo, table),
        "torch CSR": sparse_torch(coo.to_sparse_csr(), table),
        "torch_geometric LightGCN": torch_geometric(np.stack([sender, receiver]), table),
    }
    warm = [nodes(step) for step in range(3)]
    expected = ours(len(warm))
    for name, step in theirs.items():
        total = sum(step(node) for node in warm)
        np.testing.assert_allclose(total, expected, rtol=1e-4, err_msg=name)

    batch = nodes(3)
    calls = {name: lambda step=step: step(batch) for name, step in theirs.items()}
    taken = alternate({"jaxrec": lambda: ours(args.steps)} | calls, rounds=args.rounds)
    taken["jaxrec"] = [value / args.steps for value in taken["jaxrec"]]
    command = "python -m bench step" + (" --data gowalla" if args.data else "")
    about |= {"dim": args.dim, "layers": LAYERS, "batch": config.train.batch_size}
    for name, values in taken.items():
        extra = about | {"device": hardware_of_torch() if name.startswith("torch") else device()}
        ms = [1e3 * value for value in values]
        record("step", name, ms, "ms", command, what="training step", **extra)
    # The last forward product covers only the batch's rows, and the gradient's first gathers from
    # them. Each of the other 2L - 1 reads the graph and writes y over all edges; all but the first
    # also gather rows of x. Adam reads table, gradient and moments; it writes all but the gradient.
    edges, table_bytes = 8 * len(sender), 4 * n_nodes * args.dim
    products = 2 * LAYERS - 2
    n_bytes = {
        "compulsory bytes": (products + 1) * (edges + 2 * table_bytes) + 7 * table_bytes,
        "gathered bytes": products * len(sender) * 4 * args.dim,
    }
    extra = about | {"what": "training step", "device": device()}
    floors("step", [1e3 * value for value in taken["jaxrec"]], n_bytes, command, **extra)


if __name__ == "__main__":
    main()
