"""Separators, headers, columns and encodings of text tables: detected, or refused if unclear."""

import gzip

import numpy as np
import polars as pl
import pytest

from jaxrec.data import formats
from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import FORMATS, Columns, TextOptions, read
from jaxrec.data.formats.assemble import to_dataset
from jaxrec.data.formats.item_graphs import read_items
from jaxrec.errors import InputError
from jaxrec.parted.write import partition_data


@pytest.fixture
def reading(tmp_path):
    """Write a text and read it, with the text options given as keywords."""

    def go(text: str | bytes, name: str = "a.csv", *, format=None, columns=None, **options):
        content = text.encode() if isinstance(text, str) else text
        (tmp_path / name).write_bytes(content)
        text_options = TextOptions(**options)
        return read(tmp_path / name, format=format, columns=columns, text=text_options)

    return go


def rows(data: Dataset) -> list[tuple]:
    columns = [data.user_ids[data.user], data.item_ids[data.item]]
    columns += [c for c in (data.rating, data.time) if c is not None]
    return list(zip(*(column.tolist() for column in columns), strict=True))


NAMES = [("ann lee", "the red hat"), ("ann lee", "a cup"), ("bo ray", "the red hat")]


def table(separator: str, *, header: str = "user{}item") -> str:
    lines = [header.format(separator), *(separator.join(pair) for pair in NAMES)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "format", "separator"),
    [
        ("a.csv", None, ","),
        ("a.csv", None, ";"),
        ("a.csv", None, "\t"),
        ("a.csv", None, "|"),
        ("a.tsv", None, "\t"),
        ("a.dat", "csv", ","),
        ("a.dat", "tsv", "\t"),
    ],
)
@pytest.mark.parametrize("header", ["user{}item", " User ID {} Item Name "])
def test_spaces_in_names_are_not_separators(reading, name, format, separator, header):
    data = reading(table(separator, header=header), name, format=format)
    assert rows(data) == sorted(NAMES, key=lambda pair: (pair[0], pair[1]))
    assert data.notes.get("files without a header") is None


def test_times_with_spaces_in_a_tsv_without_a_header(reading):
    lines = [f"{n % 3}\tv{n}\tTue Apr {3 + n:02} 18:00:09 +0000 2012\n" for n in range(9)]
    data = reading("".join(lines), "checkins.tsv")
    assert (data.n_users, data.n_items, data.n_edges) == (3, 9, 9)
    assert data.time is not None
    assert np.diff(np.sort(data.time)).tolist() == [86_400] * 8  # 3 to 11 April
    assert data.reading == (
        "checkins.tsv: no header: user <- column 1, item <- column 2, time <- column 3",
    )


def test_a_file_ending_or_a_format_fixes_the_separator(reading):
    for options in ({"name": "a.tsv"}, {"name": "a.dat", "format": "tsv"}):
        with pytest.raises(InputError, match=r"there is no tab in the line; .*--separator"):
            reading("user,item\n1,2\n", **options)
        assert rows(reading("user,item\n1,2\n", separator=",", **options)) == [(1, 2)]


def test_a_table_with_two_possible_separators_is_refused(reading):
    decimal_commas = "1;7;3,5\n2;8;4,0\n"
    with pytest.raises(
        InputError, match=r"a\.csv:1: the separator could be the comma or semicolon; choose"
    ):
        reading(decimal_commas)
    with pytest.raises(InputError, match="column 3 holds texts"):
        reading(decimal_commas, separator=";")
    # Known column names decide, and so does a line that only one separator cuts evenly.
    assert rows(reading("user;item;a,b\n1;7;3,5\n2;8;4,0\n")) == [(1, 7), (2, 8)]
    assert rows(reading("1;7;3\n2;8,5;4\n")) == [(1, "7", 3.0), (2, "8,5", 4.0)]


@pytest.mark.parametrize(
    ("given", "between"),
    [(";", ";"), ("semicolon", ";"), ("tab", "\t"), ("\\t", "\t"), ("::", "::"), ("space", " ")],
)
def test_separators_by_character_and_by_name(reading, given, between):
    text = "".join(between.join((f"u{n}", f"i{n}", str(n))) + "\n" for n in range(3))
    assert rows(reading(text, separator=given)) == [(f"u{n}", f"i{n}", n) for n in range(3)]


