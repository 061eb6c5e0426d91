"""Import of product metadata into an item graph: products a second, peak memory by size.

The import has one thread, so that products a second of processor time are those of a quiet
machine; the wall clock stands beside them.

The made-up files are as Amazon's of 2014: a Python literal a line, 26 related items a product on
average by a power law, a tenth of them not in the file; a title in every line (a third of them
with quotes of both kinds, which the fast parse cannot take), a description with escapes in
every fourth, a price in half and a brand in a third. Each import is a process of its own.
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

SIZES = (200_000, 1_000_000)
REPEATS = 3
_RELATED, _LONGEST = 26, 160
_OUTSIDE = 0.1
_BRANDS, _GENRES = 20_000, 400
_COMMAND = "python -m bench pairs-import"
_CHUNK = 50_000


def write_metadata(path: Path, products: int, seed: int = 0) -> int:
    """Write the generated products; return the number of related items that they name."""
    rng = np.random.default_rng(seed)
    total = 0
    with path.open("w", encoding="utf-8") as file:
        for low in range(0, products, _CHUNK):
            n = min(_CHUNK, products - low)
            count = np.minimum((rng.pareto(1.5, n) + 0.3) * _RELATED / 2.3, _LONGEST).astype(int)
            # Popular products have low numbers; numbers from `products` on are not in the file.
            other = (products * rng.random(count.sum()) ** 2).astype(np.int64)
            other += np.where(rng.random(len(other)) < _OUTSIDE, products, 0)
            total += len(other)
            names = np.char.add("B", np.char.zfill(other.astype(np.str_), 9)).tolist()
            end = np.cumsum(count).tolist()
            draw = rng.random((n, 4))
            brand, genre = rng.integers(0, _BRANDS, n), rng.integers(0, _GENRES, n)
            for row in range(n):
                mine = names[end[row - 1] if row else 0 : end[row]]
                product: dict[str, object] = {
                    "asin": f"B{low + row:09d}",
                    "title": f"A title of some {genre[row]} words"
                    + (' that isn\'t "plain"' if draw[row, 0] < 1 / 3 else ""),
                }
                if draw[row, 1] < 1 / 4:
                    product["description"] = "First line.\nA second one, as they are. " * 6
                if draw[row, 2] < 1 / 2:
                    product["price"] = round(5 + 40 * float(draw[row, 2]), 2)
                if draw[row, 3] < 1 / 3:
                    product["brand"] = f"Brand {brand[row]}"
                product["categories"] = [["Books", f"Field {genre[row] % 20}", f"{genre[row]}"]]
                half = len(mine) // 3
                related = {"also_bought": mine[half:], "also_viewed": mine[:half]}
                product["related"] = {kind: some for kind, some in related.items() if some}
                file.write(f"{product!r}\n")
    return total


def import_once(source: Path, out: Path) -> None:
    """Import and print the peak memory; this is all that the measured process does."""
    from jaxrec.data.commands import import_items

    base = peak_memory()
    import_items(source, out, "amazon-meta")
    pairs = json.loads((out / "manifest.json").read_text())["pairs"]
    spent = time.process_time()
    print(json.dumps({"peak": peak_memory(), "base": base, "pairs": pairs, "cpu": spent}))


def main() -> None:
    """Write the files, import each several times, and record the figures."""
    parser = argparse.ArgumentParser(prog=_COMMAND, description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--once", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        import_once(*options.once)
        return
    for products in options.sizes:
        with tempfile.TemporaryDirectory() as name:
            source = Path(name) / "meta.json"
            related = write_metadata(source, products)
            speed, wall, peak, pairs = [], [], [], 0
            for repeat in range(options.repeats):
                out = Path(name) / f"prepared-{repeat}"
                begin = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-m", "bench.pairs_import", "--once", str(source), str(out)],
                    check=True,
                    capture_output=True,
                    text=True,
                    cwd=Path(__file__).parents[1],
                )
                wall.append(products / (time.perf_counter() - begin))
                found = json.loads(done.stdout)
                speed.append(products / found["cpu"])
                pairs = found["pairs"]
                peak.append((found["peak"] - found["base"]) / products)
            size = source.stat().st_size
        shape = {"products": products, "related": related, "pairs": pairs, "size": size}
        for what, values in (("processor time", speed), ("wall clock", wall)):
            record("pairs-import", "jaxrec", values, "products/s", _COMMAND, what=what, **shape)
        what = "peak memory beside the libraries"
        record("pairs-import", "jaxrec", peak, "bytes/product", _COMMAND, what=what, **shape)


if __name__ == "__main__":
    main()
