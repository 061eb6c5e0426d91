"""Test that a saved split identifies pairs by their ids, whatever their row numbers are."""

from dataclasses import replace

import numpy as np
import pytest

from jaxrec.config import PairsConfig, SplitConfig
from jaxrec.data import synthetic
from jaxrec.data.dataset import TEST, TRAIN, VALIDATION
from jaxrec.data.itemgraph import ItemGraph
from jaxrec.data.pair_keys import id_hashes
from jaxrec.data.pair_split import draw_pairs
from jaxrec.data.saved_split import NAME, KeptSplit, hashes, load, rule
from jaxrec.errors import InputError
from jaxrec.files import write_npz

DATA = synthetic.make(60, 40, 600, communities=3, seed=1)


def test_ids_hash_as_they_are_written_whatever_their_table():
    numbers = np.array([7, -3, 10**12], np.int64)
    np.testing.assert_array_equal(id_hashes(numbers), id_hashes(numbers.astype(str)))
    wide = np.array(["7", "-3", "1000000000000", "an id of many letters, and ü"])
    np.testing.assert_array_equal(id_hashes(numbers), id_hashes(wide)[:3])
    assert len(set(id_hashes(np.arange(300_000)).tolist())) == 300_000
    assert not set(id_hashes(numbers, 1).tolist()) & set(id_hashes(numbers, 2).tolist())


def test_pairs_hash_alike_in_tables_that_grew_and_apart_from_all_others():
    grown = replace(
        DATA,
        user=DATA.user + 2,
        item=DATA.item + 1,
        user_ids=np.append(["A", "B"], DATA.user_ids.astype(str)),
        item_ids=np.append(["A"], DATA.item_ids.astype(str)),
    )
    np.testing.assert_array_equal(hashes(grown), hashes(DATA))
    assert len(set(hashes(DATA).tolist())) == DATA.n_edges
    ids = np.array([3, 1, 2])
    graph = ItemGraph(np.array([0, 1], np.int32), np.array([1, 2], np.int32), np.ones(2, "f4"), ids)
    turned = replace(graph, src=graph.src[:1], dst=graph.dst[:1], weight=graph.weight[:1])
    turned = replace(turned, item_ids=np.array([1, 3]))
    assert hashes(turned)[0] == hashes(graph)[0]


def test_what_is_kept_comes_back_and_a_chain_remembers_all_that_was_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    part = rng.integers(0, 3, DATA.n_edges).astype(np.uint8)
    hash_E = hashes(DATA)
    kept = KeptSplit.of(hash_E, part, rule(SplitConfig("random")), 5)
    kept.save(tmp_path)
    back = load(tmp_path)
    assert back is not None
    assert (back.protocol, back.seed, back.whole) == (rule(SplitConfig("random")), 5, True)
    np.testing.assert_array_equal(back.parts(hash_E), part)
    np.testing.assert_array_equal(back.trained(hash_E), part == TRAIN)
    assert (back.parts(hash_E[::-1] + np.uint64(64)) == -1).all()
    refit = KeptSplit.of(hash_E, part, {}, 0, refit=True)
    np.testing.assert_array_equal(refit.trained(hash_E), part != TEST)
    # A later run trained on half of the pairs, and held out other pairs.
    half = np.arange(DATA.n_edges) % 2 == 0
    later = KeptSplit.of(hash_E[half], np.full(half.sum(), TEST), {}, 0, before=kept)
    np.testing.assert_array_equal(later.parts(hash_E), np.where(half, TEST, part))
    np.testing.assert_array_equal(later.trained(hash_E), part == TRAIN)
    alone = KeptSplit.of(hash_E[half], np.full(half.sum(), TEST), {}, 0)
    np.testing.assert_array_equal(alone.joined(kept).trained(hash_E), part == TRAIN)
    nothing = KeptSplit.of(hash_E[:0], part[:0], {}, 0)
    assert (nothing.parts(hash_E) == -1).all()
    np.testing.assert_array_equal(nothing.joined(kept).parts(hash_E), part)


def test_a_file_that_is_damaged_is_refused_by_name(tmp_path):
    assert load(tmp_path) is None
    for arrays in ({"pairs": np.zeros(3)}, {"pairs": np.arange(3)[::-1], "about": np.array("{}")}):
        write_npz(tmp_path / NAME, arrays)
        with pytest.raises(InputError, match=r"split\.npz: damaged"):
            load(tmp_path)


def test_pairs_of_items_stay_where_they_were_and_new_ones_are_drawn():
    rng = np.random.default_rng(2)
    key = rng.choice(80 * 80, 900, replace=False)
    a, b = np.divmod(key, 80)
    graph = ItemGraph.of_pairs(a, b, np.ones(900), np.arange(80))
    old = graph.take(np.flatnonzero((graph.src < 60) & (graph.dst < 70)))
    config = PairsConfig()
    was = draw_pairs(old, config, 0)
    kept = KeptSplit.of(hashes(old), was, rule(config), 0)
    part = kept.of_pairs(hashes(graph)).part
    label = draw_pairs(graph, config, 1, part)
    np.testing.assert_array_equal(label[part >= 0], part[part >= 0])
    assert np.bincount(label).tolist() == np.bincount(draw_pairs(graph, config, 1)).tolist()
    assert {TRAIN, VALIDATION, TEST} == set(label[part < 0].tolist())


def test_rules_that_differ_in_what_a_split_reads_are_not_the_same():
    assert rule(SplitConfig("random")) != rule(SplitConfig("random", test=0.3))
    assert rule(SplitConfig("random")) != rule(SplitConfig("hashed"))
    assert rule(SplitConfig("given", test=0.1)) == rule(SplitConfig("given", test=0.3))
    last = SplitConfig("leave-last-out", validation=0.2)
    assert rule(last) == rule(SplitConfig("leave-last-out"))
