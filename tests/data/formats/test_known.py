"""Well-known data sets by hand-made samples: users, items, times, ratings, weights as counted."""

import gzip
import json
from pathlib import Path

import pytest

from jaxrec.data.dataset import Dataset
from jaxrec.data.formats import Columns, TextOptions, detect, read
from jaxrec.data.formats.known import NAMES, TABLES
from jaxrec.errors import InputError

APRIL = 1396310400.0  # 2014-04-01
DAY = 86_400.0


def rows(data: Dataset) -> list[tuple]:
    """User and item as texts, and what else there is of each pair, sorted."""
    made = [data.user_ids[data.user].astype(str), data.item_ids[data.item].astype(str)]
    made += [c for c in (data.rating, data.time, data.weight) if c is not None]
    return sorted(zip(*(column.tolist() for column in made), strict=True))


def lines(*objects: dict, write=json.dumps) -> str:
    return "".join(f"{write(found)}\n" for found in objects)


OLD = {"overall": 5.0, "unixReviewTime": 1396310400, "reviewText": "a, b"}
NEW = {"rating": 4.0, "timestamp": 1396310400000, "asin": "B9", "title": "x"}
STEAM = {"username": "ann", "product_id": "440", "date": "2014-04-01", "hours": 9.5, "text": "u'"}
MIND = (
    "1\tU1\t4/1/2014 12:00:00 AM\tN9 N8\tN1-1 N2-0\n"
    "2\tU1\t4/2/2014 12:00:00 AM\tN9 N8\tN2-1 N3-0\n"
    "3\tU2\t4/1/2014 12:00:00 AM\t\tN1-0 N3-1\n"
)
SETS: dict[str, tuple[dict[str, str | bytes], list[tuple]]] = {
    "amazon-2014": (
        {"ratings_Beauty.csv": "A1,B1,5.0,1396310400\nA2,B1,3.0,1396396800\n"},
        [("A1", "B1", 5, APRIL), ("A2", "B1", 3, APRIL + DAY)],
    ),
    "amazon-2018": (
        {"Beauty.csv": "B1,A1,5.0,1396310400\nB1,A2,3.0,1396396800\n"},
        [("A1", "B1", 5, APRIL), ("A2", "B1", 3, APRIL + DAY)],
    ),
    "amazon-reviews": (
        {"Beauty_5.json": lines(OLD | {"reviewerID": "A1", "asin": "B1"})},
        [("A1", "B1", 5, APRIL)],
    ),
    "amazon-2023": (
        {"Beauty.jsonl": lines(NEW | {"user_id": "AX", "parent_asin": "B1"})},
        [("AX", "B1", 4, APRIL)],
    ),
    "yelp": (
        {
            "yelp_academic_dataset_review.json": lines(
                {"review_id": "r", "user_id": "u", "business_id": "b", "stars": 2.0}
                | {"date": "2014-04-01 00:00:00", "text": "t"}
            )
        },
        [("u", "b", 2, APRIL)],
    ),
    "steam": (
        {"steam_reviews.json": lines(STEAM, STEAM | {"username": "bo"}, write=repr)},
        [("ann", "440", APRIL), ("bo", "440", APRIL)],
    ),
    "steam-library": (
        {
            "australian_users_items.json": lines(
                {"user_id": "ann", "items": [{"item_id": "10", "playtime_forever": 6}]},
                {"user_id": "bo", "items": [{"item_id": "10"}, {"item_id": "20"}]},
                {"user_id": "cy", "items": []},
                write=repr,
            )
        },
        [("ann", "10"), ("bo", "10"), ("bo", "20")],
    ),
    "goodreads": (
        {
            "goodreads_interactions.csv": "user_id,book_id,is_read,rating,is_reviewed\n"
            "0,948,1,5,0\n0,947,1,0,1\n"
        },
        [("0", "947", 0), ("0", "948", 5)],
    ),
    "goodreads-reviews": (
        {
            "goodreads_reviews_comics.json": lines(
                {"user_id": "u", "book_id": "1", "review_id": "r", "rating": 4}
                | {"date_added": "Tue Apr 01 05:00:00 -0700 2014"}
            )
        },
        [("u", "1", 4, APRIL + 43_200)],
    ),
    "book-crossing": (
        {
            "BX-Book-Ratings.csv": '"User-ID";"ISBN";"Book-Rating"\r\n"276725";"034545104X";"0"\r\n'
            '"276726";"»0155é";"5"\r\n'.encode("latin-1")
        },
        [("276725", "034545104X", 0), ("276726", "»0155é", 5)],
    ),
    "lastfm-360k": (
        {"usersha1-artmbid-artname-plays.tsv": 'a1\tm-1\tbetty "b\t2137\nb2\t\tdie ärzte\t9\n'},
        [("a1", 'betty "b', 2137), ("b2", "die ärzte", 9)],
    ),
    "lastfm-2k": (
        {"user_artists.dat": "userID\tartistID\tweight\n2\t51\t13883\n2\t52\t11690\n"},
        [("2", "51", 13883), ("2", "52", 11690)],
    ),
    "msd": (
        {"train_triplets.txt": "b80\tSOA\t1\nb80\tSOB\t2\n85c\tSOA\t3\n"},
        [("85c", "SOA", 3), ("b80", "SOA", 1), ("b80", "SOB", 2)],
    ),
    "gowalla-checkins": (
        {
            "loc-gowalla_totalCheckins.txt": "0\t2014-04-01T00:00:00Z\t30.2\t-97.7\t22847\n"
            "0\t2014-04-02T00:00:00Z\t30.2\t-97.7\t22847\n7\t2014-04-02T00:00:00Z\t0\t0\t\n"
        },
        [("0", "22847", APRIL + DAY)],
    ),
    "foursquare": (
        {
            "dataset_TSMC2014_NYC.txt": "470\t49bb\t4bf5\tCafé\t40.7\t-74.0\t-240\t"
            "Tue Apr 01 00:00:00 +0000 2014\n".encode("latin-1")
        },
        [("470", "49bb", APRIL)],
    ),
    "retailrocket": (
        {
            "events.csv": "timestamp,visitorid,event,itemid,transactionid\n"
            "1396310400000,1,view,5,\n1396396800000,1,transaction,5,9\n"
        },
        [("1", "5", APRIL + DAY, 2)],
    ),
    "yoochoose": (
        {"yoochoose-clicks.dat": "1,2014-04-01T00:00:00.000Z,214536502,0\n"},
        [("1", "214536502", APRIL)],
    ),
    "hm": (
        {
            "transactions_train.csv": "t_dat,customer_id,article_id,price,sales_channel_id\n"
            "2014-04-01,00ab,0663713001,0.05,2\n2014-04-02,00ab,0541518023,0.03,2\n"
        },
        [("00ab", "0541518023", APRIL + DAY), ("00ab", "0663713001", APRIL)],
    ),
    "mind": (
        {"behaviors.tsv": MIND},
        [
            ("U1", "N1", APRIL, 1),
            ("U1", "N2", APRIL + DAY, 1),
            ("U1", "N8", APRIL, 1),
            ("U1", "N9", APRIL, 1),
            ("U2", "N3", APRIL, 1),
        ],
    ),
    "instacart": (
        {
            "orders.csv": "order_id,user_id,eval_set,order_number,days_since_prior_order\n"
            "11,1,prior,1,\n12,1,prior,2,7.0\n13,1,train,3,8.0\n14,2,test,1,\n",
            "order_products__prior.csv": "order_id,product_id,add_to_cart_order,reordered\n"
            "11,196,1,0\n12,196,1,1\n12,10,2,0\n99,5,1,0\n",
            "order_products__train.csv": "order_id,product_id,add_to_cart_order,reordered\n"
            "13,7,1,0\n",
        },
        [("1", "10", 2, 1), ("1", "196", 2, 2), ("1", "7", 3, 1)],
    ),
    "netflix": (
        {
            "combined_data_1.txt": "1:\n1488844,3,2014-04-01\n822109,5,2014-04-02\n2:\n",
            "combined_data_2.txt": "4500:\n822109,1,2014-04-01\n",
        },
        [
            ("1488844", "1", 3, APRIL),
            ("822109", "1", 5, APRIL + DAY),
            ("822109", "4500", 1, APRIL),
        ],
    ),
}


