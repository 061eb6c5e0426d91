"""``python scripts/item_graph_table.py DATA``: every item model on one item graph, a row a method.

DATA is product metadata, a table of weighted pairs or a prepared item graph. Two rows of gensim
stand above where it is installed. Each run holds out a third of the pairs, chooses its length on
a tenth of the others, trains it on all of these and reads test once.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.item_graph import METRICS, methods
from jaxrec import presets
from jaxrec.data.formats.item_graphs import resolve_items
from jaxrec.errors import InputError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="what `jaxrec train skipgram --data` takes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        graph = resolve_items(args.data, presets.get("skipgram").pairs)
        print(f"{'':18}{'AUC all':>9}{'AUC seen':>10}{'AP':>8}{'minutes':>9}")
        for name, method in methods().items():
            if name == "skipgram-side" and graph.item_features is None:
                continue
            found, minutes = method(graph, args.seed)
            auc, seen, precision = (found.get(metric, float("nan")) for metric in METRICS)
            print(f"{name:18}{auc:9.4f}{seen:10.4f}{precision:8.4f}{minutes:9.2f}", flush=True)
    except InputError as e:
        print(f"item_graph_table: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
