"""LightGCN's text files, with a user and the user's items per line."""

import numpy as np
import pytest

from jaxrec.data.dataset import REPEATED
from jaxrec.data.formats import read
from jaxrec.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.txt").write_text("3 7 5\n1 5 9\n")
    (tmp_path / "test.txt").write_text("1 7\n3 9 11\n")
    return tmp_path


def _triples(data):
    split = [0] * data.n_edges if data.split is None else data.split.tolist()
    users, items = data.user_ids[data.user].tolist(), data.item_ids[data.item].tolist()
    return list(zip(users, items, split, strict=True))


def test_train_and_test(folder):
    data = read(folder)
    assert _triples(data) == [
        (1, 5, 0),
        (1, 7, 2),
        (1, 9, 0),
        (3, 5, 0),
        (3, 7, 0),
        (3, 9, 2),
        (3, 11, 2),
    ]
    assert data.notes == {"unsorted lines": 1, "items that only test has": 1}


@pytest.mark.parametrize("name", ["val.txt", "valid.txt"])
def test_validation(folder, name):
    (folder / name).write_text("1 11\n")
    data = read(folder)
    assert (1, 11, 1) in _triples(data)
    assert len(_triples(data)) == 8


def test_train_alone_gives_no_split(folder):
    (folder / "test.txt").unlink()
    for path in (folder, folder / "train.txt"):
        data = read(path)
        assert data.split is None
        assert data.n_edges == 4


def test_users_without_train_items_stay(folder):
    (folder / "train.txt").write_text("3 7 5\n1\n0\n")
    (folder / "test.txt").write_text("1 7\n8 5\n")
    data = read(folder)
    assert data.user_ids.tolist() == [0, 1, 3, 8]
    assert data.notes["users without train items"] == 3
    assert data.notes["users that only test has"] == 1


def test_lone_users_of_an_unsplit_file_stay(tmp_path):
    (tmp_path / "train.txt").write_text("ann x y\nbob\n")
    data = read(tmp_path)
    assert data.user_ids.tolist() == ["ann", "bob"]
    assert data.notes == {"users without train items": 1}


def test_odd_but_usable_lines_are_counted(folder):
    plain = read(folder)
    content = b"\xef\xbb\xbf3  7\t5 \r\n\r\n\r\n1 5 9 5\r\n3 7"
    (folder / "train.txt").write_bytes(content)
    data = read(folder)
    assert data.fingerprint() == plain.fingerprint()
    assert data.notes == {
        "UTF-8 byte order marks": 1,
        "lines with Windows ends": 4,
        "blank lines": 2,
        "duplicate pairs": 2,
        "unsorted lines": 1,
        "items that only test has": 1,
    }


def test_the_order_of_lines_and_items_does_not_matter(folder):
    first = read(folder).fingerprint()
    (folder / "train.txt").write_text("1 9 5\n3 5 7\n")
    (folder / "test.txt").write_text("3 11 9\n1 7\n")
    assert read(folder).fingerprint() == first


def test_the_same_pair_in_several_parts_stays_in_each_and_is_counted(folder):
    (folder / "test.txt").write_text("\n1 7\n3 9 11\n3 5\n1 9\n")
    data = read(folder)
    assert data.split is not None
    assert data.notes[REPEATED] == 2
    pairs = np.stack([data.user_ids[data.user], data.item_ids[data.item], data.split], axis=1)
    again = [(1, 9), (3, 5)]
    assert [row for row in pairs.tolist() if tuple(row[:2]) in again] == [
        [*pair, part] for pair in again for part in (0, 2)
    ]
    (folder / "val.txt").write_text("3 7\n")
    assert read(folder).notes[REPEATED] == 3


def test_invalid_utf8_names_the_line(folder):
    (folder / "test.txt").write_bytes(b"1 7\n3 \xff\n")
    with pytest.raises(InputError, match=r"test\.txt:2: not valid UTF-8"):
        read(folder)


def test_no_interactions(folder):
    (folder / "train.txt").write_text("1\n2\n")
    with pytest.raises(InputError, match=r"train\.txt: has no interactions"):
        read(folder)


def test_a_folder_without_train_txt_is_refused(folder):
    (folder / "train.txt").unlink()
    with pytest.raises(InputError, match=r"no train\.txt"):
        read(folder, format="lightgcn")


def test_a_table_of_counts_is_refused_as_lists(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("".join(f"u{n % 5}\ti{n}\t{n + 1}\n" for n in range(12)))
    with pytest.raises(InputError, match=r"train\.txt: .*user, item and count.*--format tsv"):
        read(path)
    assert read(path, "tsv").n_items == 12
    path.write_text("".join(f"u{n}\ti{n}\ti{n + 1}\n" for n in range(12)))  # one line per user
    assert read(path).n_edges == 24


@pytest.mark.parametrize(
    ("rows", "format"),
    [
        ("u1\ti1\t3\nu1\ti2\t4\n", "tsv"),
        ("u1\ti1\nu1\ti2\n", "tsv"),
        ("u1\ti1\t3\t99\nu2\ti1\t3\t99\nu1\ti2\t4\t98\n", "tsv"),
        ("".join(f"{n % 5} {n} {n + 1}\n" for n in range(12)), "csv --separator space"),
    ],
)
def test_tables_in_a_file_of_the_name_of_lists_are_refused(tmp_path, rows, format):
    (tmp_path / "train.txt").write_text(rows)
    with pytest.raises(InputError, match=rf"users repeat.*--format {format}$"):
        read(tmp_path / "train.txt")


def test_repeated_users_are_accepted_if_the_lines_differ_in_length(tmp_path):
    (tmp_path / "train.txt").write_text("u1\ti1\ti2\nu1\ti3\nu2\ti1\ti2\n")
    assert read(tmp_path / "train.txt").n_edges == 5
