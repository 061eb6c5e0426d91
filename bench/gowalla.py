"""The graph on which propagate, step and rank are measured: a given split, or a power-law graph."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from jaxrec.config import SplitConfig
from jaxrec.data import synthetic
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import read
from jaxrec.data.split import split
from jaxrec.graph import bipartite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --data, --dim and --rounds."""
    parser.add_argument("--data", type=Path, help="folder of train.txt, test.txt; else synthetic")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)


def load(data: Path | None) -> tuple[Dataset, dict[str, Any]]:
    """Return the train part, and its description for a line of results."""
    if data is None:
        whole = synthetic.make(29_858, 40_981, 810_128, communities=40, seed=0)
        return whole, {"data": "synthetic, of Gowalla's size"}
    return split(read(data), SplitConfig("given", validation=0.0), 0).train, {"data": "gowalla"}


def directed(data: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return receiver, sender and normalised weight of the 2E directed edges, by receiver."""
    graph = bipartite.build(data)
    receiver, sender = (np.asarray(x).astype(np.int64) for x in (graph.receivers, graph.senders))
    return receiver, sender, np.array(graph.weights)
