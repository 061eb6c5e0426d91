"""One layer of propagation, forward and with its gradient: each kernel, and torch's products.

Ours in the order of the data and in the order that the trainer gives the nodes; torch as its
users have it, autograd of ``torch.sparse.mm``. All give the same result, or the case fails.
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

Pair = tuple[Callable[[], Any], Callable[[], Any], Callable[[Any], np.ndarray]]
"""Forward, gradient, and what brings a result to NumPy in the order of the data."""


def in_jax(product: Callable, graph: Bipartite, x: np.ndarray, g: np.ndarray) -> Pair:
    """Forward, and gradient of the product's sum with g; rows in the order of the data."""
    place = np.arange(len(x)) if graph.place_N is None else np.asarray(graph.place_N)
    moved = [jnp.asarray(a[np.argsort(place)]) for a in (x, g)]
    forward = jax.jit(product)
    gradient = jax.jit(lambda graph, x, g: jax.vjp(lambda x: product(graph, x), x)[1](g)[0])

    return (
        lambda: forward(graph, moved[0]).block_until_ready(),
        lambda: gradient(graph, *moved).block_until_ready(),
        lambda y: np.asarray(y)[place],
    )


def in_torch(matrix: torch.Tensor, x: np.ndarray, g: np.ndarray) -> Pair:
    """Forward, and forward with backward: autograd cannot have the one without the other."""
    leaf = torch.from_numpy(x).clone().to(matrix.device).requires_grad_()
    of_result = torch.from_numpy(g).to(matrix.device)

    def wait() -> None:
        if matrix.is_cuda:
            torch.cuda.synchronize()

    def forward() -> torch.Tensor:
        with torch.no_grad():
            y = torch.sparse.mm(matrix, leaf)
        wait()
        return y

    def gradient() -> torch.Tensor | None:
        leaf.grad = None
        torch.sparse.mm(matrix, leaf).backward(of_result)
        wait()
        return leaf.grad

    return forward, gradient, lambda y: y.cpu().numpy()


def naive(graph: Bipartite, x: jax.Array) -> jax.Array:
    """jraph's form without a hand-written gradient."""
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
    gradient = {name: pair[1] for name, pair in pairs.items()}
    for what, calls in (("forward", forward), ("gradient", gradient)):
        results = {name: pair[2](calls[name]()) for name, pair in pairs.items()}
        for name, result in results.items():
            expected = results["torch COO"]
            np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4, err_msg=name)
        taken = alternate(calls, rounds=args.rounds, warmup=2)
        for name, values in taken.items():
            ms = [1e3 * value for value in values]
            extra = {"what": what, "dim": args.dim, "edges": len(sender)} | about
            extra |= {"device": hardware_of_torch() if name.startswith("torch") else device()}
            record("propagate", name, ms, "ms", command, **extra)
        best = min((v for n, v in taken.items() if n.startswith("jaxrec")), key=statistics.median)
        extra = {"what": what, "dim": args.dim, "edges": len(sender), "device": device()} | about
        floors("propagate", [1e3 * value for value in best], n_bytes, command, **extra)


if __name__ == "__main__":
    main()
