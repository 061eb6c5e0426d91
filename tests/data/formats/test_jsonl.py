"""Reviews as one JSON object per line, in the forms of Amazon, Yelp and others, with faults."""

import gzip
import json

import pytest

from jaxrec.data.formats import Columns, TextOptions, detect, jsonl, read
from jaxrec.data.formats.item_graphs import detect_items, read_items
from jaxrec.errors import InputError

SHAPES = {
    "2014": lambda u, i, r, t: {
        "reviewerID": u, "asin": i, "overall": r, "unixReviewTime": t, "reviewTime": "04 7, 2014"
    },
    "2023": lambda u, i, r, t: {
        "rating": r, "asin": f"{i}-blue", "parent_asin": i, "user_id": u, "timestamp": t * 1000
    },
    "yelp": lambda u, i, r, t: {
        "review_id": f"{u}{i}", "user_id": u, "business_id": i, "stars": r,
        "date": f"2014-04-{1 + (t - 1396310400) // 86400:02} 00:00:00",
    },
    "goodreads": lambda u, i, r, t: {
        "user_id": u, "book_id": i, "rating": r,
        "date_added": f"Tue Apr {1 + (t - 1396310400) // 86400:02} 00:00:00 +0000 2014",
    },
}  # fmt: skip


def reviews(shape: str, users: int = 5, items: int = 3) -> list[dict]:
    return [
        SHAPES[shape](f"u{u}", f"i{i}", 1.0 + (u + i) % 5, 1396310400 + 86_400 * (u + i))
        for u in range(users)
        for i in range(items)
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["r.json", "r.jsonl", "r.json.gz", "r.jsonl.gz"])
@pytest.mark.parametrize("write", [json.dumps, repr])
def test_reviews_are_interactions(tmp_path, shape, name, write):
    content = "\n".join(write(found) for found in reviews(shape)).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert detect(path) == "jsonl"
    assert detect_items(path) == "co-occurrence"
    data = read(path)
    assert (data.n_users, data.n_items, data.n_edges) == (5, 3, 15)
    assert data.rating is not None
    assert data.time is not None
    day, star = (data.time - 1396310400) / 86_400, data.rating - 1
    assert day.tolist() == (data.user + data.item).tolist()
    assert star.tolist() == ((data.user + data.item) % 5).tolist()
    assert data.reading[0].startswith(f"{name}: user <- `")


def test_the_same_pairs_give_the_same_data_as_csv(tmp_path):
    lines = [
        {"user": n % 7, "item": f"i{n % 5}", "rating": n % 3, "timestamp": n} for n in range(30)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cells = ["user,item,rating,timestamp", *(",".join(map(str, x.values())) for x in lines)]
    (tmp_path / "a.csv").write_text("\n".join(cells))
    assert read(tmp_path / "a.jsonl").fingerprint() == read(tmp_path / "a.csv").fingerprint()
    assert read(tmp_path / "a.jsonl").user_ids.tolist() == list(range(7))


def test_metadata_stays_metadata(tmp_path):
    path = tmp_path / "meta.json"
    path.write_text("{'asin': 'a', 'related': {'also_bought': ['b']}}\n{'asin': 'b'}\n")
    assert detect_items(path) == "amazon-meta"
    assert read_items(path).n_pairs == 1
    with pytest.raises(InputError, match="product metadata without users, for item models"):
        read(path)


def test_reviews_are_refused_as_metadata(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("\n".join(map(json.dumps, reviews("2014"))))
    with pytest.raises(InputError, match=r"r\.json: holds reviews .* leave --format out"):
        read_items(path, "amazon-meta")
    assert read_items(path).n_pairs == 3  # by co-occurrence


def test_columns_are_named_by_json_keys(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text(
        '{"who": 1, "what": "a", "when": "soon"}\n{"who": 2, "what": "b", "when": "x"}\n'
    )
    with pytest.raises(InputError, match="no column looks like the user; it has who, what, when"):
        read(path, "jsonl")
    data = read(path, "jsonl", Columns(user="who", item="what"))
    assert data.user_ids.tolist() == [1, 2]
    with pytest.raises(InputError, match=r"r\.jsonl:1: time .* --columns.time ''"):
        read(path, "jsonl", Columns(user="who", item="what", time="when"))


GOOD = '{"user_id": "u%d", "item_id": "i", "rating": 3, "timestamp": "2014-04-01"}'
FAULTS = {
    '{"user_id": "u", "item_id"': ("not a JSON object; .*--skip-bad-lines", "not a JSON object"),
    "[1, 2]": ("not a JSON object", "not a JSON object"),
    '{"item_id": "i"}': ("the user is missing; .*--skip-missing-ids", "the user is missing"),
    '{"user_id": null, "item_id": "i"}': ("the user is missing", "the user is missing"),
    '{"user_id": {"id": 1}, "item_id": "i"}': ("the user is not a text", "the user is not a text"),
    '{"user_id": "u", "item_id": "i"}': ("the rating is missing; .*--columns.rating ''", "the rat"),
    GOOD.replace("3", '"x"') % 9: ("rating 'x' is not a number", "rating is not a number"),
    GOOD.replace("3", "NaN") % 9: ("rating 'nan' is not a finite", "rating is not a finite"),
    GOOD.replace("2014-04-01", "2014-02-30") % 9: (
        "time '2014-02-30' is not a date or time",
        "time is not a",
    ),
}


@pytest.mark.parametrize("line", FAULTS)
def test_faults_name_their_line_or_are_counted(tmp_path, line):
    said, kind = FAULTS[line]
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join([GOOD % 1, "", GOOD % 2, line, GOOD % 3]))
    with pytest.raises(InputError, match=rf"r\.jsonl:4: {said}"):
        read(path)
    data = read(path, text=TextOptions(skip_bad_lines=True))
    assert data.user_ids.tolist() == ["u1", "u2", "u3"]
    (what,) = (what for what in data.notes if what.startswith("left out"))
    assert what.startswith(f"left out: {kind}")
    assert what.endswith(", at line 4")


def test_only_lines_without_an_id_can_be_skipped(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join([GOOD % 1, '{"item_id": "i"}', GOOD % 2]))
    data = read(path, text=TextOptions(skip_missing_ids=True))
    assert data.notes["left out: the user is missing, at line 2"] == 1
    path.write_text("\n".join([GOOD % 1, "x"]))
    with pytest.raises(InputError, match="not a JSON object"):
        read(path, text=TextOptions(skip_missing_ids=True))


def test_several_blocks_give_one_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "_BLOCK", 4)
    path = tmp_path / "r.jsonl"
    path.write_text("\n".join(map(json.dumps, reviews("yelp"))))
    assert read(path).n_edges == 15


def test_other_json_files_are_refused_with_a_fix(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(reviews("2023")))
    with pytest.raises(
        InputError, match=r"a single array, where one object per line is needed; `jq"
    ):
        read(path)
    content = "\n".join(map(json.dumps, reviews("2023"))).encode()
    path.write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(InputError, match=r"r\.json:\d+: the file is damaged or ends early"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"r\.json: empty"):
        read(path, "jsonl")
