"""Delimited text: columns are found, odd rows are counted, and faults are named by line."""

import numpy as np
import pytest

from jaxrec.data.dataset import REPEATED, Dataset
from jaxrec.data.formats import Columns, assemble, read
from jaxrec.errors import InputError


@pytest.fixture
def reading(tmp_path):
    """Write a text and read it."""

    def go(text: str | bytes, name: str = "a.csv", **options) -> Dataset:
        content = text.encode() if isinstance(text, str) else text
        (tmp_path / name).write_bytes(content)
        return read(tmp_path / name, **options)

    return go


def _rows(data: Dataset) -> list[tuple]:
    columns = [data.user_ids[data.user], data.item_ids[data.item]]
    columns += [c for c in (data.rating, data.time, data.weight) if c is not None]
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "userId,movieId,rating,timestamp\n1,7,3.5,100\n2,8,4,50\n",
        "user_id\titem_id\tstars\ttime\n1\t7\t3.5\t100\n2\t8\t4\t50\n",
        "uid;sku;score;ts\n1;7;3.5;100\n2;8;4;50\n",
        "customer|asin|overall|unixReviewTime\n1|7|3.5|100\n2|8|4|50\n",
        "user item rating time\n1 7 3.5 100\n2 8 4 50\n",
        "user, item, rating, time\n1, 7, 3.5, 100\n2, 8, 4, 50\n",
        'time,title,rating,product_id,user\n100,"a, b",3.5,7,1\n50,"c\nd",4,8,2\n',
        '"user","item","rating","time"\n"1","7","3.5","100"\n"2","8","4","50"\n',
    ],
)
def test_columns_and_separators_are_guessed(reading, text):
    data = reading(text)
    assert _rows(data) == [(1, 7, 3.5, 100.0), (2, 8, 4.0, 50.0)]
    assert data.notes == {}


def test_columns_by_name_and_by_number(reading):
    text = "when,klant,ding,user\n5,1,7,x\n6,2,8,y\n"
    named = reading(text, columns=Columns(user="klant", item="ding", time="when"))
    assert _rows(named) == [(1, 7, 5.0), (2, 8, 6.0)]
    numbered = reading("5,1,7,x\n6,2,8,y\n", columns=Columns("2", "3", time="1"))
    assert _rows(numbered) == _rows(named)


def test_an_empty_name_leaves_a_column_out(reading):
    data = reading("user,item,rating,time\n1,7,3,soon\n", columns=Columns(time=""))
    assert _rows(data) == [(1, 7, 3.0)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("1,7\n2,8\n", [(1, 7), (2, 8)]),
        ("a1,b\na2,d\n", [("a1", "b"), ("a2", "d")]),
        ("1,7,5\n2,8,3\n", [(1, 7, 5.0), (2, 8, 3.0)]),
        ("1,7,964982703\n2,8,964982704\n", [(1, 7, 964982703.0), (2, 8, 964982704.0)]),
        ("1,7,5,100\n2,8,3,200\n", [(1, 7, 5.0, 100.0), (2, 8, 3.0, 200.0)]),
    ],
)
def test_without_a_header_columns_are_taken_by_position(reading, text, rows):
    data = reading(text)
    assert _rows(data) == rows
    assert data.notes == {"files without a header": 1}


def test_odd_but_usable_lines_are_counted(reading):
    plain = reading("user,item,rating\n1,7,5\n2,8,4\n2,9,3\n")
    content = b"\xef\xbb\xbf\r\nuser,item,rating\r\n\r\n2,9,3\r\n1,7,5\n\r\n2,8,1\n2,8,4\n\n"
    data = reading(content)
    assert data.fingerprint() == plain.fingerprint()
    assert data.notes == {
        "UTF-8 byte order marks": 1,
        "lines with Windows ends": 5,
        "blank lines": 4,
        "unsorted lines": 1,
        "duplicate pairs": 1,
    }


def test_a_quoted_line_break_is_not_a_blank_line(reading):
    data = reading('user,item,title\n1,7,"a\n\nb"\n2,8,c\n')
    assert _rows(data) == [(1, 7), (2, 8)]
    assert data.notes == {}


