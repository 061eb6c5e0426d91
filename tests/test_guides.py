"""Test ``jaxrec guide``: pages are listed and shown, and link to one another."""

import importlib.util
import io
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import documents
import pytest
from rich.console import Console

from jaxrec import guides
from jaxrec.cli.guide import guide
from jaxrec.cli.terminal_page import Page
from jaxrec.errors import InputError
from jaxrec.guides import ORDER, names, read, summary

FOLDER = Path(guides.__file__).parent
SCRIPT = Path(__file__).parents[1] / "scripts" / "draw_pictures.py"


@pytest.fixture
def pictures():
    spec = importlib.util.spec_from_file_location("draw_pictures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_has_its_place_in_the_list():
    assert set(names()) == set(ORDER) == {path.stem for path in FOLDER.glob("*.md")}


@pytest.mark.parametrize("name", ORDER)
def test_a_page_begins_with_its_title_and_a_line_about_it(name):
    lines = (FOLDER / f"{name}.md").read_text().splitlines()
    assert re.match(r"# \w", lines[0])
    assert (lines[1], lines[3]) == ("", "")
    assert summary(name) == lines[2]
    assert len(summary(name)) < 110


@pytest.mark.parametrize("name", ORDER)
def test_links_between_pages_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)", (FOLDER / f"{name}.md").read_text()):
        if not target.startswith("http"):
            assert (FOLDER / target).resolve().exists() or target.startswith("../../bench/"), target


def test_the_list_names_each_page_with_its_line(capsys):
    guide([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(ORDER)]] == list(ORDER)
    assert lines[0].endswith(summary("your-data"))


def test_a_pipe_gets_the_markdown_without_its_comments(capsys):
    guide(["doctor"])
    shown = capsys.readouterr().out
    assert shown == read("doctor").rstrip() + "\n"
    assert "<!--" in (FOLDER / "doctor.md").read_text()
    assert "<!--" not in shown


def test_a_terminal_gets_the_page_laid_out(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    guide(["glossary"])
    shown = capsys.readouterr().out
    assert "Bayesian personalised ranking" in shown
    assert "# Glossary" not in shown


def shown(page: Page, width: int) -> list[str]:
    """Return the lines of a page in a terminal."""
    console = Console(width=width, file=io.StringIO())
    console.print(page, crop=False)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("name", ORDER)
def test_in_a_terminal_links_are_commands_and_code_stays_whole(name):
    text = "\n".join(shown(Page(read(name)), 2000))
    for target in re.findall(r"(?<!!)\]\(([\w-]+)\.md[)#]", read(name)):
        assert f"jaxrec guide {target}" in text
    narrow = shown(Page(read(name)), 50)
    assert not any("…" in line for line in narrow)
    for block in documents.blocks(FOLDER / f"{name}.md"):
        assert {line.rstrip() for line in block.text.splitlines()} <= {*narrow}


def test_where_a_table_is_too_wide_its_rows_are_a_list():
    page = Page("| name | use |\n|---|---|\n| `a-long-name` | to see |\n| b | |\n")
    assert " a-long-name  to see" in shown(page, 40)
    assert [line for line in shown(page, 14) if line] == ["a-long-name", "  use: to see", "b"]


def test_a_wrong_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"'your-dta'.*did you mean 'your-data'"):
        guide(["your-dta"])
    with pytest.raises(InputError, match="give only one page"):
        guide(["doctor", "glossary"])
    assert InputError("").exit_status == 2


def test_the_picture_of_the_rooms_names_each_of_them(pictures):
    """If this test fails, run scripts/draw_pictures.py to redraw the pictures."""
    drawn = set(re.findall(r">([a-z_]+)</text>", (FOLDER / "rooms.svg").read_text()))
    assert drawn == set(pictures.room_imports())


@pytest.mark.long
def test_pictures_are_drawn_from_imports_in_rows(pictures):
    rows = pictures.heights({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    assert rows == {"c": 0, "b": 1, "a": 2}
    with pytest.raises(ValueError, match="a circle of imports"):
        pictures.heights({"a": {"b"}, "b": {"a"}})
    imports = pictures.room_imports()
    assert "training" in imports["cli"]
    assert "jax" not in imports["models"]
    for picture in (pictures.rooms(), pictures.overview()):
        assert ElementTree.fromstring(picture).tag.endswith("svg")


def _lines(path: Path) -> int:
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def test_the_sizes_in_the_contributing_page_are_nearly_true():
    page, package = read("contributing"), FOLDER.parent
    stated = {}
    for files, lines in re.findall(r"^\|[^|]+\| (`[^|]+`) \| ([\d,]+) \|", page, re.MULTILINE):
        counted = sum(_lines(package / name) for name in files.strip("`").split("`, `"))
        stated[files] = lines, counted
    (block,) = re.findall(r"by part.*?```text\n(.*?)```", page, re.DOTALL)
    for part, lines in re.findall(r"(\S+) ([\d,]+)", block):
        top = sum(map(_lines, package.glob("*.py")))
        stated[part] = lines, top if part == "(top)" else _lines(package / part)
    assert len(stated) > 20
    for what, (lines, counted) in stated.items():
        assert int(lines.replace(",", "")) == pytest.approx(counted, rel=0.5), what
