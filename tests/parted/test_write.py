"""Test that a folder of parts has the arrays of an in-memory build, and limits the memory used."""

import gzip
import resource
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from jaxrec.cli.data import data
from jaxrec.config import SplitConfig
from jaxrec.data.dataset import REPEATED
from jaxrec.data.formats import Repeats, TextOptions, read
from jaxrec.data.formats import text as text_files
from jaxrec.data.split import Splits
from jaxrec.data.split import split as split_data
from jaxrec.errors import InputError
from jaxrec.graph import buckets
from jaxrec.graph.partition import layout, partition
from jaxrec.parted import layout as folders
from jaxrec.parted import pairs, spill
from jaxrec.parted.write import partition_data
from jaxrec.training.placement.mesh_data import mesh_data

WEIGHTS = {"view": 0.1, "buy": 0.7, "shown": 0.0}


def random_frame(seed: int, size: int, texts: bool) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    user = (rng.pareto(1.2, size) * 4).astype(np.int64) % 23
    item = (rng.pareto(1.2, size) * 3).astype(np.int64) % 17
    frame = pl.DataFrame({"user": 5 * user - 40, "item": item})
    if texts:
        frame = frame.select(pl.format("u{}", "user").alias("user"), pl.col("item"))
    event = rng.choice(list(WEIGHTS), size, p=[0.5, 0.4, 0.1])
    return frame.with_columns(event=pl.Series(event), time=pl.Series(rng.integers(0, 9, size)))


def in_memory(path, config: SplitConfig, seed: int, weights) -> Splits:
    return split_data(read(path, event_weights=weights), config, seed)


def device_arrays(splits: Splits, parts: int, exchange: str) -> dict[str, np.ndarray]:
    """Return the arrays that a run splits over its devices, by their names in the files."""
    made = partition(splits.train, layout(splits.train, None, parts), exchange)
    arrays, _ = mesh_data(splits.train, made, jax.random.key(0), None)
    graph = made.shard.graph
    found = {f"send_{n}": row for n, row in enumerate(made.shard.send)}
    found |= {name: getattr(graph.graph, name) for name in ("senders", "receivers", "edges")}
    found |= {name: getattr(graph.graph, name) for name in ("n_node", "n_edge")}
    found |= {"indptr": graph.indptr, "degree": graph.degree_N}
    pairs = arrays.pairs
    found |= {"pairs_user": pairs.user_E, "pairs_item": pairs.item_E}
    if pairs.weight_E is not None:
        found["pairs_weight"] = pairs.weight_E
    found |= {"pairs_indptr": pairs.indptr, "pairs_active": pairs.active}
    found |= {"known_indptr": arrays.known.indptr, "known_items": arrays.known.indices}
    return found | {"known_users": arrays.users}


def assert_equal_parts(folder, manifest, splits: Splits, parts: int) -> None:
    expected = device_arrays(splits, parts, manifest["exchange"])
    assert manifest["arrays"].keys() == expected.keys()
    for name, array_T in expected.items():
        for t in range(parts):
            found = np.load(folder / folders.part_folder(t) / f"{name}.npy")
            assert found.dtype == array_T.dtype, name
            np.testing.assert_array_equal(found, array_T[t], err_msg=f"{name} of part {t}")
    made = partition(splits.train, layout(splits.train, None, parts))
    assert manifest["traffic"] == made.traffic._asdict()
    for name, part in splits._asdict().items():
        of_parts = []
        for t in range(parts):
            at = folder / folders.part_folder(t) / name
            indptr, items = np.load(f"{at}_indptr.npy"), np.load(f"{at}_items.npy")
            user = np.repeat(np.arange(part.n_users), np.diff(indptr))
            of_parts.append(np.stack([user, items]))
        user, item = np.concatenate(of_parts, axis=1)
        order = np.lexsort((item, user))
        np.testing.assert_array_equal(user[order], part.user)
        np.testing.assert_array_equal(item[order], part.item)
        for side in ("user", "item"):
            count = np.load(folder / f"{name}_{side}s.npy")
            np.testing.assert_array_equal(count, getattr(part, f"{side}_counts")())
    for name in ("user_ids", "item_ids"):
        ids = getattr(splits.train, name)
        found = np.load(folder / f"{name}.npy")
        assert found.dtype == ids.dtype
        np.testing.assert_array_equal(found, ids)


CONFIGS = [
    SplitConfig("hashed"),
    SplitConfig("hashed", per_user=False, test=0.3),
    SplitConfig("leave-last-out"),
    SplitConfig("temporal", test=0.4),
    SplitConfig("temporal", per_user=False, test_time=6.0, validation_time=4.0),
]


