"""Random walks: uniform, weighted and node2vec on the device, beside vectorised NumPy.

NumPy does the same on the same graph: uniform by index, weighted by bisection of cumulative
weights (``np.searchsorted``); its node2vec would be a loop. All take turns in one process; a step
is one node of a walk after its start.
"""

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bench.common import alternate, device, record
from jaxrec.data import synthetic_items
from jaxrec.data.itemgraph import Adjacency
from jaxrec.graph import walks

LENGTH = 10
GRAPHS = {"8.7 thousand items": (8_713, 155_000), "420 thousand items": (420_000, 4_000_000)}
SECOND_ORDER = ((1.0, 0.5), (0.5, 1.0), (0.5, 2.0), (4.0, 0.25))


def numpy_uniform(around: Adjacency, start_W: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    made = [start_W]
    degree = around.degree
    for _ in range(LENGTH - 1):
        at = made[-1]
        place = (rng.random(len(at)) * degree[at]).astype(around.indptr.dtype)
        made.append(around.indices[around.indptr[at] + place])
    return np.stack(made)


def numpy_weighted(
    around: Adjacency, sum_E: np.ndarray, start_W: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw by ``sum_E``, the running sum of all weights, which starts with 0."""
    made = [start_W]
    for _ in range(LENGTH - 1):
        at = made[-1]
        first, end = around.indptr[at], around.indptr[at + 1]
        drawn = sum_E[first] + rng.random(len(at)) * (sum_E[end] - sum_E[first])
        place = np.searchsorted(sum_E[1:], drawn, side="right")
        made.append(around.indices[np.clip(place, first, end - 1)])
    return np.stack(made)


walk = jax.jit(walks.walk, static_argnums=3, static_argnames=("p", "q"))


def ours(
    graph: walks.WalkGraph, start_W: np.ndarray, p: float = 1.0, q: float = 1.0
) -> Callable[[], None]:
    """Draw walks on the device, and wait for them."""
    node_W, number_W = jnp.asarray(start_W), jnp.arange(len(start_W), dtype=jnp.int32)

    def call() -> None:
        key = jax.random.key(0)
        walk(graph, node_W, number_W, LENGTH, key, p=p, q=q).block_until_ready()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", nargs="+", choices=list(GRAPHS), default=list(GRAPHS))
    parser.add_argument("--walks", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    for name in args.graph:
        items, pairs = GRAPHS[name]
        around = synthetic_items.make(items, pairs, communities=items // 100, seed=1).adjacency()
        rng = np.random.default_rng(0)
        start_W = rng.choice(np.flatnonzero(around.degree), args.walks).astype(np.int32)
        sum_E = np.append(0.0, np.cumsum(around.weight, dtype=np.float64))
        even = walks.walk_graph(around.indptr, around.indices)
        weighted = walks.walk_graph(around.indptr, around.indices, around.weight)
        calls = {
            "numpy uniform": lambda a=around, s=start_W, r=rng: numpy_uniform(a, s, r),
            "jaxrec uniform": ours(even, start_W),
            "numpy weighted": lambda a=around, c=sum_E, s=start_W, r=rng: numpy_weighted(
                a, c, s, r
            ),
            "jaxrec weighted": ours(weighted, start_W),
        }
        for p, q in SECOND_ORDER:
            calls[f"jaxrec node2vec, p {p:g}, q {q:g}"] = ours(weighted, start_W, p, q)
        steps = args.walks * (LENGTH - 1)
        taken = {n: [steps / s for s in v] for n, v in alternate(calls, rounds=args.rounds).items()}
        of_weighted = float(np.median(taken["jaxrec weighted"]))
        for impl, values in taken.items():
            extra = {"what": f"steps of walks, {name}", "pairs": pairs, "walks": args.walks}
            extra |= {"weighted_over_this": of_weighted / float(np.median(values))}
            extra |= {"largest_degree": int(around.degree.max()), "device": device()}
            record("walks", impl, values, "steps/s", "python -m bench walks", **extra)


if __name__ == "__main__":
    main()