@pytest.mark.parametrize("given", ["", "ab", '"', "\n", "; ; ; ; ; ;", "é", "."])
def test_invalid_separators_are_refused(given):
    with pytest.raises(InputError, match="cannot separate cells"):
        TextOptions(separator=given)


def test_the_message_suggests_a_double_colon_as_separator(reading):
    with pytest.raises(InputError, match="--separator '::' splits it"):
        reading("u1::i1\nu2::i2\n")


def test_a_space_separates_only_known_names_or_numbers(reading):
    assert rows(reading("user item\n1 2\n")) == [(1, 2)]
    assert rows(reading("1 2\n3 4\n")) == [(1, 2), (3, 4)]
    with pytest.raises(InputError, match="one column, where user and item are needed"):
        reading("ann lee\nbo ray\n")


def test_a_header_of_unknown_words_is_refused_and_not_read_as_data(reading):
    text = "kunde,ware\nann,hat\nbo,cup\n"
    with pytest.raises(
        InputError, match=r"a\.csv:1: 'kunde, ware' could be a header .*--no-header"
    ):
        reading(text)
    with pytest.raises(InputError, match=r"no column looks like the user; it has kunde, ware"):
        reading(text, header=True)
    named = Columns(user="kunde", item="ware")
    expected = [("ann", "hat"), ("bo", "cup")]
    assert rows(reading(text, columns=named)) == expected
    assert rows(reading(text, header=False)) == [*expected, ("kunde", "ware")]
    with pytest.raises(InputError, match="no column looks like the user"):  # over numbers
        reading("kunde,ware\n1,2\n2,3\n")


@pytest.mark.parametrize(
    "text",
    [
        "ann,hat\nann,cup\nbo,hat\n",  # a text that occurs again is not the name of a column
        "u1,hat\nu2,cup\n",
        "ann@x.org,hat\nbo@x.org,cup\n",
        "A1YJEY40YUW4SE,hat\nA2JLU0FPFW9K1R,cup\n",
        "7,hat\n8,cup\n",
        "movie,hat\nmovie,cup\nu1,hat\n",
    ],
)
def test_a_first_row_that_is_clearly_data_needs_no_option(reading, text):
    data = reading(text)
    assert data.n_edges == text.count("\n")
    assert data.reading[0].endswith("no header: user <- column 1, item <- column 2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2014-04-01T10:51:00Z,7\n2,2014-04-02T10:51:00Z,8\n", "column 2 holds dates"),
        ("2014-04-01,1,7\n2014-04-02,2,8\n", "column 1 holds dates"),
        ("1,3.5,7\n2,4.5,8\n", "column 2 holds fractions"),
        ("1,1396867869,7\n2,1396867870,8\n", "column 2 holds times"),
        ("1,ann,7\n2,bo,8\nc3,cy,ten\n", "column 3 holds texts"),
        ("1,7,1396867869,5\n2,8,1396867870,4\n", "column 3 holds times"),
        ("1,7,Artist 1,5\n2,8,Artist 2,4\n", "column 3 holds texts"),
        ("1,7,5,x\n2,8,4,y\n", "column 4 holds texts"),
    ],
)
def test_columns_without_a_header_that_do_not_fit_their_roles_are_refused(reading, text, said):
    with pytest.raises(InputError, match=f"{said}; give the columns by number: .*--columns.user 1"):
        reading(text)


def test_ids_that_look_like_times_are_ids_if_another_column_is_the_time(reading):
    data = reading("1396867869,7,1396867869\n1396867870,8,1396867870\n")
    assert rows(data) == [(1396867869, 7, 1396867869.0), (1396867870, 8, 1396867870.0)]