@settings(
    max_examples=15,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(60, 200),
    parts=st.integers(2, 5),
    rows=st.sampled_from([7, 40, 1000]),
    config=st.sampled_from(CONFIGS),
    weighted=st.booleans(),
    exchange=st.sampled_from(["auto", "ring", "all_to_all", "all_gather"]),
)
def test_parts_made_out_of_core_are_those_made_in_memory(
    tmp_path_factory, seed, size, parts, rows, config, weighted, exchange
):
    tmp_path = tmp_path_factory.mktemp("parts")
    src, out = tmp_path / "pairs.parquet", tmp_path / "parts"
    random_frame(seed, size, texts=seed % 2 == 0).write_parquet(src, row_group_size=16)
    weights = WEIGHTS if weighted else None
    splits = in_memory(src, config, seed, weights)
    manifest = partition_data(
        src,
        out,
        parts,
        split=config,
        seed=seed,
        exchange=exchange,
        event_weights=weights,
        rows=rows,
    )
    assert_equal_parts(out, manifest, splits, parts)
    assert {path.suffix for path in out.rglob("*") if path.is_file()} == {".npy", ".json"}


def test_a_split_that_files_and_folders_give_is_that_of_files(tmp_path):
    user, item = np.divmod(np.random.default_rng(1).permutation(30 * 40)[:300], 40)
    frame = pl.DataFrame({"user": user, "item": item})
    thirds = {"train": frame[:200], "valid": frame[200:230], "test": frame[230:]}
    flat, nested = tmp_path / "flat", tmp_path / "nested"
    flat.mkdir()
    for name, part in thirds.items():
        part.write_parquet(flat / f"{name}.parquet")
        folder = nested / f"split={name}"
        folder.mkdir(parents=True)
        for n, some in enumerate(part.iter_slices(37)):
            some.write_parquet(folder / f"part-{n:04d}.parquet")
    (nested / "_SUCCESS").touch()
    splits = in_memory(flat, SplitConfig(), 0, None)
    for src in (flat, nested):
        manifest = partition_data(src, tmp_path / f"{src.name}-out", 3, rows=50)
        assert manifest["split"]["name"] == "given"
        assert_equal_parts(tmp_path / f"{src.name}-out", manifest, splits, 3)


def _gzipped_csv(frame: pl.DataFrame, folder: Path) -> Path:
    path = folder / "pairs.csv.gz"
    path.write_bytes(gzip.compress(frame.write_csv(separator=";").encode()))
    return path


def _quoted(frame: pl.DataFrame, folder: Path) -> Path:
    """Write ids that hold ends of lines and separators, quoted, between blank lines."""
    path = folder / "pairs.csv"
    named = frame.with_columns(pl.format('a\n\n"{}",', "user").alias("user"))
    head, _, rest = named.write_csv().partition("\n")
    path.write_text(f"{head}\n\n" + rest.replace("\na", "\n\n\na"))
    return path


def _utf16(frame: pl.DataFrame, folder: Path) -> Path:
    path = folder / "pairs.tsv"
    path.write_bytes(frame.write_csv(separator="\t").encode("utf-16"))
    return path


def _pointed(frame: pl.DataFrame, folder: Path) -> Path:
    """Write whole numbers as 1.0, as pandas does, in half of the lines."""
    path, lines = folder / "pairs.csv", frame.write_csv().splitlines()
    half = [
        line.replace(",", ".0,", 1) if n > len(lines) // 2 else line for n, line in enumerate(lines)
    ]
    path.write_text("\n".join(half))
    return path


def _several(frame: pl.DataFrame, folder: Path) -> Path:
    for n, some in enumerate(frame.iter_slices(70)):
        some.write_ndjson(folder / f"pairs-{n}.jsonl")
    return folder / "pairs-*.jsonl"


def _by_pattern(frame: pl.DataFrame, folder: Path) -> Path:
    for n, some in enumerate(frame.iter_slices(70)):
        some.write_parquet(folder / f"pairs-{n}.parquet")
    return folder / "pairs-*.parquet"


def _in_a_folder(frame: pl.DataFrame, folder: Path) -> Path:
    frame.write_csv(folder / "given.csv")
    read(folder / "given.csv").save(folder / "prepared")
    return folder / "prepared"


