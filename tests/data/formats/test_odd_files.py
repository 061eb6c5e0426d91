"""Files as people hold them: each is read as it is, or refused with a way to read it."""

import gzip
import json
import re

import polars as pl
import pytest

from jaxrec.cli.data import data as command
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import Columns, TextOptions, read
from jaxrec.errors import InputError

DAY = 1714521600.0  # 2024-05-01


def rows(data: Dataset) -> list[tuple]:
    columns = [data.user_ids[data.user], data.item_ids[data.item]]
    columns += [c for c in (data.rating, data.time) if c is not None]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_a_semicolon_csv_with_iso_times_and_decimal_commas(tmp_path):
    path = tmp_path / "Verkauf 2024 (1) [final].csv"
    path.write_text(
        "\ufeffKunden-Nr;Customer ID;Article ID;Preis;Order Date\r\n"
        "7;c1;a1;3,50;2024-05-01T10:00:00+02:00\r\n8;c2;a1;4;2024-05-02T00:00:00Z\r\n"
    )
    data = read(path)
    assert rows(data) == [("c1", "a1", DAY + 8 * 3600), ("c2", "a1", DAY + 86400)]
    assert data.reading[0].endswith("not used: Kunden-Nr, Preis")


def test_a_tsv_in_utf_16_of_a_spreadsheet(tmp_path):
    content = "User\tItem\nann\ttée\n"
    for codec, said in (
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
    ):
        path = tmp_path / "export.tsv"
        path.write_bytes(content.encode(codec))
        with pytest.raises(InputError, match=rf"looks like UTF-16, .*--encoding {said} reads it"):
            read(path)
        assert rows(read(path, text=TextOptions(encoding=said))) == [("ann", "tée")]


def test_parquet_with_lists_and_structs(tmp_path):
    frame = pl.DataFrame(
        {
            "customer": [{"id": 5, "name": "ann"}, {"id": 6, "name": "bo"}],
            "items": [["a", "b"], ["a"]],
            "basket": [[{"sku": "x", "n": 1}, {"sku": "y", "n": 2}], [{"sku": "x", "n": 1}]],
            "at": ["2024-05-01", "2024-05-02"],
        }
    )
    frame.write_parquet(tmp_path / "orders.parquet")
    columns = Columns(user="customer.id", item="items", time="at")
    expected = [(5, "a", DAY), (5, "b", DAY), (6, "a", DAY + 86400)]
    assert rows(read(tmp_path / "orders.parquet", columns=columns)) == expected
    columns = Columns(user="customer.id", item="basket", time="")
    assert rows(read(tmp_path / "orders.parquet", columns=columns)) == [
        (5, "x"),
        (5, "y"),
        (6, "x"),
    ]


def test_json_lines_with_objects_in_objects(tmp_path):
    events = [
        {"user": {"id": 5, "at": {"city": "x"}}, "item": {"sku": "a"}, "ts": "2024-05-01"},
        {"user": {"id": 6}, "item": {"sku": "b"}, "ts": "2024-05-02"},
    ]
    content = "".join(f"{json.dumps(event)}\n" for event in events).encode()
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress(content))
    data = read(path)
    assert rows(data) == [(5, "a", DAY), (6, "b", DAY + 86400)]
    assert "user <- `user.id`, item <- `item.sku`" in data.reading[0]
    path.write_bytes(gzip.compress(content + b'{"user": {}, "item": {"sku": "a"}, "ts": 9}\n'))
    with pytest.raises(InputError, match=r"events\.jsonl\.gz:3: the user is missing"):
        read(path, columns=Columns(user="user.id", item="item.sku"))


