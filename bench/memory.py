"""Ranks 100,000 users over 1,000,000 items, D = 64: seconds and peak memory, in one process."""

import argparse

import jax.numpy as jnp
import numpy as np

from bench.common import device, record, seconds
from jaxrec.data.dataset import Csr
from jaxrec.evaluation import topk
from jaxrec.evaluation.scorers import dot_scorer
from jaxrec.log import peak_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--seen", type=int, default=20, help="masked items a user")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(n, 64)).astype(np.float32) for n in (args.users, args.items)]
    seen = np.sort(rng.integers(0, args.items, (args.users, args.seen)), axis=1)
    indptr = np.arange(args.users + 1, dtype=np.int32) * args.seen
    csr = Csr(indptr, seen.ravel().astype(np.int32))
    scorer = dot_scorer(*map(jnp.asarray, tables))
    users = np.arange(args.users, dtype=np.int32)
    taken = seconds(lambda: topk.top_k(scorer, users, csr, 20), repeats=1, warmup=0)
    about = {"users": args.users, "items": args.items, "dim": 64, "device": device()}
    command = "python -m bench memory"
    what = "top 20 of all items for every user"
    record("memory", "jaxrec", taken, "s", command, what=what, **about)
    record("memory", "jaxrec", [peak_memory() / 1e9], "GB", command, what="peak memory", **about)


if __name__ == "__main__":
    main()