def test_the_role_of_each_column_is_reported_and_stored(reading, tmp_path):
    data = reading("event;sku;price;customer\nbuy;a;1,5;x\nbuy;b;2,5;y\n")
    expected = (
        "a.csv: separator semicolon: user <- `customer`, item <- `sku`; not used: event, price"
    )
    assert data.reading == (expected,)
    data.save(tmp_path / "out")
    assert Dataset.load(tmp_path / "out").reading == (expected,)
    unnamed = reading(",user,item\n0,1,2\n1,3,4\n")
    assert unnamed.reading[0].endswith("not used: column 1")
    by_number = reading("1,x,9\n2,y,9\n", columns=Columns(user="1", item="2"))
    assert by_number.reading[0].endswith("item <- column 2; not used: column 3")


def test_a_column_named_twice_is_refused(reading):
    with pytest.raises(InputError, match=r"two columns are named 'item'; .*--columns.item 2"):
        reading("user,item,item\n1,2,3\n")
    assert rows(reading("user,item,item\n1,2,3\n", columns=Columns(item="3"))) == [(1, 3)]


def test_a_header_in_the_middle_is_refused(reading):
    with pytest.raises(InputError, match=r"a\.csv:3: the line repeats the header; drop the line"):
        reading("user,item\n1,a\nuser,item\n2,b\n")


def test_a_date_column_of_unknown_form_is_left_out_and_reported(reading):
    data = reading("user,item,date\n1,2,12/31/14\n")
    assert data.time is None
    assert data.reading[0].endswith(
        "not used: date ('12/31/14' is not in a known form of a time; "
        "--time-format '%m/%d/%y' reads it)"
    )
    with pytest.raises(
        InputError,
        match=r"time '12/31/14' is not a number or a date such as 2014-.*--columns.time ''",
    ):
        reading("user,item,time\n1,2,12/31/14\n")


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["2014-04-01", "2014-04-02"], [1396310400, 1396396800]),
        (["2014-04-01T00:00:00.25Z", "2014-04-01 02:00:01+02:00"], [1396310400.25, 1396310401]),
        (["1396310400000", "1396310401500"], [1396310400, 1396310401.5]),
    ],
)
@pytest.mark.parametrize("header", ["user,item,time\n", ""])
def test_times_in_text(reading, cells, seconds, header):
    data = reading(header + "".join(f"{n},7,{cell}\n" for n, cell in enumerate(cells)))
    assert data.time is not None
    assert data.time.tolist() == seconds


def test_one_column_holds_dates_or_numbers(reading):
    dates = "1,2,2014-04-01\n2,3,2014-04-02\n"
    with pytest.raises(InputError, match=r"a\.csv:4: time '7' is not a date or time such as 2014-"):
        reading(f"user,item,time\n{dates}3,4,7\n")
    with pytest.raises(InputError, match=r"a\.csv:5: time '2014-02-30' is not a date"):
        reading(f"user,item,time\n{dates}\n3,4,2014-02-30\n")
    noted = reading("user,item,time\n1,2,2014-04-01 10:00\n").notes
    assert noted == {"times without a zone, read as UTC": 1}


LATIN = "User-ID;ISBN;Titel\n1;a;Numéro\n2;b;plain\n".encode("latin-1")


