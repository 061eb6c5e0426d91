"""1 million users, 1 million items, 100 million pairs: each stage's time and memory.

The made-up pairs (power-law degrees) are written as Parquet and imported; LightGCN trains a few
steps on a mesh of two virtual devices, each with half of the table and of the graph's rows; it is
killed by SIGKILL behind a checkpoint, goes on from it and ranks all items for a sample of users.
Every stage is a process of its own, as a user's is, and its memory is the largest that it held.
"""

import argparse
import signal
import tempfile
from pathlib import Path

from bench import stages
from bench.common import cpu, record
from jaxrec.runfolder import read_json, read_lines

COMMAND = "python -m bench large"
DEVICES, STEPS = 2, 4
VIRTUAL = {"JAX_NUM_CPU_DEVICES": str(DEVICES)}
SAMPLE = 10_000  # held-out pairs, about as many as ranked users


def make(path: Path, users: int, items: int, pairs: int) -> None:
    """Write the pairs as Parquet."""
    import polars as pl

    from jaxrec.data import synthetic

    data = synthetic.make(users, items, pairs, communities=max(items // 1000, 1))
    pl.DataFrame({"user": data.user, "item": data.item}).write_parquet(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=100_000_000)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = [f"--{name}={getattr(args, name)}" for name in ("users", "items", "pairs")]
    if args.make:
        make(args.make, args.users, args.items, args.pairs)
        return
    with tempfile.TemporaryDirectory() as parent:
        home = Path(parent)
        source, data, folder = home / "pairs.parquet", home / "data", home / "run"
        made = stages.run(["bench", "large", *size, "--make", str(source)])
        assert made.status == 0
        imported = stages.run(["jaxrec", "data", "import", str(source), "--out", str(data)])
        assert imported.status == 0
        options = ["--data", str(data), "--run", str(folder), "--mesh.table", str(DEVICES)]
        share = f"{min(SAMPLE / args.pairs, 0.1):.12f}"
        options += ["--split.name", "random", "--split.no-per-user", "--split.test", share]
        options += ["--split.validation", "0", "--eval.select-on", "none", "--eval.k", "20"]
        options += ["--train.steps", str(STEPS), "--eval.every", "0", "--checkpoint.every", "1"]
        train = ["jaxrec", "train", "lightgcn", *options]
        killed = stages.run(train, lambda: bool(stages.sealed(folder)), VIRTUAL)
        assert killed.status == -signal.SIGKILL, killed.status
        at = max(stages.sealed(folder))
        resumed = stages.run(["jaxrec", "resume", str(folder)], env=VIRTUAL)
        assert resumed.status == 0
        timing, result = read_lines(folder / "timing.jsonl"), read_json(folder / "eval.json")
        newest = folder / "checkpoints" / str(max(stages.sealed(folder)))
        written = [path.stat().st_mtime for path in newest.rglob("*")]
        size_of = {
            "checkpoint": sum(p.stat().st_size for p in newest.rglob("*")),
            "prepared data": sum(p.stat().st_size for p in data.rglob("*")),
        }
    about = {"users": args.users, "items": args.items, "pairs": args.pairs, "devices": DEVICES}
    about |= {"device": cpu(), "killed_after_step": at, "ranked_users": result["users"]}

    def line(what: str, values: list[float], unit: str) -> None:
        record("large", "jaxrec", values, unit, COMMAND, what=what, **about)

    def took(name: str) -> list[float]:
        return [line[name] for line in timing if name in line]

    parts = {"import": imported, "training until killed": killed, "resumed to the end": resumed}
    for name, stage in parts.items():
        line(f"{name}: wall", [stage.seconds], "s")
        line(f"{name}: largest memory", [stage.memory / 1e9], "GB")
        line(f"{name}: memory a pair", [stage.memory / args.pairs], "bytes")
    for name, found in size_of.items():
        line(f"{name}: size", [found / 1e9], "GB")
    line("partition", took("partition_seconds"), "s")
    line("first table", took("initialise_seconds"), "s")
    line("checkpoint: writing and its sums", [max(written) - min(written)], "s")
    ranked = f"all items for {result['users']:,} users and {result['train']['users']:,} of train"
    line(f"ranking: {ranked}, two baselines", took("evaluate_seconds"), "s")
    line("compilation", took("compile_seconds"), "s")
    line("training step", [1 / rate for rate in took("steps_per_second")], "s")


if __name__ == "__main__":
    main()