def _parquet(frame: pl.DataFrame, folder: Path) -> Path:
    frame.write_parquet(folder / "pairs.parquet", row_group_size=16)
    return folder / "pairs.parquet"


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (_gzipped_csv, {}),
        (_quoted, {}),
        (_quoted, {"skip_bad_lines": True}),
        (_utf16, {"encoding": "utf-16"}),
        (_pointed, {}),
        (_several, {"skip_missing_ids": True}),
        (_by_pattern, {}),
        (_in_a_folder, {}),
        (_parquet, {"skip_bad_lines": True}),
    ],
)
def test_whatever_is_imported_is_partitioned_in_pieces(write, text, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_HEAD", 128)  # bytes, so that small files have many pieces
    frame = random_frame(2, 300, texts=write is not _pointed).drop("event")
    options = TextOptions(**text)
    src, config = write(frame, tmp_path), SplitConfig("leave-last-out")
    splits = split_data(read(src, text=options), config, 0)
    held = []
    add = spill.Spill.add
    monkeypatch.setattr(
        spill.Spill, "add", lambda self, records: (held.append(len(records)), add(self, records))
    )
    format = "parquet" if write is _by_pattern else None
    manifest = partition_data(
        src, tmp_path / "out", 3, split=config, format=format, text=options, rows=20
    )
    assert_equal_parts(tmp_path / "out", manifest, splits, 3)
    assert max(held) <= 20
    assert len(manifest["reading"]) <= 1


def test_counts_and_the_repeat_that_stays_are_those_of_an_import(tmp_path):
    path, repeats = tmp_path / "pairs.csv", Repeats("first", count=True)
    random_frame(5, 300, texts=True).drop("event").write_csv(path)
    config = SplitConfig("temporal", per_user=False, test_time=6.0, validation_time=4.0)
    splits = split_data(read(path, repeats=repeats), config, 0)
    assert splits.train.weight is not None
    manifest = partition_data(path, tmp_path / "out", 2, split=config, repeats=repeats, rows=50)
    assert_equal_parts(tmp_path / "out", manifest, splits, 2)


def test_faults_in_a_later_piece_are_named_by_their_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_HEAD", 64)
    path, out = tmp_path / "pairs.csv", tmp_path / "out"
    lines = [f"u{n},i{n % 7}\n" for n in range(90)]

    def refused(line: str, words: str) -> None:
        path.write_text("user,item\n" + "".join([*lines[:80], line, *lines[80:]]))
        with pytest.raises(InputError, match=words):
            partition_data(path, out, 2, rows=4)
        assert not out.exists()

    refused("u1\n", r"pairs\.csv:82: 1 column, where the first line has 2")
    refused('u1,"i\n', r"pairs\.csv:82: ")
    refused("u1,\n", r"pairs\.csv:82: the item is missing")
    refused("u1,i\0\n", r"pairs\.csv:82: not UTF-8 text but binary data")
    refused("user,item\n", r"pairs\.csv:82: the line repeats the header")
    refused("u1,i\xe9,\n", r"pairs\.csv:82: 3 columns")
    options = TextOptions(skip_bad_lines=True)
    assert partition_data(path, out, 2, text=options, rows=4)["interactions"] == 90


def test_memory_holds_so_many_rows_at_once_and_no_more(tmp_path, monkeypatch):
    rows, held = 64, []
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"user": rng.integers(0, 200, 3000), "item": rng.integers(0, 150, 3000)})
    frame.write_parquet(tmp_path / "pairs.parquet", row_group_size=500)
    merged, add, take = pairs._Block.merged, spill.Spill.add, spill.Spill.take

    def watched(function):
        def call(self, records, *more):
            held.append(len(records))
            return function(self, records, *more)

        return call

    def taken(self, block, rows=None):
        for records in take(self, block, rows):
            held.append(len(records))
            yield records

    monkeypatch.setattr(pairs._Block, "merged", watched(merged))
    monkeypatch.setattr(spill.Spill, "add", watched(add))
    monkeypatch.setattr(spill.Spill, "take", taken)
    read = spill.Column.read

    def counted(self, start, stop):
        found = read(self, start, stop)
        held.append(len(found))
        return found

    monkeypatch.setattr(spill.Column, "read", counted)
    partition_data(tmp_path, tmp_path / "out", 3, rows=rows)
    # No user or item has more rows than this here, so no block may have more.
    assert max(held) <= rows
    assert sum(held) > 5 * 3000


def test_blocks_hold_whole_keys_and_at_most_so_many_records():
    np.testing.assert_array_equal(spill.blocks(np.array([3, 3, 9, 1, 0, 2]), 6), [0, 2, 3, 6])
    np.testing.assert_array_equal(spill.blocks(np.zeros(0, int), 6), [0])