def test_a_given_encoding_is_used(reading):
    with pytest.raises(InputError, match=r"a\.csv:2: not valid UTF-8; in latin-1 it is 'Numéro'"):
        reading(LATIN)
    assert rows(reading(LATIN, encoding="latin-1")) == [(1, "a"), (2, "b")]
    curly = "user,item\n1,‘x’\n".encode("cp1252")
    with pytest.raises(InputError, match=r"--encoding cp1252"):
        reading(curly)
    assert rows(reading(curly, encoding="windows-1252")) == [(1, "‘x’")]
    for codec in ("utf-16", "utf-16-le", "utf-8-sig"):
        assert rows(reading("user,item\n1,é\n".encode(codec), encoding=codec)) == [(1, "é")]
    with pytest.raises(InputError, match=r"looks like UTF-16, not UTF-8; --encoding utf-16"):
        reading("user,item\n1,2\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"not utf-16 text"):
        reading(b"user,item\n1,2\n3", encoding="utf-16")
    for unknown in ("latin-9000", "base64", "\0"):
        with pytest.raises(InputError, match="unknown encoding"):
            TextOptions(encoding=unknown)


def test_a_given_encoding_also_applies_to_feature_tables(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"user,item\n1,a\n2,b\n")
    (tmp_path / "books.csv").write_bytes(b"item;title\na;Num\xe9ro\nb;x\nb;x;x\n")
    options = TextOptions(separator=",", header=True, encoding="latin-1", skip_bad_lines=True)
    data = read(tmp_path / "a.csv", items=tmp_path / "books.csv", text=options)
    assert data.item_features is not None
    assert "Numéro" in data.item_features.arrays()["title:category:names"].tolist()
    left_out = "left out of books.csv: more or fewer columns than the first line, at line 4"
    assert data.notes == {left_out: 1}
    assert data.reading[-1] == "items: item <- `item`"


FAULTY = (
    b"user,item,rating,time\n"
    b"1,a,5,2014-04-01\n"
    b"2,b\n"
    b"\n"
    b'3,"c\n'
    b"4,d,x,2014-04-01\n"
    b",e,1,2014-04-01\n"
    b"5,f\xff,1,2014-04-01\n"
    b"6,g,2,soon\n"
    b'7,"h\nh",3,2014-04-02\n'
    b"8,i\0,3,2014-04-02\n"
    b"9,j,4,2014-04-02,9"
)


def test_faulty_lines_are_skipped_and_counted(reading):
    with pytest.raises(InputError, match=r"a\.csv:3: 2 columns.*--skip-bad-lines"):
        reading(FAULTY.replace(b"\0", b""))
    data = reading(FAULTY.replace(b"\0", b""), skip_bad_lines=True)
    assert rows(data) == [
        (1, "a", 5.0, 1396310400.0),
        (7, "h\nh", 3.0, 1396396800.0),
        (8, "i", 3.0, 1396396800.0),
    ]
    assert data.notes == {
        "blank lines": 1,
        "left out: more or fewer columns than the first line, at line 3, 5, 13": 3,
        "left out: rating is not a number, at line 6": 1,
        "left out: the user is missing, at line 7": 1,
        "left out: not valid UTF-8, at line 8": 1,
        "left out: time is not a date or time such as 2014-04-01 or 2014-04-01T10:51:00+02:00, "
        "at line 9": 1,
    }
    with pytest.raises(InputError, match=r"no line is valid .*not a number"):
        reading("user,item,rating\n1,2,x\n", skip_bad_lines=True)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_negative_weights_are_faults_that_can_be_skipped(tmp_path, name):
    frame = pl.DataFrame({"user": [1, 1], "item": [2, 3], "plays": [3, -1]})
    write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}
    write[name.split(".")[1]](tmp_path / name)
    with pytest.raises(InputError, match=r"weight '?-1.* is negative"):
        read(tmp_path / name)
    data = read(tmp_path / name, text=TextOptions(skip_bad_lines=True))
    assert data.weight is not None
    assert data.weight.tolist() == [3.0]
    assert [count for what, count in data.notes.items() if "weight" in what] == [1]


def test_lines_after_skipped_ones_keep_their_numbers(reading):
    with pytest.raises(InputError, match=r"a\.csv:6: the line repeats the header"):
        reading('user,item\nann\nann,"x\ny"\n\nuser,item\nbo,z\n', skip_bad_lines=True)