def test_quotes_ends_of_lines_and_commas_in_cells(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(
        "User Name,Product Name,Review,Stars\r\n"
        '"Lee, Ann","The ""red""\r\nhat","good,\r\n\r\nreally",5\r\n'
        "Bo,Cup,,4\r\n",
        newline="",
    )
    data = read(path, columns=Columns(user="User Name"))
    assert rows(data) == [("Bo", "Cup", 4), ("Lee, Ann", 'The "red"\r\nhat', 5)]


def test_a_dump_with_an_index_and_ids_of_two_kinds(tmp_path):
    path = tmp_path / "dump.csv"
    path.write_text(",userId,itemId,rating\n0,1.0,A7,5.0\n1,2.0,12,3.0\n2,guest,7.0,1.0\n")
    data = read(path)
    assert data.reading[0].endswith("not used: column 1")
    assert data.user_ids.tolist() == ["1.0", "2.0", "guest"]
    assert [count for what, count in data.notes.items() if "ids of users such as 1.0" in what] == [
        2
    ]


def test_a_folder_of_partitions_in_text(tmp_path):
    for day, event in (("2024-05-01", "buy"), ("2024-05-02", "view")):
        folder = tmp_path / "log" / f"day={day}" / f"event={event}"
        folder.mkdir(parents=True)
        (folder / "part-0.csv").write_text(f"user,item\nann,{event}\n")
    assert rows(read(tmp_path / "log")) == [("ann", "buy"), ("ann", "view")]
    frame = pl.DataFrame({"user": ["ann"], "item": ["tea"]})
    frame.write_parquet(tmp_path / "log" / "day=2024-05-01" / "event=buy" / "x.parquet")
    with pytest.raises(InputError, match="could be csv or parquet; choose one with"):
        read(tmp_path / "log")


TABLE = "user,item\n" + "".join(f"u{n % 4},i{n}\n" for n in range(12))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"# by ann\n# of may\n{TABLE}", r":1: '# by ann' is no row .* on line 3; drop the lines"),
        (f"# by ann, of may\n{TABLE}", r":1: '# by ann, of may' is no row .* on line 2; drop"),
        (f"\nSales of may\n\n{TABLE}", r":2: 'Sales of .* begins on line 4; drop"),
        (f"sep=;\n{TABLE.replace(',', ';')}", r":1: 'sep=;' is no row .* on line 2; drop the"),
        (TABLE.replace("\n", "\r"), r"lines end with carriage returns; save the file again with"),
        (
            TABLE.replace("\n", ",\n").replace("item,", "item"),
            r":2: 3 columns, .* has 2; so have all lines .*: name every column in the first line",
        ),
    ],
)
def test_lines_that_are_no_rows_are_named(content, said, tmp_path):
    (tmp_path / "a.csv").write_text(content, newline="")
    with pytest.raises(InputError, match=said):
        read(tmp_path / "a.csv")


def test_a_header_may_be_a_comment(tmp_path):
    (tmp_path / "a.csv").write_text(f"# {TABLE}")
    assert rows(read(tmp_path / "a.csv"))[0] == ("u0", "i0")
    (tmp_path / "a.csv").write_text("# a title\nu,i\nv,j\n")
    with pytest.raises(InputError, match="1: one column, where user and item are needed"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["a|b", "b|c", "a"], "|"),
        (["a;b", "b;c", "a"], ";"),
        (["\"['a', 'b']\"", '"[""b"", ""c""]"', "[a]"], ","),
    ],
)
def test_lists_in_cells_are_pointed_out_and_cut(cells, separator, tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("user,item\n" + "".join(f"u{n},{cell}\n" for n, cell in enumerate(cells)))
    data = read(path)
    (note,) = (note for note in data.notes if "look like lists" in note)
    assert f"kept as one item each; --item-separator '{separator}' cuts them" in note
    assert data.notes[note] == 2
    data = read(path, text=TextOptions(item_separator=separator))
    assert rows(data) == [("u0", "a"), ("u0", "b"), ("u1", "b"), ("u1", "c"), ("u2", "a")]
    assert not any("lists" in note for note in data.notes)


def test_titles_are_not_taken_for_lists(tmp_path):
    titles = ["Heat (1995)", "Batman; Robin", "Good, the Bad", "a [1, 2]", "x|"]
    path = tmp_path / "a.csv"
    path.write_text("user,item\n" + "".join(f'u,"{title}"\n' for title in titles))
    assert not any("lists" in note for note in read(path).notes)


@pytest.mark.parametrize("ending", ["json", "jsonl", "ndjson", "ndjson.gz"])
def test_endings_of_json_lines(ending, tmp_path):
    for n in range(2):
        line = b'{"user": "u%d", "item": "i"}\n' % n
        path = tmp_path / f"a-{n}.{ending}"
        path.write_bytes(gzip.compress(line) if ending.endswith("gz") else line)
    assert read(path).n_edges == 1
    assert read(tmp_path / "a-*").n_edges == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shop.xlsx", "a workbook is not read; save its sheet as CSV"),
        ("shop.pkl", "a pickle is not read, because it may run code"),
        ("shop.duckdb", "a database is not read; write its table as Parquet"),
        ("shop.feather", "an Arrow file is not read; in Python, jaxrec.from_polars"),
        ("shop.npz", "an archive of NumPy is not read; in Python, jaxrec.from_scipy"),
        ("shop.txt", "the name does not tell the format; choose one with"),
    ],
)
def test_other_files_are_refused_with_a_way_to_read_them(name, said, tmp_path):
    (tmp_path / name).write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(InputError, match=rf"{re.escape(name)}: {said}"):
        read(tmp_path / name)


def test_the_command_that_stats_ends_with_is_one_that_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my shop.csv").write_text(
        "Kunde|Ware|wann\nann|tea|01.05.2024\nbo|tea|02.05.2024\n"
    )
    options = ["--columns.user", "Kunde", "--columns.item", "Ware", "--columns.time", "wann"]
    command(["stats", "my shop.csv", *options, "--time-format", "%d.%m.%Y"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("&& jaxrec train lightgcn --data prepared")
    words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", last.split(" && ")[0])][2:]
    assert words[:3] == ["jaxrec", "data", "import"]
    command(words[2:])
    assert read("prepared").n_edges == 2
