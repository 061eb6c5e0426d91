"""A layer of propagation, forward and with its gradient: our kernels and torch's products.

Three layers run in a row, as in a model, and a third of their time is shown, because a single
product would mostly measure page faults of its result. Our kernels run in the data's order and in
the order that the trainer gives the nodes. All results must agree, or the case fails.
"""

# The extra `bench` may be missing where the types are checked.
# pyright: reportMissingImports=false
import argparse
import statistics
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import torch

from bench import gowalla
from bench.common import alternate, device, floors, hardware_of_torch, record, torch_device
from jaxrec.graph import bipartite
from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.spmm import Kernel, propagate

LAYERS = 3
Pair = tuple[Callable[[], Any], Callable[[], Any], Callable[[Any], np.ndarray]]
"""Forward, forward with gradient, and a function that returns a result in the data's order."""


def in_jax(product: Callable, graph: Bipartite, x: np.ndarray, g: np.ndarray) -> Pair:
    """Return forward, and forward with the gradient of its sum with g; rows in the data's order."""
    place = np.arange(len(x)) if graph.place_N is None else np.asarray(graph.place_N)
    moved = [jnp.asarray(a[np.argsort(place)]) for a in (x, g)]

    def forward(graph: Bipartite, x: jax.Array) -> jax.Array:
        for _ in range(LAYERS):
            x = product(graph, x)
        return x

    @jax.jit
    def both(graph: Bipartite, x: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, pullback = jax.vjp(lambda x: forward(graph, x), x)
        return y, pullback(g)[0]

    alone = jax.jit(forward)
    return (
        lambda: alone(graph, moved[0]).block_until_ready(),
        lambda: jax.block_until_ready(both(graph, *moved))[1],
        lambda y: np.asarray(y)[place],
    )


def in_torch(matrix: torch.Tensor, x: np.ndarray, g: np.ndarray) -> Pair:
    """Return the same by autograd of torch.sparse.mm."""
    leaf = torch.from_numpy(x).clone().to(matrix.device).requires_grad_()
    of_result = torch.from_numpy(g).to(matrix.device)

    def layers() -> torch.Tensor:
        y = leaf
        for _ in range(LAYERS):
            y = torch.sparse.mm(matrix, y)
        return y

    def wait() -> None:
        if matrix.is_cuda:
            torch.cuda.synchronize()

    def forward() -> torch.Tensor:
        with torch.no_grad():
            y = layers()
        wait()
        return y

    def both() -> torch.Tensor | None:
        leaf.grad = None
        layers().backward(of_result)
        wait()
        return leaf.grad

    return forward, both, lambda y: y.cpu().numpy()


def naive(graph: Bipartite, x: jax.Array) -> jax.Array:
    """Return jraph's form without a hand-written gradient."""
    message = graph.weights[:, None] * x[graph.senders]
    return jraph.segment_sum(message, graph.receivers, graph.n_nodes, indices_are_sorted=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    gowalla.add_arguments(parser)
    args = parser.parse_args()
    data, about = gowalla.load(args.data)
    receiver, sender, weight = gowalla.directed(data)
    n_nodes = data.n_users + data.n_items
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, n_nodes, args.dim)).astype(np.float32)
    plain, moved = (bipartite.build(data, reorder=r, buckets=True) for r in (False, True))
    pairs = {"jax segment_sum, autodiff": in_jax(naive, plain, x, g)}
    for kernel in get_args(Kernel):
        product = lambda graph, x, kernel=kernel: propagate(graph, x, kernel)  # noqa: E731
        pairs[f"jaxrec {kernel}"] = in_jax(product, plain, x, g)
        pairs[f"jaxrec {kernel}, nodes reordered"] = in_jax(product, moved, x, g)
    shape, indices = (n_nodes, n_nodes), torch.from_numpy(np.stack([receiver, sender]))
    coo = torch.sparse_coo_tensor(indices, torch.from_numpy(weight), shape).coalesce()
    coo = coo.to(torch_device())
    pairs["torch COO"] = in_torch(coo, x, g)
    pairs["torch CSR"] = in_torch(coo.to_sparse_csr(), x, g)

    command = "python -m bench propagate" + (" --data gowalla" if args.data else "")
    n_bytes = {
        "compulsory bytes": 4 * (len(sender) * 2 + n_nodes + 2 * n_nodes * args.dim),
        "gathered bytes": 4 * len(sender) * args.dim,
    }
    forward = {name: pair[0] for name, pair in pairs.items()}
    both = {name: pair[1] for name, pair in pairs.items()}
    for what, calls, products in (("forward", forward, 1), ("forward and gradient", both, 2)):
        results = {name: pair[2](calls[name]()) for name, pair in pairs.items()}
        for name, result in results.items():
            expected = results["torch COO"]
            np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4, err_msg=name)
        taken = alternate(calls, rounds=args.rounds, warmup=2)
        extra = {"what": f"a layer, {what}", "dim": args.dim, "edges": len(sender)} | about
        ms = {name: [1e3 * v / LAYERS for v in values] for name, values in taken.items()}
        for name, values in ms.items():
            where = hardware_of_torch() if name.startswith("torch") else device()
            record("propagate", name, values, "ms", command, device=where, **extra)
        best = min((v for n, v in ms.items() if n.startswith("jaxrec")), key=statistics.median)
        sizes = {name: products * size for name, size in n_bytes.items()}
        floors("propagate", best, sizes, command, device=device(), **extra)


if __name__ == "__main__":
    main()
