"""Feature tables: found in the data's folder or given, matched by id, refused with the line."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from jaxrec.data.dataset import Dataset
from jaxrec.data.features import Bag, Category, Features, Number
from jaxrec.data.formats import read
from jaxrec.errors import InputError

PAIRS = "user,item\n1,7\n2,9\n2,10\n"


@pytest.fixture
def write(tmp_path):
    """Write texts by file name."""

    def go(**files: str | bytes) -> Path:
        for name, content in files.items():
            path = tmp_path / name.replace("__", ".")
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path

    return go


def values(features: Features | None) -> dict[str, list]:
    """Return each column as a list, with None for missing values."""
    assert features is not None
    made = {}
    for name, column in features.columns.items():
        if isinstance(column, Category):
            cells = column.names[column.code].tolist()
        elif isinstance(column, Bag):
            cells = [column.names[c].tolist() for c in np.split(column.code, column.indptr[1:-1])]
        else:
            cells = column.value.tolist()
        missing = column.missing()
        made[name] = [None if missing[row] else cell for row, cell in enumerate(cells)]
    return made


def pairs(data: Dataset) -> list[tuple]:
    """Return the user id and the item id of every interaction."""
    ids = data.user_ids[data.user].tolist(), data.item_ids[data.item].tolist()
    return list(zip(*ids, strict=True))


ITEMS = "sku,price,maker,tags\n9,2.5,b,x|y\n7,,a,\n10,3,,y\n"
READ = {
    "price": [None, 2.5, 3.0],
    "maker": ["a", "b", None],
    "tags": [None, ["x", "y"], ["y"]],
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("items.csv", ITEMS),
        ("items.tsv", ITEMS.replace(",", "\t")),
        ("items.csv", "\ufeff\r\n" + ITEMS.replace("\n", "\r\n\r\n").replace("b,", '"b ",')),
        ("items.csv", "price;sku;maker;tags\n2.5;9;b;x|y\n;7;a;\n3;10;;y\n"),
        (
            "a.item",
            "item_id:token\tprice:float\tmaker:token\ttags:token_seq\n"
            "9\t2.5\tb\tx y\n7\t\ta\t\n10\t3\t\ty\n",
        ),
    ],
)
def test_text_tables_are_read_by_id(write, name, text):
    folder = write(a__csv=PAIRS, **{name.replace(".", "__"): text})
    data = read(folder / "a.csv", items=folder / name)
    assert {name: values(data.item_features)[name] for name in READ} == READ
    assert data.user_features is None
    assert data.notes == {}


def test_parquet_tables_keep_their_types(write):
    folder = write(a__csv=PAIRS)
    frame = {
        "name": ["x", "y", "z"],
        "uid": [2.0, 1.0, 3.0],
        "look": [[1.0, 2.0], None, [3.0, 4.0]],
    }
    pl.DataFrame(frame).write_parquet(folder / "users.parquet")
    data = read(folder / "a.csv", users=folder / "users.parquet", cold_users=True)
    assert data.user_ids.tolist() == [1, 2, 3]
    assert values(data.user_features) == {
        "name": ["y", "x", "z"],
        "look": [None, [1.0, 2.0], [3.0, 4.0]],
    }


def test_recbole_types_decide_the_type_of_a_column(write):
    text = "item_id:token\tzip:token\tlook:float_seq\n9\t11\t1  2 \n7\t12\t\n10\tx\t3 4.5\n"
    folder = write(a__csv=PAIRS, a__item=text)
    found = values(read(folder / "a.csv", items=folder / "a.item").item_features)
    assert found == {"zip": ["12", "11", "x"], "look": [None, [1.0, 2.0], [3.0, 4.5]]}


def test_ids_without_a_row_are_missing_and_counted(write):
    folder = write(a__csv=PAIRS, items__csv="item,price\n9,2\n")
    data = read(folder / "a.csv", items=folder / "items.csv")
    assert values(data.item_features) == {"price": [None, 2.0, None]}
    assert data.notes == {"items without a row in the catalogue": 2}


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize(
    ("more", "ids"), [("8,1\n3,2\n", [3, 7, 8, 9, 10]), ("x,1\n8,2\n", ["10", "7", "8", "9", "x"])]
)
def test_cold_items_join_the_id_table_in_order(write, more, ids, prepared):
    folder = write(a__csv=PAIRS, items__csv=f"item,price\n9,3\n{more}")
    path, plain = folder / "a.csv", read(folder / "a.csv")
    if prepared:
        path = folder / "prepared"
        plain.save(path)
    data = read(path, items=folder / "items.csv", cold_items=True)
    assert data.item_ids.tolist() == ids
    assert sorted(pairs(data), key=str) == sorted(
        ((user, type(ids[0])(item)) for user, item in pairs(plain)), key=str
    )
    key = data.user * data.n_items + data.item
    assert (key[1:] > key[:-1]).all()
    assert data.notes == {
        "items of the catalogue that have no pairs, kept": 2,
        "items without a row in the catalogue": 2,
    }
    price = dict(zip(map(str, ids), values(data.item_features)["price"], strict=True))
    assert price["9"] == 3.0
    assert price["10"] is None
    assert sum(cell is not None for cell in price.values()) == 3


def test_both_sides_at_once(write):
    folder = write(a__csv=PAIRS, items__csv=ITEMS, users__csv="user,age\n2,30\n1,\n")
    data = read(folder / "a.csv", items=folder / "items.csv", users=folder / "users.csv")
    assert values(data.user_features) == {"age": [None, 30.0]}
    assert values(data.item_features) == READ


FAULTS = {
    "unknown id": (
        "item,x\n9,1\n8,2\n",
        ":3: item 8 is not in the interactions; drop the row.*-it",
    ),
    "same id": ("item,x\n9,1\n\n9,2\n", r":4: item 9 is already at .*items\.csv:2; drop one"),
    "no id": ("item,x\n9,1\n,2\n", ":3: the item is missing"),
    "a cell too many": ("item,x\n9,1\n7,2,3\n", ":3: 3 columns, where the first line has 2"),
    "infinity": ("item,x\n9,1\n7,inf\n", ":3: x inf is not a finite number"),
    "mixed": (
        "item,x\n9,1\n7,about 3\n" + "".join(f"{n},{n}\n" for n in range(20, 30)),
        ":3: x 'about 3' is not a number, in a column of mixed types",
    ),
    "no name": ("item,\n9,1\n", ":1: column 2 has no name"),
    "one name twice": ("item,x,x\n9,1,2\n", ":1: two columns are named 'x'"),
    "no header": ("9,1\n7,2\n", r":1: no header \('9' is not a name\)"),
    "a header alone": ("item,x\n", ": a header without rows"),
    "one column": ("item\n9\n", ":1: one column, where ids and features are needed"),
    "empty": ("", ": empty"),
    "Latin-1": (b"item,x\n9,\xe9\n", ":2: not valid UTF-8"),
    "open quote": ('item,x\n9,"a\n7,b\n', ":2: "),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_the_line(write, name):
    text, message = FAULTS[name]
    more = "".join(f"1,{n}\n" for n in range(20, 30))
    folder = write(a__csv=PAIRS + more, items__csv=text)
    with pytest.raises(InputError, match=rf"items\.csv{message}"):
        read(folder / "a.csv", items=folder / "items.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id\tx:float\n9\t1\n", ":1: 'item_id' is not of the form name:type"),
        ("item_id:token\tx:flaot\n9\t1\n", r":1: 'x:flaot' is not .* \(did you mean 'float'"),
        ("item_id:token\tx:float\n9\t1\n7\tsoon\n", ":3: x 'soon' is not a number"),
        ("item_id:token\tx:float_seq\n9\t1 2\n7\t1 b\n", ":3: x 'b' is not a number"),
        (
            "item_id:token\tx:float_seq\n9\t1 2\n7\t1\n",
            r":3: x has length 1, but length 2 at .*a\.item:2",
        ),
    ],
)
def test_recbole_faults_name_the_line(write, text, message):
    folder = write(a__csv=PAIRS, a__item=text)
    with pytest.raises(InputError, match=rf"a\.item{message}"):
        read(folder / "a.csv", items=folder / "a.item")


def test_parquet_faults_name_the_row(write):
    folder = write(a__csv=PAIRS, damaged__parquet="PAR1")
    for cells, message in (
        ([9, None], ": row 2: the item is missing"),
        ([9.0, 7.5], ": row 2: item 7.5 is not a whole number"),
        ([9, 8], ": row 2: item 8 is not in the interactions"),
        ([], ": empty"),
    ):
        frame = pl.DataFrame({"item": cells, "x": [1.0] * len(cells)}, strict=False)
        frame.write_parquet(folder / "i.parquet")
        with pytest.raises(InputError, match=rf"i\.parquet{message}"):
            read(folder / "a.csv", items=folder / "i.parquet")
    with pytest.raises(InputError, match=r"damaged\.parquet: not a Parquet file"):
        read(folder / "a.csv", items=folder / "damaged.parquet")


def test_missing_catalogues_are_refused(write):
    folder = write(a__csv=PAIRS, items__json="{}")
    with pytest.raises(InputError, match=r"nowhere\.csv: cannot be read"):
        read(folder / "a.csv", items=folder / "nowhere.csv")
    with pytest.raises(InputError, match=r"items\.json: the name does not tell the format"):
        read(folder / "a.csv", items=folder / "items.json")
    with pytest.raises(InputError, match=r"no catalogue to take cold users from; .*: --users FILE"):
        read(folder / "a.csv", cold_users=True)


INTER = "user_id:token\titem_id:token\n1\t7\n2\t9\n2\t10\n"


def test_a_recbole_folder_reads_its_feature_files_without_unknown_ids(write):
    item = "item_id:token\tprice:float\n9\t2\n8\t\n"
    folder = write(a__inter=INTER, a__item=item, a__user="user_id:token\tsex:token\n1\tF\n")
    data = read(folder)
    assert values(data.item_features) == {"price": [None, 2.0, None]}
    assert values(data.user_features) == {"sex": ["F", None]}
    assert data.notes == {
        "users without a row in the catalogue": 1,
        "items of the catalogue that have no pairs, left out": 1,
        "items without a row in the catalogue": 2,
    }
    bare = read(folder / "a.inter")
    assert bare.features() == {}
    assert pairs(data) == pairs(bare)
    assert read(folder, cold_items=True).item_ids.tolist() == [7, 8, 9, 10]
    mine = write(mine__csv="item,weight\n7,1\n") / "mine.csv"
    assert values(read(folder, "recbole", items=mine).item_features) == {
        "weight": [1.0, None, None]
    }
    write(b__item=item)
    with pytest.raises(InputError, match=r"one \.item file is needed, found a\.item, b\.item"):
        read(folder, "recbole")


def test_movielens_100k_files(write):
    def film(id: int, date: str, *genres: int) -> bytes:
        flags = "|".join(str(int(n in genres)) for n in range(19))
        return f"{id}|Titlé {id} (1990)|{date}||http://x|{flags}\n".encode("latin-1")

    folder = write(
        u__data="1\t7\t5\t100\n2\t9\t4\t200\n",
        u__item=film(7, "01-Jan-1995", 1, 18) + film(9, "") + film(11, "01-Feb-1990", 0),
        u__user="1|24|M|technician|85711\n2||F|other|94043\n",
    )
    data = read(folder)
    assert values(data.item_features) == {
        "genres": [["Action", "Western"], None],
        "year": [1995.0, None],
    }
    assert values(data.user_features) == {
        "age": [24.0, None],
        "gender": ["M", "F"],
        "occupation": ["technician", "other"],
    }
    assert data.notes["items of the catalogue that have no pairs, left out"] == 1
    assert read(folder / "u.data").features() == {}
    assert read(folder, cold_items=True).item_ids.tolist() == [7, 9, 11]
    write(u__user="1|24|M|technician|85711\n2|old|F|other|94043\n")
    with pytest.raises(InputError, match=r"u\.user:2: age 'old' is not a number"):
        read(folder)
    write(u__user="1|24|M|technician|85711\n")
    write(u__item=film(7, "", 1) + film(9, "").replace(b"0|0\n", b"0|2\n"))
    with pytest.raises(InputError, match=r"u\.item:2: genre Western is '2', not 0 or 1"):
        read(folder / "u.data", items=folder / "u.item")
    write(u__item=film(7, "", 1) + b"\n" + film(9, "").replace(b"|0\n", b"\n"))
    with pytest.raises(InputError, match=r"u\.item:3: 23 columns, where u\.item has 24"):
        read(folder)


def test_a_movielens_fold_has_a_given_split_and_features(write):
    folder = write(
        u1__base="1\t7\t5\t100\n2\t9\t4\t200\n",
        u1__test="1\t9\t3\t300\n",
        u__user="1|24|M|technician|85711\n2|30|F|other|94043\n",
    )
    data = read(folder / "u1.base")
    assert data.split is not None
    assert data.rating is not None
    assert (data.split.tolist(), data.rating.tolist()) == ([0, 2, 0], [5, 3, 4])
    assert values(data.user_features)["age"] == [24.0, 30.0]
    assert data.item_features is None
    (folder / "u1.test").unlink()
    with pytest.raises(InputError, match=r"u1\.test: cannot be read"):
        read(folder / "u1.base")


def test_movielens_1m_files(write):
    folder = write(
        ratings__dat="1::7::5::100\n2::9::4::200\n",
        movies__dat="7::Star: Titl\xe9 (1977)::Action|Sci-Fi\n9::X (2001)::Drama\n".encode(
            "latin-1"
        ),
        users__dat="1::F::1::10::48067\n2::M::56::16::70072\n",
    )
    data = read(folder)
    assert values(data.item_features) == {
        "genres": [["Action", "Sci-Fi"], ["Drama"]],
        "year": [1977.0, 2001.0],
    }
    assert values(data.user_features) == {
        "age": [1.0, 56.0],
        "gender": ["F", "M"],
        "occupation": ["10", "16"],
    }


def test_movielens_csv_files(write):
    films = (
        'movieId,title,genres\n7,"Film, A (1977) ",Action|Drama\n9,B,(no genres listed)\n'
        "10,C (2006–2007),Drama\n12,D (2009– ),Drama\n"
    )
    folder = write(
        ratings__csv="userId,movieId,rating,timestamp\n1,7,5,1\n1,9,4,1\n1,10,4,1\n",
        movies__csv=films,
    )
    data = read(folder)
    assert values(data.item_features) == {
        "genres": [["Action", "Drama"], None, ["Drama"]],
        "year": [1977.0, None, 2006.0],
    }
    assert data.user_features is None
    write(movies__csv="movieId,price\n7,1\n9,2\n10,3\n")
    assert values(read(folder).item_features) == {"price": [1.0, 2.0, 3.0]}


def test_real_movielens(real_data):
    data = read(real_data / "ml-100k")
    assert data.item_features is not None
    genres, year = data.item_features.columns["genres"], data.item_features.columns["year"]
    assert isinstance(genres, Bag)
    assert isinstance(year, Number)
    assert (genres.n_rows, len(genres.names) - 1, genres.missing().sum()) == (1_682, 19, 0)
    assert np.diff(genres.indptr).sum() == 2_893
    assert data.item_ids[year.missing()].tolist() == [267]
    assert data.user_features is not None
    assert list(data.user_features.columns) == ["age", "gender", "occupation"]
    bare = read(real_data / "ml-100k" / "u.data")
    assert pairs(bare) == pairs(data)
    films = real_data / "ml-latest-small" / "movies.csv"
    pairs_there = films.with_name("ratings.csv")
    with pytest.raises(InputError, match=r"movies\.csv:818: item 1076 is not in the interactions"):
        read(pairs_there, items=films)


def test_a_folder_given_as_a_table_is_refused(write):
    folder = write(a__csv=PAIRS)
    (folder / "items.csv").mkdir()
    with pytest.raises(InputError, match=r"items\.csv: cannot be read"):
        read(folder / "a.csv", items=folder / "items.csv")
