"""Import of a CSV of MovieLens-25M's shape, beside pandas and polars by hand: seconds and memory.

The made-up file has 25,000,095 lines of userId,movieId,rating,timestamp for 162,541 users and
59,047 items, sorted by user and in no order within a user, so that the import must sort. By hand,
a script numbers the ids in order, sorts the pairs, keeps the latest repeat of each, and saves the
same arrays; unlike the import it checks no line. Each import is a process of its own, and they take
turns. All must save equal arrays. On a loaded machine, trust processor time, not the wall clock.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.common import record
from jaxrec.log import peak_memory

USERS, ITEMS, ROWS = 162_541, 59_047, 25_000_095
REPEATS = 3
_CHUNK = 1_000_000
_COMMAND = "python -m bench ingest"


def write_csv(path: Path, rows: int, users: int = USERS, items: int = ITEMS) -> None:
    """Write the generated ratings, without a repeated pair."""
    import polars as pl

    rng = np.random.default_rng(0)
    degree_U = rng.pareto(1.3, users) + 0.5
    degree_U = np.minimum(np.maximum(degree_U / degree_U.sum() * rows, 1), items // 2).astype(int)
    while (gap := rows - int(degree_U.sum())) != 0:
        some = rng.choice(users, min(abs(gap), users), replace=False)
        degree_U[some] = np.clip(degree_U[some] + np.sign(gap), 1, items // 2)
    user = np.repeat(np.arange(1, users + 1), degree_U)
    # Within a user, items are start, start + step, ... modulo their number, so none repeats.
    place = np.arange(rows) - np.repeat(np.cumsum(degree_U) - degree_U, degree_U)
    steps = np.flatnonzero(np.gcd(np.arange(1, items), items) == 1) + 1
    start, step = rng.integers(0, items, users), rng.choice(steps, users)
    with path.open("wb") as file:
        for low in range(0, rows, _CHUNK):
            part = slice(low, low + _CHUNK)
            row_of = user[part] - 1
            frame = pl.DataFrame(
                {
                    "userId": user[part],
                    "movieId": (start[row_of] + place[part] * step[row_of]) % items + 1,
                    "rating": rng.integers(1, 11, len(row_of)) / 2,
                    "timestamp": rng.integers(789_652_009, 1_574_327_703, len(row_of)),
                }
            )
            frame.write_csv(file, include_header=low == 0)


def by_jaxrec(source: Path, out: Path) -> None:
    from jaxrec.data.commands import import_data

    import_data(source, out)


def by_pandas(source: Path, out: Path) -> None:
    import pandas as pd  # pyright: ignore[reportMissingImports]

    frame, arrays = pd.read_csv(source), {}
    for side, name in (("user", "userId"), ("item", "movieId")):
        codes, ids = pd.factorize(frame.pop(name), sort=True)
        frame[side] = codes.astype(np.int32)
        arrays[f"{side}_ids"] = np.asarray(ids)
    frame = frame.sort_values(["user", "item", "timestamp"], kind="stable")
    frame = frame.drop_duplicates(["user", "item"], keep="last")
    _save(out, {name: frame[name].to_numpy() for name in frame.columns} | arrays)


def by_polars(source: Path, out: Path) -> None:
    import polars as pl

    frame, arrays = pl.read_csv(source), {}
    for side, name in (("user", "userId"), ("item", "movieId")):
        arrays[f"{side}_ids"] = frame[name].unique().sort().to_numpy()
        code = (pl.col(name).rank("dense") - 1).cast(pl.Int32)
        frame = frame.with_columns(code.alias(side)).drop(name)
    frame = frame.sort("user", "item", "timestamp", maintain_order=True)
    frame = frame.unique(["user", "item"], keep="last", maintain_order=True)
    _save(out, {name: frame[name].to_numpy() for name in frame.columns} | arrays)


def _save(out: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays that a prepared folder has, by the same names and of the same types."""
    arrays["time"] = arrays.pop("timestamp").astype(np.float64)
    arrays["rating"] = arrays["rating"].astype(np.float32)
    out.mkdir()
    for name, array in arrays.items():
        np.save(out / f"{name}.npy", array)


WAYS = {"jaxrec": by_jaxrec, "pandas by hand": by_pandas, "polars by hand": by_polars}


def once(way: str, source: Path, out: Path) -> dict[str, float]:
    """Import in a process of its own; return its seconds and its peak memory in bytes."""
    begin, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, "-m", "bench.ingest", "--once", way, str(source), str(out)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    wall, after = time.perf_counter() - begin, os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    peak = json.loads(done.stdout)["peak"]
    return {"wall": wall, "processor time": spent, "peak memory": peak}


def same_arrays(folders: list[Path]) -> None:
    """Check that all the folders hold equal arrays."""
    for path in sorted(folders[0].glob("*.npy")):
        ours, *others = (np.load(folder / path.name, mmap_mode="r") for folder in folders)
        assert all(np.array_equal(ours, other) for other in others), path.name


def main() -> None:
    """Write the file, import it several times in turns, and record the figures."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        way, source, out = options.once
        WAYS[way](Path(source), Path(out))
        print(json.dumps({"peak": peak_memory()}))
        return
    units = {"wall": "s", "processor time": "s", "peak memory": "bytes"}
    taken = {way: {what: [] for what in units} for way in options.ways}
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "ratings.csv"
        write_csv(source, options.rows, min(USERS, options.rows // 20))
        size = source.stat().st_size
        for repeat in range(REPEATS):
            outs = [Path(name) / f"{way}-{repeat}" for way in options.ways]
            for way, out in zip(options.ways, outs, strict=True):
                for what, value in once(way, source, out).items():
                    taken[way][what].append(value)
            same_arrays(outs)
            for out in outs:
                shutil.rmtree(out)
    for what, unit in units.items():
        ours = statistics.median(taken[options.ways[0]][what])
        for way in options.ways:
            record(
                "ingest",
                way,
                taken[way][what],
                unit,
                _COMMAND,
                what=f"{what} for {options.rows:,} rows",
                rows=options.rows,
                size=size,
                times_first=statistics.median(taken[way][what]) / ours,
                load_before=load,
                load_after=os.getloadavg(),
            )


if __name__ == "__main__":
    main()