def test_lines_without_an_id_are_skipped_and_counted(reading):
    text = "user0001\t\tx\nuser0001\tm1\tx\nuser0002\tm2\tx\n\tm3\tx\n"
    columns = Columns(user="1", item="2")
    with pytest.raises(InputError, match=r"a\.tsv:1: the item is missing; .*--skip-missing-ids"):
        reading(text, "a.tsv", columns=columns)
    for option in ("skip_missing_ids", "skip_bad_lines"):
        data = reading(text, "a.tsv", columns=columns, **{option: True})
        assert rows(data) == [("user0001", "m1"), ("user0002", "m2")]
        assert data.notes == {
            "left out: the item is missing, at line 1": 1,
            "left out: the user is missing, at line 4": 1,
            "files without a header": 1,
        }
    with pytest.raises(InputError, match=r"a\.tsv:5: 1 column"):
        reading(text + "u\n", "a.tsv", columns=columns, skip_missing_ids=True)
    whole = reading("user,item\n2,1\n10,\n10,3\n", skip_missing_ids=True)
    assert whole.user_ids.tolist() == [2, 10]  # numbers still


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("quoted", ["", '"'])
def test_skipping_faulty_lines_changes_nothing_in_a_valid_file(reading, end, quoted):
    lines = [f"{quoted}{n % 5}{quoted},i{n},{n % 3}" for n in range(200)]
    text = "\r\n".join(["user,item,rating", *lines]) + end
    plain, skipping = reading(text), reading(text, skip_bad_lines=True)
    assert skipping.fingerprint() == plain.fingerprint()
    assert skipping.notes == plain.notes


def test_options_without_effect_on_a_format_are_refused(tmp_path):
    (tmp_path / "train.txt").write_text("1 2\n")
    with pytest.raises(InputError, match="--separator is for text tables, and this is lightgcn"):
        read(tmp_path, text=TextOptions(separator=";"))