def test_buckets_of_known_sizes_stand_for_those_of_other_parts():
    rng = np.random.default_rng(0)
    made, sizes = [], []
    for n in (40, 70, 10):
        degree = np.concatenate([rng.integers(0, 30, 50), rng.integers(30, n * 40, 5)])
        indptr = np.append(0, np.cumsum(degree))
        edges = rng.integers(0, 60, indptr[-1]), rng.random(indptr[-1]).astype(np.float32)
        made.append(buckets.group_rows(indptr, *edges))
        sizes.append(buckets.sizes(degree))
    whole = buckets.stacked(made)
    filler = buckets.of_sizes(buckets.largest(sizes))
    for t, own in enumerate(made):
        alone = buckets.stacked([own, filler])
        same = jax.tree.map(lambda a, b, t=t: (a[0] == b[t]).all(), alone, whole)
        assert jax.tree.all(same)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": SplitConfig("random")}, "take --split.name hashed"),
        ({"split": SplitConfig("given")}, "gives no split; choose --split.name hashed"),
        ({"split": SplitConfig("leave-last-out")}, "needs a time column"),
        ({"split": SplitConfig("temporal", per_user=False)}, "give --split.test-time"),
        ({"parts": 1}, "must be at least 2"),
        ({"rows": 0}, "and rows at least 1"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(tmp_path, options, words):
    pl.DataFrame({"user": [1, 2, 2], "item": [1, 1, 2]}).write_parquet(tmp_path / "a.parquet")
    options = {"parts": 2} | options
    with pytest.raises(InputError, match=words):
        partition_data(tmp_path / "a.parquet", tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_the_command_says_what_it_wrote_and_only_a_mesh_takes_it(tmp_path, capsys):
    random_frame(0, 200, texts=True).write_parquet(tmp_path / "pairs.parquet")
    out = str(tmp_path / "out")
    told = [str(tmp_path), "--out", out, "--parts", "2", "--event-weights", "buy=2", "view=1"]
    data(["partition", *told, "shown=0", "--split.no-per-user", "--rows", "50"])
    printed = capsys.readouterr().out
    assert "2: train with --mesh.table 2" in printed
    assert "hashed, seed 0" in printed
    assert "note          left alone" in printed
    data(["stats", out])
    assert capsys.readouterr().out in printed
    with pytest.raises(InputError, match="train on it, with --mesh"):
        read(out)
    with pytest.raises(InputError, match="exists already"):
        data(["partition", *told, "shown=0"])


def test_a_disk_that_takes_no_more_is_told_in_words_and_nothing_is_left(tmp_path):
    random_frame(0, 200, texts=False).write_parquet(tmp_path / "pairs.parquet")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (600, 2500):  # bytes per file: too few to read pairs, then too few to write parts
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(InputError, match="cannot be written"):
                partition_data(tmp_path / "pairs.parquet", tmp_path / "out", 2, rows=20)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [path.name for path in tmp_path.iterdir()] == ["pairs.parquet"]


@pytest.mark.parametrize("how", ["drop", "keep"])
def test_what_several_given_parts_have_is_left_out_or_kept_as_in_memory(how, tmp_path):
    rng, src = np.random.default_rng(3), tmp_path / "src"
    src.mkdir()
    for name, size in (("train", 200), ("validation", 60), ("test", 90)):
        frame = random_frame(int(rng.integers(99)), size, texts=False)
        frame.write_parquet(src / f"{name}.parquet")
    config = SplitConfig("given", repeats=how)
    splits = in_memory(src, config, 0, WEIGHTS)
    manifest = partition_data(
        src, tmp_path / "out", 3, split=config, event_weights=WEIGHTS, rows=40
    )
    assert_equal_parts(tmp_path / "out", manifest, splits, 3)
    seen = set(zip(splits.train.user.tolist(), splits.train.item.tolist(), strict=True))
    test = set(zip(splits.test.user.tolist(), splits.test.item.tolist(), strict=True))
    assert bool(seen & test) == (how == "keep")
    assert manifest["notes"][REPEATED] > 0


def test_faults_of_the_source_are_named(tmp_path):
    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words):
            partition_data(tmp_path, tmp_path.parent / "out", 2, rows=2)

    refused("none of its files has a known format")
    pl.DataFrame({"user": [1, 2, 2, None], "item": [1, 1, 2, 3]}).write_parquet(
        tmp_path / "train.parquet"
    )
    refused("train.parquet: row 4: the user is missing")
    pl.DataFrame({"user": [1, 2, 2], "item": [1, 1, 2]}).write_parquet(tmp_path / "train.parquet")
    pl.DataFrame({"user": [2], "item": [2]}).write_parquet(tmp_path / "test.parquet")
    how = SplitConfig(repeats="refuse")
    with pytest.raises(InputError, match="user 2 and item 2 are a pair in two parts of the split"):
        partition_data(tmp_path, tmp_path.parent / "out", 2, rows=2, split=how)
    pl.DataFrame({"user": [2], "item": [3]}).write_parquet(tmp_path / "test.parquet")
    refused("no validation part")
    (tmp_path / "more.parquet").write_bytes((tmp_path / "test.parquet").read_bytes())
    refused("more.parquet: other files name a part of the split")
    (tmp_path / "more.parquet").write_bytes(b"nonsense")
    (tmp_path / "test.parquet").unlink()
    (tmp_path / "train.parquet").unlink()
    refused("more.parquet: not a Parquet file")
