"""Lists and settings in the report, as people read them."""

import re
import shutil
from pathlib import Path

import pytest
from made_run import CONFIG, trained

from jaxrec.errors import InputError
from jaxrec.recommend import Recommender
from jaxrec.reporting.page import report

pytest.importorskip("matplotlib", reason="the extra `report`")
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def titles(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    items = Recommender.load(trained()).item_ids
    quoted = HOSTILE.replace('"', '""')
    path.write_text("item,title\n" + "".join(f'{item},"{quoted} {item}"\n' for item in items))
    return path


def test_five_users_have_their_items_and_their_lists(tmp_path: Path) -> None:
    page = report([trained()], tmp_path / "page.html").read_text()
    users = re.findall(r"<h4>User (\S+), ", page)
    assert len(users) == 5
    rec = Recommender.load(trained())
    for user, section in zip(users, page.split("<h4>User ")[1:], strict=True):
        listed = re.findall(r"<li>(.*?)</li>", section.split("<ol>")[1].split("</ol>")[0])
        held_out = [re.sub(r"</?strong>", "", item) for item in listed if "<strong>" in item]
        # What was held out as test is in the list, and marked.
        plain = [re.sub(r"</?strong>", "", item) for item in listed]
        assert plain == rec.recommend(user, 10, held_out="keep")["item"].to_list()
        assert set(held_out) == set(plain) - set(rec.recommend(user, 120)["item"])


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


def test_settings_are_those_that_differ_from_the_preset(tmp_path: Path) -> None:
    page = report([trained()], tmp_path / "page.html").read_text()
    table = page.split("Differences from the preset lightgcn")[1].split("</table>")[0]
    assert f">train.epochs</th><td>{CONFIG.train.epochs}</td>" in table
    assert "negatives.name" in table
    assert "checkpoint.keep" not in table