def test_lists_of_pairs_follow_the_same_rules(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes("a;b;3\né;c;\nx;c;2\n".encode("latin-1"))
    options = TextOptions(header=False, encoding="latin-1", skip_bad_lines=True)
    graph = read_items(path, "pairs", text=options)
    assert graph.n_pairs == 2
    assert graph.reading == (
        "e.csv: separator semicolon, no header: src <- column 1, dst <- column 2, "
        "weight <- column 3",
    )
    path.write_text("stück,teil\na,b\nc,d\n")
    with pytest.raises(InputError, match=r"could be a header or a row of data; .*--columns\.src"):
        read_items(path, "pairs")


def test_a_file_without_a_pair_of_items_is_refused(tmp_path):
    (tmp_path / "meta.json").write_text('{"asin": "a"}\n{"asin": "b"}\n')
    with pytest.raises(InputError, match=r"meta\.json: has 2 products but no pair, because"):
        read_items(tmp_path / "meta.json")
    (tmp_path / "a.csv").write_text("user,item\n1,2\n2,3\n")
    with pytest.raises(
        InputError, match="has 2 items but no pair, because no user has two of the items"
    ):
        read_items(tmp_path / "a.csv", "co-occurrence")


def test_a_table_of_features_without_a_header_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("user,item\n1,B01\n2,B02\n")
    (tmp_path / "items.csv").write_text("B01,Nike\nB02,Puma\n")
    with pytest.raises(InputError, match=r"items\.csv:1: no header \('B01' is not a name\)"):
        read(tmp_path / "a.csv", items=tmp_path / "items.csv")


def test_a_product_column_before_the_reviewers_is_recognised_by_its_ids(tmp_path):
    path = tmp_path / "ratings_Electronics.csv"
    rows = [(f"B00000{n % 4:04}", f"A{n:012}", n % 5 + 1, 1_400_000_000 + n) for n in range(12)]
    path.write_text("".join(f"{i},{u},{r}.0,{t}\n" for i, u, r, t in rows))
    data = read(path)
    assert (data.n_users, data.n_items) == (12, 4)
    assert any("item <- column 1" in line or "user <- column 2" in line for line in data.reading)
    path.write_text("".join(f"{u},{i},{r}.0,{t}\n" for i, u, r, t in rows))
    assert (read(path).n_users, read(path).n_items) == (12, 4)


def test_book_crossings_rating_column_is_found_by_its_name(tmp_path):
    path = tmp_path / "BX-Book-Ratings.csv"
    path.write_text('"User-ID";"ISBN";"Book-Rating"\n"1";"0195153448";"0"\n"2";"0002005018";"5"\n')
    rating = read(path).rating
    assert rating is not None
    assert sorted(rating.tolist()) == [0, 5]


US = [f"u{n},i{n},{1 + n % 12}/{13 + n % 9}/21\n" for n in range(9)]


def test_times_of_a_special_form_are_read_if_the_form_is_given(reading):
    dated = "user,item,timestamp\n" + "".join(US)
    with pytest.raises(
        InputError, match=r"a\.csv:2: time '1/13/21' .*all lines that were checked: --time-"
    ):
        reading(dated)
    data = reading(dated, time_format="%m/%d/%y")
    assert data.time is not None
    assert data.time.min() == 1610496000  # 2021-01-13
    with pytest.raises(InputError, match=r"a\.csv:2: time '1/13/21' is not of the form %d"):
        reading(dated, time_format="%d/%m/%y")
    mixed = "user,item,timestamp\nu,i,2021-01-13\n" + "".join(US[:1])
    with pytest.raises(InputError, match=r":3: time '1/13/21' is not a date.*; fix the line"):
        reading(mixed)


@pytest.mark.parametrize("write", ["csv", "jsonl", "parquet"])
def test_every_reader_accepts_a_time_form_and_suggests_it(tmp_path, write):
    users, items, when = zip(*(line.strip().split(",") for line in US), strict=True)
    frame = pl.DataFrame({"user": users, "item": items, "date": when})
    path = tmp_path / f"a.{write}"
    getattr(frame, {"csv": "write_csv", "jsonl": "write_ndjson"}.get(write, "write_parquet"))(path)
    left = read(path)
    assert left.time is None
    said = "('1/13/21' is not in a known form of a time; --time-format '%m/%d/%y' reads it)"
    assert left.reading[0].endswith(f"not used: date {said}")
    made = read(path, text=TextOptions(time_format="%m/%d/%y"))
    assert made.time is not None
    assert made.time.min() == 1610496000
    with pytest.raises(InputError, match=r"all lines that were checked: --time-format '%m/%d/%y'"):
        read(path, columns=Columns(time="date"))
    digits = frame.with_columns(date=pl.lit(20210113))
    getattr(digits, {"csv": "write_csv", "jsonl": "write_ndjson"}.get(write, "write_parquet"))(path)
    made = read(path)
    assert made.time is not None
    assert set(made.time) == {1610496000}
    assert made.notes["times such as 20210113, read as dates (%Y%m%d)"] == 9


DAYS = {"read": [1706572800, 1704153600], "day": ["30/1/2024", "2/1/2024"]}
DAYS["month"] = ["1/30/2024", "1/2/2024"]


def written(frame: pl.DataFrame, path) -> None:
    write = {".csv": frame.write_csv, ".gz": None, ".jsonl": frame.write_ndjson}
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    else:
        write.get(path.suffix, frame.write_parquet)(path)


def dated(cells: list[str], **columns) -> pl.DataFrame:
    """Return a table of many rows; the first cell is on its last row."""
    texts = [*cells[1:] * 300, cells[0]]
    ids = {"user": [f"u{n}" for n in range(len(texts))], "item": ["i"] * len(texts)}
    return pl.DataFrame(ids | {"date": texts} | columns)


@pytest.mark.parametrize("order", ["day", "month"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_the_order_of_day_and_month_is_settled_by_all_lines(tmp_path, name, order):
    path = tmp_path / name
    written(dated(DAYS[order]), path)
    data = read(path)
    assert data.time is not None
    assert sorted(set(data.time)) == sorted(DAYS["read"])
    assert f"time <- `date` ({order} first)" in data.reading[0]
    pieces = list(formats.pieces(path, rows=2048 // 32))
    assert [part.frame["time"].max() for part in pieces][-1] == DAYS["read"][0]
    assert to_dataset(pieces, data.name).fingerprint() == data.fingerprint()
    written(dated(DAYS[order]).with_columns(pl.col("date").str.replace_all("/", "-")), path)
    assert read(path).fingerprint() == data.fingerprint()
    clocks = pl.col("date") + " 11:30 PM"
    written(dated(DAYS[order]).with_columns(clocks), path)
    late = read(path).time
    assert late is not None
    assert late.max() == DAYS["read"][0] + 23.5 * 3600


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["2/1/2024"] * 2, "no line tells whether the day or the month comes first"),
        (["1/30/2024", "30/1/2024"], "some lines have the day first, and some the month"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_an_order_that_is_not_settled_is_not_guessed(tmp_path, name, cells, reason):
    path = tmp_path / name
    written(dated(cells), path)
    data = read(path)
    assert data.time is None
    cure = "--time-format 'day first' or --time-format 'month first' settles it"
    assert data.reading[0].endswith(f"not used: date ({cells[1]!r}: {reason}; {cure})")
    with pytest.raises(InputError, match=r"not a number|do not settle whether the day.*--time-f"):
        read(path, columns=Columns(time="date"))
    if cells[0] == cells[1]:
        given = read(path, text=TextOptions(time_format="month first")).time
        assert given is not None
        assert set(given) == {1706745600}
    else:
        with pytest.raises(InputError, match=r"30/2024' is not (a|of .* first).*; fix the"):
            read(path, text=TextOptions(time_format="day first"))


def test_times_that_only_some_files_have_are_counted(tmp_path):
    written(dated(["2/1/2024"] * 2), tmp_path / "a-1.csv")
    written(dated(["30/1/2024"] * 3), tmp_path / "a-2.csv")
    data = read(tmp_path / "a-*.csv")
    assert data.time is None
    note = "rows with a time, which is not used because rows of other files have none"
    assert data.notes[note] == 601
    made = partition_data(tmp_path / "a-*.csv", tmp_path / "out", 2)
    assert made["notes"][note] == 601


@pytest.mark.parametrize("header", ["user,item,date\n", "user,item,time\n", ""])
def test_dates_with_points_have_the_day_first(reading, header):
    data = reading(f"{header}1,2,30.01.2024 10:00\n2,3,2.1.2024\n")
    assert data.time is not None
    assert data.time.tolist() == [1706608800, 1704153600]
    assert data.reading[0].endswith("(day first)")
    assert "(" not in reading(f"{header}1,2,2024-01-30\n").reading[0]


def test_dates_without_a_header_may_be_times(reading):
    data = reading("1,2,5,1/2/2024\n2,3,4,30/1/2024\n")
    assert data.time is not None
    assert data.reading[0].endswith("time <- column 4 (day first)")
    with pytest.raises(InputError, match=r"no header and 4 columns, of which column 4 holds texts"):
        reading("1,2,5,1/2/2024\n2,3,4,1/3/2024\n")


def test_a_column_of_decimal_commas_is_reported_as_a_fault_of_the_column(reading):
    rows = "".join(f"u{n};i{n};{n % 5},5\n" for n in range(9))
    with pytest.raises(
        InputError, match=r"decimal comma.*so has every line that was checked: write points"
    ):
        reading(f"user;item;rating\n{rows}")
    with pytest.raises(InputError, match=r":2: .*decimal comma.*; fix the line, or"):
        reading("user;item;rating\nu;i;4,5\nu;j;4\nv;j;4.5\n")


def test_ids_that_differ_only_by_leading_zeros_are_counted(reading):
    data = reading("user,item\n007,i\n7,i\n0,j\n000,j\n08,j\n")
    assert data.n_users == 5
    assert data.notes["ids of users such as 000 and 0, kept as different ids"] == 2
    assert not any(
        "kept as different ids" in what for what in reading("user,item\n007,i\n8,i\n").notes
    )


def test_the_reason_for_the_order_of_amazons_columns_is_reported(reading):
    rows = "".join(f"B00{n:07},A{n:013},5.0,1396349{n:03}\n" for n in range(9))
    assert (
        "no header, the first column is the item, by the form of Amazon's ids: item <- "
        in (reading(rows).reading[0])
    )


def test_an_invalid_file_name_is_refused():
    for format in (None, *FORMATS):
        with pytest.raises(InputError, match=r"cannot be read|import the data again"):
            read("x" * 300, format=format)


def test_a_faulty_line_is_reported_although_a_later_line_is_not_text(reading):
    content = b"user,item,timestamp\nu,i,1/13/21\nv,i,1/\xff/21\n"
    with pytest.raises(InputError, match=r"a\.csv:2: time '1/13/21' is not a number"):
        reading(content)
