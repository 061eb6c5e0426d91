"""Hand-made samples of well-known data sets: their files and the pairs that they hold."""

import json
from pathlib import Path

APRIL = 1396310400.0  # 2014-04-01
DAY = 86_400.0


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
