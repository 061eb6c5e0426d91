"""Top 20 of all items for 4,096 users, seen items masked: jaxrec beside torch, JAX and NumPy.

All mask the same pairs and must find the same items (but for ties in the last place).
"""

# The extra `bench` may be missing where the types are checked.
# pyright: reportMissingImports=false
import argparse

import jax
import jax.numpy as jnp
import numpy as np
import torch

from bench import gowalla
from bench.common import alternate, bandwidth, device, record
from jaxrec.evaluate import topk
from jaxrec.evaluate.scorers import dot_scorer

K, USERS = 20, 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    gowalla.add_arguments(parser)
    args = parser.parse_args()
    data, about = gowalla.load(args.data)
    rng = np.random.default_rng(0)
    user_UD = rng.normal(size=(data.n_users, args.dim)).astype(np.float32)
    item_ID = rng.normal(size=(data.n_items, args.dim)).astype(np.float32)
    users = np.sort(rng.permutation(data.n_users)[:USERS]).astype(np.int32)
    seen = data.csr()
    of_users = topk.take_rows(seen, users)
    row, item = np.repeat(np.arange(USERS), of_users.degree), of_users.indices
    scorer = dot_scorer(jnp.asarray(user_UD), jnp.asarray(item_ID))
    user_t, item_t = torch.from_numpy(user_UD[users]), torch.from_numpy(item_ID)
    row_t, seen_t = torch.from_numpy(row), torch.from_numpy(item.astype(np.int64))
    here = jnp.asarray(user_UD[users]), jnp.asarray(item_ID), jnp.asarray(row), jnp.asarray(item)

    @jax.jit
    def plain_jax(u: jax.Array, v: jax.Array, row: jax.Array, item: jax.Array) -> jax.Array:
        return jax.lax.top_k((u @ v.T).at[row, item].set(-jnp.inf), K)[1]

    def in_torch() -> np.ndarray:
        score = user_t @ item_t.T
        score[row_t, seen_t] = -torch.inf
        return torch.topk(score, K).indices.numpy()

    def in_numpy() -> np.ndarray:
        score = user_UD[users] @ item_ID.T
        score[row, item] = -np.inf
        return np.argpartition(-score, K, axis=1)[:, :K]

    calls = {
        "jaxrec": lambda: topk.top_k(scorer, users, seen, K)[0],
        "torch matmul and topk": in_torch,
        "jax matmul and top_k": lambda: np.asarray(plain_jax(*here)),
        "numpy argpartition": in_numpy,
    }
    expected = np.sort(calls["jaxrec"](), axis=1)
    for name, call in calls.items():
        same = np.mean(np.sort(call(), axis=1) == expected)
        assert same > 0.9999, f"{name}: {1 - same:.2%} of the places hold other items"
    command = "python -m bench rank" + (" --data gowalla" if args.data else "")
    about |= {"dim": args.dim, "users": USERS, "items": data.n_items, "k": K}
    for name, values in alternate(calls, rounds=args.rounds).items():
        extra = about | {"device": device() if name.startswith("jax") else None}
        ms = [1e3 * value for value in values]
        record("rank", name, ms, "ms", command, what="4,096 users, with the mask", **extra)
    n_bytes = 4 * (user_t.numel() + item_t.numel() + len(item) + 2 * USERS * K)
    speed = bandwidth()
    extra = {"what": "compulsory bytes over measured bandwidth", "bytes": n_bytes} | about
    extra |= {"bytes_per_second": speed, "device": device()}
    record("rank", "floor", [1e3 * n_bytes / speed], "ms", command, **extra)


if __name__ == "__main__":
    main()
