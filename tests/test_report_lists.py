"""Test lists and settings in the report."""

import json
import re
import shutil
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from made_run import CONFIG, trained, write_embeddings

from jaxrec.errors import InputError
from jaxrec.recommend import Recommender
from jaxrec.reporting.item_map import item_map
from jaxrec.reporting.learned import Learned
from jaxrec.reporting.page import report
from jaxrec.reporting.run_records import read_runs

pytest.importorskip("matplotlib", reason="the extra `report`")
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def titles(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    items = Recommender.load(trained()).item_ids
    quoted = HOSTILE.replace('"', '""')
    path.write_text("item,title\n" + "".join(f'{item},"{quoted} {item}"\n' for item in items))
    return path


@pytest.mark.long
def test_five_users_have_their_items_and_their_lists(tmp_path: Path) -> None:
    page = report([trained()], tmp_path / "page.html").read_text()
    users = re.findall(r"<h4>User (\S+)</h4>", page)
    assert len(users) == 5
    rec = Recommender.load(trained())
    for user, section in zip(users, page.split("<h4>User ")[1:], strict=True):
        listed = re.findall(r"<li>(.*?)</li>", section.split("<ol>")[1].split("</ol>")[0])
        listed = [re.sub(r"<span.*?</span>", "", item) for item in listed]
        held_out = [re.sub(r"</?strong>", "", item) for item in listed if "<strong>" in item]
        # Items that were held out as test are in the list, and marked.
        plain = [re.sub(r"</?strong>", "", item) for item in listed]
        assert plain == rec.recommend(user, 10, held_out="keep")["item"].to_list()
        assert set(held_out) == set(plain) - set(rec.recommend(user, 120)["item"])


@pytest.mark.long
def test_titles_stand_for_ids_and_are_escaped(titles: Path, tmp_path: Path) -> None:
    page = report([trained()], tmp_path / "page.html", titles).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    with pytest.raises(InputError, match="no such file"):
        report([trained()], tmp_path / "page.html", tmp_path / "nothing.csv")


def test_a_run_that_has_not_finished_has_no_lists(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained(), run)
    (run / "embeddings.npz").unlink()
    assert "<h4>User" not in report([run], tmp_path / "page.html").read_text()


@pytest.mark.long
def test_settings_are_those_that_differ_from_the_preset(tmp_path: Path) -> None:
    page = report([trained()], tmp_path / "page.html").read_text()
    table = page.split("Differences from the preset lightgcn")[1].split("</table>")[0]
    assert f'>train.epochs</th><td data-label="this run">{CONFIG.train.epochs}</td>' in table
    assert "negatives.name" in table
    assert "checkpoint.keep" not in table


def listed(page: Path) -> dict[str, list[str]]:
    """Return the lists on a page, by user."""
    sections = page.read_text().split("<h4>User ")[1:]
    found = {}
    for section in sections:
        items = re.findall(r"<li>(.*?)</li>", section.split("<ol>")[1].split("</ol>")[0])
        plain = [unescape(re.sub(r"<span.*?</span>|<.*?>", "", item)) for item in items]
        found[section.partition("<")[0]] = plain
    return found


@pytest.mark.long
def test_the_first_screen_has_figures_pictures_and_lists_before_any_table(tmp_path: Path) -> None:
    page = report([trained()], tmp_path / "page.html").read_text()
    order = ['class="tiles"', "The model beside its baselines", "Item map", "<h4>User", "<table"]
    assert [page.index(part) for part in order] == sorted(page.index(part) for part in order)
    assert page.split("<h3>")[0].count("<figure>") == 3


def test_a_run_on_everything_has_lists_and_says_why_it_has_no_figures(tmp_path: Path) -> None:
    run = tmp_path / "all"
    shutil.copytree(trained(), run)
    env = json.loads((run / "env.json").read_text())
    env["data"] |= {"validation": 0, "test": 0}
    (run / "env.json").write_text(json.dumps(env))
    (run / "eval.json").write_text(json.dumps({"metrics": {}, "steps": 10, "best_step": 10}))
    page = report([run], tmp_path / "page.html")
    assert "Trained on all pairs." in page.read_text()
    assert "Not finished." not in page.read_text()
    assert len(listed(page)) == 5


MOVIES = "movieId,title,genres\n" + "".join(
    f'i{n},"Film {n} <b>",{"<i>Drama</i>" if n % 3 else "Comedy"}|Late\n' for n in range(30)
)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Build a run whose items form three groups, with a table of films beside the data."""
    rng = np.random.default_rng(0)
    item = np.eye(6)[np.arange(30) % 3] + 0.1 * rng.normal(size=(30, 6))
    seen = [[n % 30, (n + 3) % 30] for n in range(12)]
    run = write_embeddings(tmp_path / "run", rng.normal(size=(12, 6)), item, seen)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "movies.csv").write_text(MOVIES)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"data": str(tmp_path / "data")}))
    return run


def test_titles_and_categories_beside_the_data_are_used_and_escaped(
    planted: Path, tmp_path: Path
) -> None:
    page = report([planted], tmp_path / "page.html")
    source = page.read_text()
    assert "Titles are from movies.csv." in source
    assert all(item.startswith("Film ") for items in listed(page).values() for item in items)
    assert "coloured by the first of their genres" in source
    assert "&lt;i&gt;Drama&lt;/i&gt; (20)" in source
    assert "<b>" not in source
    assert "<i>" not in source


def test_items_that_are_alike_lie_together_on_the_map(planted: Path) -> None:
    (run,) = read_runs([planted])
    learned = Learned.read(run)
    assert learned is not None
    drawn = item_map(learned)
    marks = re.findall(r'<path d="M(\d+) (\d+)[^"]*"><title>Film (\d+)', drawn)
    assert len(marks) == 30
    place = np.zeros((30, 2))
    for x, y, item in marks:
        place[int(item)] = int(x), int(y)
    apart = np.linalg.norm(place[:, None] - place[None], axis=2)
    same = np.arange(30)[:, None] % 3 == np.arange(30) % 3
    assert apart[same].max() < apart[~same].min()
    assert "% of variance" in drawn


@pytest.mark.long
def test_popularity_colours_the_map_where_there_are_no_categories(tmp_path: Path) -> None:
    page = report([trained()], tmp_path / "page.html").read_text()
    counts = re.findall(r"users \((\d+)\)</li>", page)
    learnt = Recommender.load(trained()).learnt[1].sum()
    assert sum(map(int, counts)) == learnt
    assert len(counts) == 5


def test_a_map_by_umap_needs_its_library(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="pip install umap-learn"):
        report([planted], tmp_path / "page.html", item_map="umap")
