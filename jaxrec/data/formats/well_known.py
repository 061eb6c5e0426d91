"""Reads well-known data sets from the files in which they are published.

Each data set has an entry in ``TABLES``, which gives either the columns of a table or a function
that reads the files. The caller's columns, event weights and text options take precedence.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from jaxrec.data.formats import compressed, instacart, jsonl, mind, netflix, tables
from jaxrec.data.formats.assemble import Part
from jaxrec.data.formats.columns import Columns
from jaxrec.data.formats.text import TextOptions
from jaxrec.errors import InputError


@dataclass(frozen=True)
class PublishedTable:
    """The layout of one data set.

    Attributes:
      files: patterns of its file's name, compressed or not; the first file that matches is read.
      source: where the format is described.
      kind: "csv", "tsv" or "jsonl", or else a function that reads the file.
      columns: the role of each column.
      text: settings for reading its text.
      events: the weight of each kind of event.
      quote: whether cells may be quoted.
      told: whether the names in ``files`` are distinctive enough to recognise the data set.
    """

    files: tuple[str, ...]
    source: str
    kind: str | Callable[[Path, TextOptions], list[Part]]
    columns: Columns = field(default_factory=Columns)
    text: TextOptions = field(default_factory=TextOptions)
    events: Mapping[str, float] = field(default_factory=dict)
    quote: bool = True
    told: bool = True


_BARE = TextOptions(header=False)
_REVIEWS_2014 = Columns("reviewerID", "asin", "overall", "unixReviewTime")
_NI = "J. Ni et al., EMNLP 2019; nijianmo.github.io/amazon"
TABLES: dict[str, PublishedTable] = {
    "amazon-2014": PublishedTable(
        ("ratings_*.csv",),
        "J. McAuley et al., SIGIR 2015; jmcauley.ucsd.edu/data/amazon (user, item, rating, time)",
        "csv",
        Columns("1", "2", "3", "4"),
        _BARE,
        told=False,
    ),
    "amazon-2018": PublishedTable(
        ("*.csv",),
        f"{_NI} (item, user, rating, time)",
        "csv",
        Columns("2", "1", "3", "4"),
        _BARE,
        told=False,
    ),
    "amazon-reviews": PublishedTable(
        ("reviews_*.json", "*_5.json"),
        f"{_NI} (a review a line; 2014 and 2018)",
        "jsonl",
        _REVIEWS_2014,
        told=False,
    ),
    "amazon-2023": PublishedTable(
        ("*.jsonl",),
        "Y. Hou et al., arXiv:2403.03952; amazon-reviews-2023.github.io (times in milliseconds)",
        "jsonl",
        Columns("user_id", "parent_asin", "rating", "timestamp"),
        told=False,
    ),
    "yelp": PublishedTable(
        ("yelp_academic_dataset_review.json",),
        "Yelp Open Dataset, review.json; yelp.com/dataset/documentation/main",
        "jsonl",
        Columns("user_id", "business_id", "stars", "date"),
    ),
    "steam": PublishedTable(
        ("steam_reviews.json", "steam_new.json"),
        "W.-C. Kang and J. McAuley, ICDM 2018; cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data "
        "(a review a line, as Python literals)",
        "jsonl",
        Columns("username", "product_id", rating="", time="date"),
    ),
    "steam-library": PublishedTable(
        ("australian_users_items.json",),
        "A. Pathak et al., SIGIR 2017; cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data "
        "(a user a line, with the games that they own)",
        "jsonl",
        Columns("user_id", "items", rating="", time=""),
    ),
    "goodreads": PublishedTable(
        ("goodreads_interactions.csv",),
        "M. Wan and J. McAuley, RecSys 2018; cseweb.ucsd.edu/~jmcauley/datasets/goodreads.html "
        "(a rating of 0 is none)",
        "csv",
        Columns("user_id", "book_id", "rating", time=""),
    ),
    "goodreads-reviews": PublishedTable(
        ("goodreads_reviews_*.json",),
        "M. Wan and J. McAuley, RecSys 2018; cseweb.ucsd.edu/~jmcauley/datasets/goodreads.html",
        "jsonl",
        Columns("user_id", "book_id", "rating", "date_added"),
    ),
    "book-crossing": PublishedTable(
        ("BX-Book-Ratings.csv",),
        "C.-N. Ziegler et al., WWW 2005 (Latin-1; a rating of 0 is none)",
        "csv",
        Columns("User-ID", "ISBN", "Book-Rating", time=""),
        TextOptions(separator=";", header=True, encoding="latin-1"),
    ),
    "lastfm-360k": PublishedTable(
        ("usersha1-artmbid-artname-plays.tsv",),
        "O. Celma, Last.fm Dataset 360K, 2010 (user, artist's id, artist's name, plays)",
        "tsv",
        Columns("1", "3", weight="4"),
        _BARE,
        quote=False,
    ),
    "lastfm-2k": PublishedTable(
        ("user_artists.dat",),
        "I. Cantador et al., HetRec 2011; grouplens.org/datasets/hetrec-2011",
        "tsv",
        Columns("userID", "artistID", weight="weight"),
        TextOptions(header=True),
    ),
    "msd": PublishedTable(
        ("train_triplets.txt", "kaggle_visible_evaluation_triplets.txt"),
        "T. Bertin-Mahieux et al., ISMIR 2011; Taste Profile subset (user, song, plays)",
        "tsv",
        Columns("1", "2", weight="3"),
        _BARE,
        quote=False,
    ),
    "gowalla-checkins": PublishedTable(
        ("loc-gowalla_totalCheckins.txt", "loc-brightkite_totalCheckins.txt"),
        "E. Cho et al., KDD 2011; snap.stanford.edu/data/loc-gowalla.html",
        "tsv",
        Columns("1", "5", time="2"),
        TextOptions(header=False, skip_missing_ids=True),
        quote=False,
    ),
    "foursquare": PublishedTable(
        ("dataset_TSMC2014_*.txt",),
        "D. Yang et al., IEEE TSMC 2015 (Latin-1; the time is UTC)",
        "tsv",
        Columns("1", "2", time="8"),
        TextOptions(header=False, encoding="latin-1"),
        quote=False,
    ),
    "retailrocket": PublishedTable(
        ("events.csv",),
        "Retailrocket recommender system dataset, 2016 (times in milliseconds); "
        "kaggle.com/datasets/retailrocket/ecommerce-dataset",
        "csv",
        Columns("visitorid", "itemid", time="timestamp", event="event"),
        events={"view": 1.0, "addtocart": 1.0, "transaction": 1.0},
        told=False,
    ),
    "yoochoose": PublishedTable(
        ("yoochoose-clicks.dat", "yoochoose-buys.dat"),
        "D. Ben-Shimon et al., RecSys Challenge 2015 (session, time, item)",
        "csv",
        Columns("1", "3", time="2"),
        _BARE,
    ),
    "hm": PublishedTable(
        ("transactions_train.csv",),
        "H&M Personalized Fashion Recommendations, 2022; "
        "kaggle.com/competitions/h-and-m-personalized-fashion-recommendations/data",
        "csv",
        Columns("customer_id", "article_id", rating="", time="t_dat"),
    ),
    "mind": PublishedTable(("behaviors.tsv",), mind.SOURCE, mind.parts),
    "instacart": PublishedTable(("order_products__prior.csv",), instacart.SOURCE, instacart.parts),
    "netflix": PublishedTable(
        ("combined_data_1.txt", "mv_*.txt", "training_set/mv_*.txt"), netflix.SOURCE, netflix.parts
    ),
}
NAMES = tuple(TABLES)


def detect(path: Path) -> str | None:
    """Return the data set that the name of a file, or of a file in a folder, identifies.

    The result is None if no name matches. Data sets without distinctive names are not detected.
    """
    for name, table in TABLES.items():
        if not table.told:
            continue
        if path.is_file():
            plain = compressed.plain_name(path)
            if any(fnmatch(plain, pattern.rpartition("/")[2]) for pattern in table.files):
                return name
        elif path.is_dir() and _file_in(path, table):
            return name
    return None


def parts(
    path: Path,
    name: str,
    columns: Columns | None,
    event_weights: dict[str, float] | None,
    text: TextOptions,
    rows: int | None = None,
) -> Iterator[Part]:
    """Read a data set from its file or from the folder that holds it.

    Args:
      rows: about how many rows of a table are read at a time; None for all of a file.

    Raises:
      InputError: the file is missing, or a line is not usable; the message names the line.
    """
    table = TABLES[name]
    file = path if not path.is_dir() else _file_in(path, table)
    if file is None:
        raise InputError(
            f"{path}: holds no {table.files[0]}, from which {name} is read ({table.source}); add it"
        )
    given = {
        f.name: getattr(text, f.name)
        for f in dataclasses.fields(text)
        if getattr(text, f.name) != f.default
    }
    if not isinstance(table.kind, str):
        if columns or event_weights:
            raise InputError(
                f"{path}: format {name} has fixed columns; leave out columns and event weights"
            )
        yield from table.kind(file, text)
        return
    text = dataclasses.replace(table.text, **given)
    columns = columns or table.columns
    events = event_weights or (None if columns.weight else dict(table.events) or None)
    if table.kind == "jsonl":
        found = jsonl.pieces(file, columns, events, rows, options=text)
    else:
        ending = f".{table.kind}"
        found = tables.pieces(
            file, columns, events, rows, options=text, ending=ending, quote=table.quote
        )
    for part in found:
        if table.text.encoding and "encoding" not in given:
            part.reading = f"read as {table.text.encoding}: {part.reading}"
        yield part


def _file_in(folder: Path, table: PublishedTable) -> Path | None:
    for pattern in table.files:
        for path in sorted({*folder.glob(pattern), *folder.glob(f"{pattern}.*")}):
            at_end = Path(pattern).name
            if path.is_file() and fnmatch(compressed.plain_name(path), at_end):
                return path
    return None
