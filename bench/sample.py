"""A batch of positives and rejected negatives: on device by jaxrec, beside NumPy and a Python loop.

jaxrec draws inside the step; here it is timed alone, 128 batches a dispatch. NumPy shuffles pairs
and redraws known positives until none is left; the loop is LightGCN-PyTorch's form, a user and one
of their items at a time.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

from bench import gowalla
from bench.common import alternate, device, record
from jaxrec import presets
from jaxrec.data.split import Splits
from jaxrec.training.problem import Problem

BATCHES = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    gowalla.add_arguments(parser)
    args = parser.parse_args()
    data, about = gowalla.load(args.data)
    config = presets.get("lightgcn-gowalla")
    batch = config.train.batch_size
    empty = data.take(np.zeros(0, np.int64))
    problem = Problem.build(config, Splits(data, empty, empty))
    rng = np.random.default_rng(0)
    keys = np.sort(data.user.astype(np.int64) * data.n_items + data.item)
    csr = data.csr()
    liked = [
        set(csr.indices[a:b].tolist()) for a, b in zip(csr.indptr, csr.indptr[1:], strict=False)
    ]

    @jax.jit
    def on_device(first: jax.Array) -> jax.Array:
        def body(total: jax.Array, step: jax.Array) -> tuple[jax.Array, None]:
            drawn = problem.stepper.batch(problem.data, step)
            parts = drawn.positives.user_B, drawn.positives.item_B, drawn.neg
            return total + sum(jnp.sum(part) for part in parts), None

        return jax.lax.scan(body, jnp.int32(0), first + jnp.arange(BATCHES))[0]

    def known(user_B: np.ndarray, item_B: np.ndarray) -> np.ndarray:
        key_B = user_B.astype(np.int64) * data.n_items + item_B
        place_B = np.minimum(np.searchsorted(keys, key_B), len(keys) - 1)
        return keys[place_B] == key_B

    def in_numpy() -> None:
        for _ in range(BATCHES):
            pair_B = rng.integers(0, data.n_edges, batch)
            user_B, neg_B = data.user[pair_B], rng.integers(0, data.n_items, batch)
            again = np.flatnonzero(known(user_B, neg_B))
            while len(again):
                neg_B[again] = rng.integers(0, data.n_items, len(again))
                again = again[known(user_B[again], neg_B[again])]

    def by_loop() -> None:
        for user in rng.integers(0, data.n_users, batch):
            items = csr.indices[csr.indptr[user] : csr.indptr[user + 1]]
            if len(items) == 0:
                continue
            items[rng.integers(0, len(items))]
            while rng.integers(0, data.n_items) in liked[user]:
                pass

    calls = {
        "jaxrec": lambda: on_device(jnp.int32(0)).block_until_ready(),
        "numpy": in_numpy,
        "python loop": by_loop,
    }
    command = "python -m bench sample" + (" --data gowalla" if args.data else "")
    for name, values in alternate(calls, rounds=args.rounds).items():
        batches = 1 if name == "python loop" else BATCHES
        ms = [1e3 * value / batches for value in values]
        extra = about | {"batch": batch, "what": "batch of positives and negatives"}
        extra |= {"device": device() if name == "jaxrec" else None}
        record("sample", name, ms, "ms", command, **extra)


if __name__ == "__main__":
    main()
