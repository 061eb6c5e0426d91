import itertools

import polars as pl
import pytest

from jaxrec.config import WalksConfig
from jaxrec.data import synthetic_items
from jaxrec.errors import InputError
from jaxrec.training.items.walk_files import write_walks


def test_walks_are_written_with_the_ids_of_the_items(tmp_path):
    graph = synthetic_items.make(50, 150, communities=3, seed=1)
    assert write_walks(graph, tmp_path / "walks", WalksConfig(count=3, length=6, q=0.5)) == 150
    frame = pl.read_parquet(tmp_path / "walks")
    assert frame.columns == ["walk"]
    made = frame["walk"].to_list()
    assert sorted(walk[0] for walk in made) == sorted(3 * [str(i) for i in graph.item_ids])
    row = {str(name): i for i, name in enumerate(graph.item_ids)}
    pairs = {frozenset(pair) for pair in zip(graph.src.tolist(), graph.dst.tolist(), strict=True)}
    for walk in made:
        assert len(walk) == 6
        for a, b in itertools.pairwise(walk):
            assert frozenset((row[a], row[b])) in pairs
    with pytest.raises(InputError, match="walks"):
        write_walks(graph, tmp_path / "walks")