def written(folder: Path, name: str) -> list[Path]:
    made = []
    for file, content in SETS[name][0].items():
        made.append(folder / file)
        made[-1].write_bytes(content.encode() if isinstance(content, str) else content)
    return made


def test_every_set_has_a_sample_and_says_where_its_format_is_described():
    assert set(SETS) == set(NAMES)
    assert all(known.source for known in TABLES.values())


@pytest.mark.parametrize("name", SETS)
def test_the_sample_of_each_is_read_as_counted_by_hand(name, tmp_path):
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


def test_what_was_left_alone_and_what_was_left_out_is_told(tmp_path):
    written(tmp_path, "mind")
    exposed = read(tmp_path).exposed
    assert exposed is not None
    assert len(exposed.user) == 2  # U1 took N2 up later
    (tmp_path / "shop").mkdir()
    written(tmp_path / "shop", "instacart")
    data = read(tmp_path / "shop")
    assert data.notes["products of orders that orders.csv lacks, left out"] == 1
    (tmp_path / "books").mkdir()
    written(tmp_path / "books", "book-crossing")
    assert "read as latin-1" in read(tmp_path / "books").reading[0].replace("iso8859-1", "latin-1")


def test_what_the_caller_says_stands_in_place_of_what_is_known(tmp_path):
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
    plain = read(books, text=TextOptions(encoding="latin-1"))  # a table as any other
    assert rows(plain) == SETS["book-crossing"][1]
    with pytest.raises(InputError, match="format mind has fixed columns"):
        read(written(tmp_path, "mind")[0], format="mind", columns=Columns(user="1"))


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("netflix", "822109,5,", "822109;5;", r"combined_data_1\.txt:3: .*neither a film such as"),
        ("netflix", "1:\n", "", r"combined_data_1\.txt:1: '1488844,3,2014-04-01' is neither"),
        ("mind", "N2-1 N3-0", "N2 N3", r"behaviors\.tsv:2: not impression, user, time such as"),
        ("mind", "\tU2\t", "\t", r"behaviors\.tsv:3: not impression"),
        ("mind", "4/2/2014", "2014-04-02", r"behaviors\.tsv:2: not impression"),
        ("instacart", "11,196", "x,196", "prior.csv: cannot be read as a table with order_id"),
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
    with pytest.raises(InputError, match=r"no behaviors\.tsv in it, which mind has \(F\. Wu"):
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
