"""Top 20 of all items for 4,096 users, seen items masked: jaxrec beside torch, JAX and NumPy.

All mask the same pairs and must find the same items (but for ties in the last place). The product
of users and items alone, written to memory, takes its turn beside them.
"""

# The extra `bench` may be missing where the types are checked.
# pyright: reportMissingImports=false
import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from bench import gowalla
from bench.common import (
    alternate,
    cpu,
    device,
    floors,
    hardware_of_torch,
    record,
    seconds,
    torch_device,
)
from jaxrec.evaluation import topk
from jaxrec.evaluation.ranking import Evaluator
from jaxrec.evaluation.scorers import dot_scorer

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
    of_users = seen.take(users)
    row, item = np.repeat(np.arange(USERS), of_users.degree), of_users.indices
    scorer = dot_scorer(jnp.asarray(user_UD), jnp.asarray(item_ID))
    where = torch_device()
    user_t, item_t, row_t, seen_t = (
        torch.from_numpy(x).to(where) for x in (user_UD[users], item_ID, row, item.astype(np.int64))
    )
    here = jnp.asarray(user_UD[users]), jnp.asarray(item_ID), jnp.asarray(row), jnp.asarray(item)

    @jax.jit
    def plain_jax(u: jax.Array, v: jax.Array, row: jax.Array, item: jax.Array) -> jax.Array:
        return jax.lax.top_k((u @ v.T).at[row, item].set(-jnp.inf), K)[1]

    def in_torch() -> np.ndarray:
        score = user_t @ item_t.T
        score[row_t, seen_t] = -torch.inf
        return torch.topk(score, K).indices.cpu().numpy()

    def in_numpy() -> np.ndarray:
        score = user_UD[users] @ item_ID.T
        score[row, item] = -np.inf
        return np.argpartition(-score, K, axis=1)[:, :K]

    calls: dict[str, Callable[[], Any]] = {
        "jaxrec": lambda: topk.top_k(scorer, users, seen, K)[0],
        "torch matmul and topk": in_torch,
        "jax matmul and top_k": lambda: np.asarray(plain_jax(*here)),
        "numpy argpartition": in_numpy,
    }
    expected = np.sort(calls["jaxrec"](), axis=1)
    for name, call in calls.items():
        same = np.mean(np.sort(call(), axis=1) == expected)
        assert same > 0.9999, f"{name}: {1 - same:.2%} of the places hold other items"
    product = jax.jit(lambda u, v: u @ v.T)
    calls["jax matmul alone, no mask, no search"] = lambda: product(*here[:2]).block_until_ready()
    command = "python -m bench rank" + (" --data gowalla" if args.data else "")
    about |= {"dim": args.dim, "users": USERS, "items": data.n_items, "k": K}
    what = "4,096 users, with the mask"
    taken = alternate(calls, rounds=args.rounds)
    for name, values in taken.items():
        where = {"jax": device, "tor": hardware_of_torch}.get(name[:3], cpu)()
        extra = about | {"device": where}
        record("rank", name, [1e3 * v for v in values], "ms", command, what=what, **extra)
    n_bytes = 4 * (user_t.numel() + item_t.numel() + len(item) + 2 * USERS * K)
    ours = [1e3 * value for value in taken["jaxrec"]]
    extra = about | {"what": what, "device": device()}
    floors("rank", ours, {"compulsory bytes": n_bytes}, command, **extra)

    # Half of the pairs are relevant and the others masked, at the cost of a real split.
    half = np.random.default_rng(1).permutation(data.n_edges) < data.n_edges // 2
    sought, masked = data.take(np.flatnonzero(half)).csr(), data.take(np.flatnonzero(~half)).csr()
    evaluator = Evaluator(sought, masked, (K,), data.n_items)
    taken = seconds(lambda: evaluator(scorer), repeats=args.rounds)
    what = "evaluation of all users, recall@20"
    extra = about | {"what": what, "users": data.n_users, "device": device()}
    record("rank", "jaxrec", [1e3 * value for value in taken], "ms", command, **extra)


if __name__ == "__main__":
    main()