def test_the_latest_of_repeated_pairs_is_kept(reading):
    data = reading("user,item,rating,time\n1,7,1,50\n1,7,2,90\n1,7,3,20\n1,7,4,90\n2,7,5,0\n")
    assert _rows(data) == [(1, 7, 4.0, 90.0), (2, 7, 5.0, 0.0)]
    assert data.notes == {"duplicate pairs": 3}


def test_event_weights_are_summed(reading):
    text = "user,item,event\n1,7,buy\n2,8,view\n1,7,view\n1,9,view\n1,7,view\n"
    data = reading(text, event_weights={"buy": 5.0, "view": 0.5})
    assert _rows(data) == [(1, 7, 6.0), (1, 9, 0.5), (2, 8, 0.5)]
    assert data.weight is not None
    assert data.weight.dtype == np.float32
    assert reading(text).weight is None


def test_pairs_of_weight_0_are_exposed_pairs(reading):
    text = (
        "user,item,time,event\n1,7,1,shown\n1,7,2,click\n1,8,3,shown\n1,8,4,shown\n"
        "2,8,5,buy\n2,9,6,shown\n"
    )
    data = reading(text, event_weights={"shown": 0.0, "click": 1.0, "buy": 3.0})
    assert _rows(data) == [(1, 7, 2.0, 1.0), (2, 8, 5.0, 3.0)]
    assert data.item_ids.tolist() == [7, 8, 9]
    shown = data.exposed
    assert shown is not None
    assert shown.time is not None
    assert data.user_ids[shown.user].tolist() == [1, 2]
    assert data.item_ids[shown.item].tolist() == [8, 9]
    assert shown.time.tolist() == [4.0, 6.0]
    with pytest.raises(InputError, match="all events have weight 0"):
        reading(text, event_weights={"shown": 0.0, "click": 0.0, "buy": 0.0})
    with pytest.raises(InputError, match=r"no pair has a weight above 0"):
        reading(
            "user,item,event\n1,7,shown\n", name="b.csv", event_weights={"shown": 0.0, "click": 1.0}
        )


def test_exposed_pairs_of_test_are_not_used_in_training(tmp_path):
    (tmp_path / "train.csv").write_text("user,item,event\n1,7,click\n1,8,shown\n2,7,click\n")
    (tmp_path / "test.csv").write_text("user,item,event\n1,9,shown\n2,8,click\n")
    data = read(tmp_path, event_weights={"shown": 0.0, "click": 1.0})
    assert data.exposed is not None
    assert data.item_ids[data.exposed.item].tolist() == [8]
    assert _rows(data) == [(1, 7, 1.0), (2, 7, 1.0), (2, 8, 1.0)]


def test_event_weights_need_known_events_and_no_negative_numbers(reading):
    text = "user,item,event\n1,7,buy\n2,8,veiw\n"
    with pytest.raises(InputError, match=r"a\.csv:3: event 'veiw' has no weight.*'view'"):
        reading(text, event_weights={"buy": 5.0, "view": 0.5})
    with pytest.raises(InputError, match="the weight of event 'buy' is -1"):
        reading(text, event_weights={"buy": -1.0})
    with pytest.raises(InputError, match="no column looks like the event; it has user, item"):
        reading("user,item\n1,2\n", event_weights={"buy": 1.0})
    with pytest.raises(InputError, match="no header to find the event column in"):
        reading("1,2,buy\n1,3,buy\n", event_weights={"buy": 1.0})


