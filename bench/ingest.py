"""Import of a CSV of MovieLens-25M's shape: wall seconds and peak memory of a fresh process.

The made-up file has 25,000,095 lines of userId,movieId,rating,timestamp for 162,541 users and
59,047 items, sorted by user and in no order within a user, so that the import must sort.
"""

import argparse
import json
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


def import_once(source: Path, out: Path) -> None:
    """Import and print the peak memory; this is all that the measured process does."""
    from jaxrec.data.commands import import_data

    import_data(source, out)
    print(json.dumps({"peak": peak_memory()}))


def main() -> None:
    """Write the file, import it several times, each in its own process, and record the figures."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--once", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        import_once(*options.once)
        return
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "ratings.csv"
        write_csv(source, options.rows, min(USERS, options.rows // 20))
        taken, peaks = [], []
        for repeat in range(REPEATS):
            out = Path(name) / f"prepared-{repeat}"
            begin = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "bench.ingest", "--once", str(source), str(out)],
                check=True,
                capture_output=True,
                text=True,
                cwd=Path(__file__).parents[1],
            )
            taken.append(time.perf_counter() - begin)
            peaks.append(json.loads(done.stdout)["peak"])
        size = source.stat().st_size
    for what, values, unit in (("wall", taken, "s"), ("peak memory", peaks, "bytes")):
        record("ingest", "jaxrec", values, unit, _COMMAND, what=what, rows=options.rows, size=size)


if __name__ == "__main__":
    main()
