"""Samples of well-known data sets give the users, items, times and ratings counted by hand."""

import gzip

import pytest
from known_sets import APRIL, DAY, SETS, lines, written

from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import Columns, TextOptions, detect, read
from jaxrec.data.formats.well_known import NAMES, TABLES
from jaxrec.errors import InputError


def rows(data: Dataset) -> list[tuple]:
    """Return each pair's user and item as texts, with its rating, time and weight, sorted."""
    made = [data.user_ids[data.user].astype(str), data.item_ids[data.item].astype(str)]
    made += [c for c in (data.rating, data.time, data.weight) if c is not None]
    return sorted(zip(*(column.tolist() for column in made), strict=True))


def test_every_set_has_a_sample_and_says_where_its_format_is_described():
    assert set(SETS) == set(NAMES)
    assert all(known.source for known in TABLES.values())


@pytest.mark.parametrize("name", SETS)
def test_each_sample_is_read_with_the_counts_made_by_hand(name, tmp_path):
    first = written(tmp_path, name)[-2 if name == "instacart" else 0]
    expected = SETS[name][1]
    assert rows(read(tmp_path, format=name)) == expected
    assert rows(read(first, format=name)) == expected
    if TABLES[name].told:
        assert detect(tmp_path) == detect(first) == name
        assert rows(read(tmp_path)) == expected
    for file in tmp_path.iterdir():
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert rows(read(tmp_path, format=name)) == expected


def test_exposed_pairs_and_skipped_lines_are_reported(tmp_path):
    written(tmp_path, "mind")
    exposed = read(tmp_path).exposed
    assert exposed is not None
    assert len(exposed.user) == 2  # U1 clicked N2 later
    (tmp_path / "shop").mkdir()
    written(tmp_path / "shop", "instacart")
    data = read(tmp_path / "shop")
    assert data.notes["products of orders that orders.csv lacks, left out"] == 1
    (tmp_path / "books").mkdir()
    written(tmp_path / "books", "book-crossing")
    assert "read as latin-1" in read(tmp_path / "books").reading[0].replace("iso8859-1", "latin-1")


def test_the_callers_options_replace_those_of_the_format(tmp_path):
    (path,) = written(tmp_path, "retailrocket")
    weighted = read(path, format="retailrocket", event_weights={"view": 1.0, "transaction": 5.0})
    assert rows(weighted) == [("1", "5", APRIL + DAY, 6)]
    (music,) = written(tmp_path, "lastfm-360k")
    by_id = read(
        music,
        format="lastfm-360k",
        columns=Columns("1", "2", weight="4"),
        text=TextOptions(skip_missing_ids=True),
    )
    assert rows(by_id) == [("a1", "m-1", 2137)]
    (books,) = written(tmp_path, "book-crossing")
    plain = read(books, text=TextOptions(encoding="latin-1"))  # as an ordinary table
    assert rows(plain) == SETS["book-crossing"][1]
    with pytest.raises(InputError, match="format mind has fixed columns"):
        read(written(tmp_path, "mind")[0], format="mind", columns=Columns(user="1"))


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("netflix", "822109,5,", "822109;5;", r"combined_data_1\.txt:3: .*neither a film such as"),
        ("netflix", "1:\n", f"{2**63}:\n", r"combined_data_1\.txt:1: .*neither a film such as"),
        ("netflix", "1:\n", "", r"combined_data_1\.txt:1: '1488844,3,2014-04-01' is neither"),
        (
            "mind",
            "N2-1 N3-0",
            "N2 N3",
            r"behaviors\.tsv:2: the line must have five cells",
        ),
        ("mind", "\tU2\t", "\t", r"behaviors\.tsv:3: the line must have five cells"),
        ("mind", "4/2/2014", "2014-04-02", r"behaviors\.tsv:2: the line must have five cells"),
        ("instacart", "11,196", "x,196", "prior.csv: cannot be read as a table with order_id"),
        ("instacart", "13,7,1,0\n", '13,7,1,0\n"', r"train\.csv: cannot be read as a table"),
        ("hm", "2014-04-02", "soon", r"train\.csv:3: time 'soon' is not a date"),
        ("msd", "SOB\t2", "SOB\t-2", r"triplets\.txt:2: weight -2 is negative"),
        ("steam-library", "'10'}, {", "None}, {", r"items\.json:2: the item is missing"),
    ],
)
def test_faults_name_their_line(name, old, new, said, tmp_path):
    for path in written(tmp_path, name):
        path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=said):
        read(tmp_path, format=name)


def test_a_folder_without_the_file_says_which_is_needed(tmp_path):
    with pytest.raises(
        InputError, match=r"holds no behaviors\.tsv, from which mind is read \(F\. Wu"
    ):
        read(tmp_path, format="mind")
    written(tmp_path, "instacart")
    (tmp_path / "orders.csv").unlink()
    with pytest.raises(InputError, match=r"no orders\.csv beside it"):
        read(tmp_path)


@pytest.mark.parametrize("between", ["|", " "])
def test_orders_are_lists_of_items_in_a_cell(between, tmp_path):
    orders = [("ann", ["1", "2"]), ("bo", ["2"]), ("ann", ["3", "1"])]
    path = tmp_path / "orders.csv"
    cells = [f"{user},{between.join(items)}\n" for user, items in orders]
    path.write_text("user,items\n" + "".join(cells))
    text, columns = TextOptions(item_separator=between), Columns(item="items")
    data = read(path, columns=columns, text=text)
    assert rows(data) == [("ann", "1"), ("ann", "2"), ("ann", "3"), ("bo", "2")]
    assert data.item_ids.tolist() == [1, 2, 3]
    json_path = tmp_path / "orders.jsonl"
    json_path.write_text(lines(*({"user_id": u, "basket": i} for u, i in orders)))
    assert rows(read(json_path, columns=Columns(item="basket"))) == rows(data)
    import polars as pl

    frame = pl.DataFrame({"user": [u for u, _ in orders], "item": [i for _, i in orders]})
    frame.write_parquet(tmp_path / "orders.parquet")
    assert rows(read(tmp_path / "orders.parquet")) == rows(data)
    path.write_text("user,items\nann,1\n,2\n")
    with pytest.raises(InputError, match=r"orders\.csv:3: the user is missing"):
        read(path, columns=columns, text=text)