FAULTS = {
    "text in a rating": ("1,7,3\n2,8,abc\n", 3, "rating 'abc' is not a number"),
    "nan": ("1,7,NaN\n2,8,3\n", 2, "rating 'NaN' is not a finite number"),
    "infinity": ("1,7,3\n\n2,8,-inf\n", 4, "rating '-inf' is not a finite number"),
    "beyond float32": ("1,7,3\n2,8,1e39\n", 3, "rating '1e39' is too large (float32"),
    "empty rating": ("1,7,3\n2,8,\n", 3, "the rating is missing"),
    "empty user": ("1,7,3\n,8,3\n", 3, "the user is missing"),
    "blank item": ("1,7,3\n2,  ,3\n", 3, "the item is missing"),
    "quoted nothing": ('1,7,3\n"",8,3\n', 3, "the user is missing"),
    "nothing at all": ("1,7,3\n,,\n", 3, "the user is missing"),
    "too few cells": ("1,7,3\n2,8\n", 3, "2 columns, where the first line has 3"),
    "too few in the first": ("1,7\n2,8,3\n", 2, "2 columns, where the first line has 3"),
    "too many cells": ("1,7,3\n2,8,3,4\n", 3, "4 columns, where the first line has 3"),
    "cut off": ("1,7,3\n2,8,3\n2,", 4, "2 columns, where the first line has 3"),
    "spaces only": ("1,7,3\n   \n", 3, "1 column, where the first line has 3"),
    "open quote": ('1,7,3\n2,"8,3\n3,9,3\n', 3, "2 columns"),
    "quote within": ('1,7,3\n2,8",3\n3,9,3\n', 3, "a quote within a cell"),
    "after a quoted break": ('1,"7\n7",3\n2,8,x\n', 4, "rating 'x' is not a number"),
    "after Windows ends": ("1,7,3\r\n\r\n2,8,x\r\n", 4, "rating 'x' is not a number"),
    "far below": ("1,7,3\n" * 5_000 + "2,8,x\n", 5_002, "rating 'x' is not a number"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_their_line(reading, fault, tmp_path):
    lines, line, message = FAULTS[fault]
    with pytest.raises(InputError) as caught:
        reading("user,item,rating\n" + lines)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/a.csv:{line}: {message}")
    assert text.count("\n") <= 1


@pytest.mark.parametrize("column", ["user", "title"])
def test_invalid_utf8_names_its_line(reading, column):
    with pytest.raises(InputError, match=r"a\.csv:3: not valid UTF-8"):
        reading(f"{column},item,user_id\n1,7,3\n".encode() + b"\xff\xfe,8,4\n")


def test_a_nul_byte_far_below_names_its_line(reading, monkeypatch):
    monkeypatch.setattr("jaxrec.data.formats.text._CHUNK", 1 << 16)  # the byte is in a later piece
    with pytest.raises(InputError, match=r"a\.csv:20002: not UTF-8 text but binary data"):
        reading(b"user,item\n" + b"1,2\n" * 20_000 + b"3,\0\n")


def test_a_missing_column_is_reported_with_the_existing_ones(reading):
    with pytest.raises(InputError, match=r"a\.csv:1: no column looks like the user; it has x, y"):
        reading("x,y\nb,1\nc,2\n", columns=Columns(item="x"))
    with pytest.raises(InputError, match=r"no column 'usr'; .*did you mean 'user'"):
        reading("user,item\n1,2\n", columns=Columns(user="usr"))
    with pytest.raises(InputError, match="there is no column '9'; give a number from 1 to 2"):
        reading("1,2\n", columns=Columns(user="1", item="9"))
    with pytest.raises(InputError, match="no header and 5 columns"):
        reading("1,2,3,4,5\n1,2,3,4,5\n")
    with pytest.raises(InputError, match="one column cannot have two roles"):
        reading("user,item\n1,2\n", columns=Columns(user="user", item="user"))
    with pytest.raises(InputError, match="one column, where user and item are needed"):
        reading("user\n1\n")


def test_carriage_returns_as_line_ends_are_refused(reading):
    with pytest.raises(InputError, match=r"a\.csv:1: its lines end with carriage returns"):
        reading("user,item\r1,2\r3,4\r")
    with pytest.raises(InputError, match=r"a\.csv:32: not a row of a table"):
        reading("user,item\n" + "1,2\n" * 30 + "3,4\r5,6,7\r")


def test_a_header_alone_is_refused(reading):
    with pytest.raises(InputError, match="a header without rows"):
        reading("user,item\n\n")


def test_more_pairs_than_int32_can_count_are_refused(reading, monkeypatch):
    monkeypatch.setattr(assemble, "LIMIT", 3)
    with pytest.raises(InputError, match=r"a\.csv: 4 interactions are more than int32"):
        reading("user,item\n" + "1,2\n" * 4)
    with pytest.raises(InputError, match=r"a\.csv: 4 users and items are more than int32"):
        reading("user,item\n1,2\n1,3\n1,4\n")


def test_a_folder_with_train_valid_and_test(tmp_path):
    for name, item in (("train", 1), ("valid", 2), ("test", 3)):
        (tmp_path / f"{name}.csv").write_text(f"user,item\nann,{item}\nbob,9{item}\n")
    data = read(tmp_path)
    assert data.split is not None
    assert list(zip(data.item_ids[data.item].tolist(), data.split.tolist(), strict=True)) == [
        (1, 0),
        (2, 1),
        (3, 2),
        (91, 0),
        (92, 1),
        (93, 2),
    ]
    assert data.notes == {"items that only test has": 4}


def test_repeats_keep_the_values_of_their_own_part(tmp_path):
    (tmp_path / "train.csv").write_text("user,item,time,rating\nann,x,1,5\nann,x,2,4\nbob,z,3,3\n")
    (tmp_path / "test.csv").write_text("user,item,time,rating\nann,x,9,1\nann,x,8,2\nbob,y,9,2\n")
    data = read(tmp_path)
    assert data.notes["duplicate pairs"] == 2
    assert data.notes[REPEATED] == 1
    columns = [data.split, data.time, data.rating]
    assert [column.tolist() for column in columns if column is not None] == [
        [0, 2, 2, 0],
        [2, 9, 9, 3],
        [4, 1, 2, 3],
    ]


def test_a_pair_shown_in_one_part_and_chosen_in_another_is_not_exposed(tmp_path):
    (tmp_path / "train.csv").write_text(
        "user,item,event\nann,x,shown\nann,y,shown\nann,z,buy\nbob,y,buy\nbob,x,buy\n"
    )
    (tmp_path / "test.csv").write_text(
        "user,item,event\nann,x,buy\nann,z,buy\nbob,y,shown\nbob,z,shown\n"
    )
    data = read(tmp_path, event_weights={"buy": 2.0, "shown": 0.0})
    assert data.notes[REPEATED] == 1  # ann and z
    assert data.exposed is not None
    shown = data.exposed.user.tolist(), data.exposed.item.tolist()
    assert shown == ([0], [1])  # ann was shown y and did not choose it
    ids = data.item_ids[data.item].tolist()
    assert data.split is not None
    assert list(zip(data.user.tolist(), ids, data.split.tolist(), strict=True)) == [
        (0, "x", 2),
        (0, "z", 0),
        (0, "z", 2),
        (1, "x", 0),
        (1, "y", 0),
    ]


def test_recbole(reading, tmp_path):
    text = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\ta\t2\t10\n3\t4\t1\t5\n"
    data = reading(text, name="x.inter")
    assert _rows(data) == [(1, "a", 2.0, 10.0), (3, "4", 1.0, 5.0)]
    assert read(tmp_path).fingerprint() == data.fingerprint()
    with pytest.raises(InputError, match=r"x\.inter:3: rating 'q' is not a number"):
        reading(text.replace("\t1\t5", "\tq\t5"), name="x.inter")


def test_recbole_split_files(tmp_path):
    for name, item in (("train", 1), ("valid", 2), ("test", 3)):
        text = f"uid:token\tartist_id:token\n7\t{item}\n"
        (tmp_path / f"lastfm.{name}.inter").write_text(text)
    data = read(tmp_path)
    assert data.split is not None
    assert data.split.tolist() == [0, 1, 2]
    assert data.item_ids.tolist() == [1, 2, 3]


def test_movielens_1m(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n6040::3::4.5::956703932\n")
    data = read(tmp_path)
    assert _rows(data) == [(1, 1193, 5.0, 978300760.0), (6040, 3, 4.5, 956703932.0)]
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n6040::3::4.5\n")
    with pytest.raises(InputError, match=r"ratings\.dat:2: "):
        read(tmp_path)


def test_movielens_needs_its_files(tmp_path):
    with pytest.raises(
        InputError, match=r"no file of MovieLens ratings; .* ratings\.dat, u\.data, ratings\.csv"
    ):
        read(tmp_path, format="movielens")


def test_a_too_long_first_line_is_refused_with_its_number(tmp_path):
    (tmp_path / "x.csv").write_text("\n" + "[" * 100_000)
    with pytest.raises(InputError, match=r"x.csv:2: longer than 65536 bytes"):
        read(tmp_path / "x.csv")
