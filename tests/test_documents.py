"""Test README and guides: every block of code runs, and every figure is a committed line."""

import ast
import contextlib
import importlib.util
import inspect
import json
import logging
import re
import shlex
import shutil
import sys
import tomllib
import urllib.parse
from pathlib import Path
from typing import Any, NamedTuple

import documents
import numpy as np
import polars as pl
import pytest
from documents import PAGES, ROOT, STUDIES, Block

import jaxrec
from jaxrec import cli, compilation, presets
from jaxrec.cli.arguments import parse
from jaxrec.cli.completion import words
from jaxrec.cli.serve import Serve
from jaxrec.data import synthetic
from jaxrec.diagnosis import causes, symptoms
from jaxrec.training import run

CI = ROOT / ".ci" / "run"
SMALL = {
    "--minutes": "0.01",
    "--trials": "1",
    "--seeds": "1",
    "--workers": "1",
    "--split.folds": "2",
    "--model.dim": "8",
    "--negatives.count": "64",
    "--port": "0",
}
"""Values that replace those in blocks, to make the commands fast."""
EPOCHS = 2
NEEDS = {"sweep": "optuna", "serve": "fastapi", "report": "matplotlib"}
"""Optional packages by command; without its package, a command is not run here."""
WITHOUT_EPOCHS = ("filter", "auto", "gowalla-filter")


def write_inputs(folder: Path) -> None:
    """Write the files with which README and guides begin."""
    rng = np.random.default_rng(0)
    users, items = [f"u{n}" for n in range(1, 61)], [f"sku{n}" for n in range(1, 81)]
    alike = np.arange(80) % 4 == np.arange(60)[:, None] % 4
    taste = np.argsort(rng.random((60, 80)) + 0.6 * alike)
    pairs = [(users[u], items[i]) for u in range(60) for i in taste[u, -12:]]
    rng.shuffle(pairs)
    actions = [("view", "click", "purchase")[n % 3] for n in range(len(pairs))]
    bought_at = [f"2024-{1 + n % 12:02}-{1 + n % 28:02}T10:00:00" for n in range(len(pairs))]
    shop = pl.DataFrame(
        {
            "customer": [user for user, _ in pairs],
            "sku": [item for _, item in pairs],
            "action": actions,
            "bought_at": bought_at,
        }
    )
    shop.write_csv(folder / "shop.csv")
    shop.select("customer", "sku").write_parquet(folder / "shop.parquet")
    new = pl.DataFrame({"customer": ["u61"] * 5, "sku": items[:5]})
    late = new.with_columns(action=pl.lit("click"), bought_at=pl.lit("2025-01-01T10:00:00"))
    pl.concat([shop, late]).write_csv(folder / "grown.csv")
    catalogue = pl.DataFrame(
        {
            "sku": items,
            "title": [f"Item {n}" for n in range(80)],
            "category": ["dvd" if n % 2 else "book" for n in range(80)],
            "price": [5.0 + n % 30 for n in range(80)],
        }
    )
    catalogue.write_csv(folder / "items.csv")
    catalogue.head(3).with_columns(sku=pl.Series(["new1", "new2", "new3"])).write_csv(
        folder / "new-items.csv"
    )
    ages = pl.DataFrame({"customer": users, "age": [20 + n % 50 for n in range(60)]})
    ages.write_csv(folder / "users.csv")
    (folder / "ids.csv").write_text("user\nu1\nu2\n")
    (folder / "sold-out.txt").write_text("sku2\nsku3\n")
    (folder / "baskets.csv").write_text("user,item\nn1,sku1\nn1,sku2\nn2,sku5\n")
    (folder / "together.csv").write_text(
        "src,dst,weight\n"
        + "".join(
            f"sku{a},sku{b},1\n" for a in range(1, 81) for b in (a % 80 + 1, (a + 6) % 80 + 1)
        )
    )
    (folder / "interactions.inter").write_text(
        "user_id:token\titem_id:token\n" + "".join(f"{user}\t{item}\n" for user, item in pairs)
    )
    (folder / "space.toml").write_text('["optim.learning-rate"]\nchoices = [0.01]\n')


class Home(NamedTuple):
    """A folder with the files and runs with which pages begin, and all runs by their command."""

    folder: Path
    trained: dict[str, Path]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Write the input files to a folder, and run the first commands of README and guides."""
    here = Home(tmp_path_factory.mktemp("home"), {})
    write_inputs(here.folder)
    weights = ("--columns.event", "action", "--event-weights", "view=0", "click=1", "purchase=3")
    features = ("--items", "items.csv", "--users", "users.csv")
    with contextlib.chdir(here.folder), pytest.MonkeyPatch.context() as patch:
        _own_process(patch)
        reader = Reader(here.trained)
        reader.jaxrec(["train", "lightgcn", "--data", "shop.csv", "--run", "runs/shop"])
        reader.jaxrec(["refit", "runs/shop", "--run", "runs/live"])
        reader.jaxrec(["data", "import", "shop.csv", "--out", "shop", *weights])
        out = ("--out", "shop-with-features", *weights, *features)
        reader.jaxrec(["data", "import", "shop.csv", *out])
    return here


def _own_process(patch: pytest.MonkeyPatch) -> None:
    """Let commands run within this process without changing it, on small built-in data."""
    patch.setattr(compilation, "use_cache", lambda: None)
    for name in ("absl", "asyncio", "concurrent.futures"):
        patch.setattr(logging.getLogger(name), "setLevel", lambda level: None)
    patch.setattr(run, "_write_report", lambda *args, **more: None)  # tested by `jaxrec report`
    patch.setattr(synthetic, "embedded", _embedded)
    patch.setattr(jaxrec, "train", _train_shortly)
    patch.setattr(
        synthetic, "ids", lambda letter, n: np.array([f"{letter}{i:04}" for i in range(1, n + 1)])
    )
    patch.setattr(sys, "path", [*sys.path, str(ROOT / "scripts")])


def _train_shortly(*args: Any, **options: Any) -> Any:
    whole = args and isinstance(args[0], jaxrec.Config)
    return run.train(
        *args, **({} if whole or "epochs" in options else {"epochs": EPOCHS}), **options
    )


def _embedded(name: str = "synthetic") -> jaxrec.Dataset:
    data = synthetic.make(60, 50, 700, communities=3, features=name != "synthetic")
    planted = synthetic.truth(60, 50, communities=3)
    return synthetic.rated(data, planted) if name == "synthetic-ratings" else data


class Reader:
    """A reader who runs blocks in the current folder."""

    def __init__(self, trained: dict[str, Path]) -> None:
        self.app: Any = None
        self.left_out: list[str] = []
        self.trained = trained

    def run(self, block: Block) -> None:
        if block.language == "python":
            self._python(block.text)
        elif block.language == "bash":
            for words in documents.commands(block.text):
                missing = len(self.left_out)
                self._command(words)
                if len(self.left_out) > missing:
                    break  # the next commands may read what this one would have written
        elif block.language == "toml":
            tomllib.loads(block.text)

    def _python(self, text: str) -> None:
        for node in ast.walk(ast.parse(text)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in (name.split(".")[0] for name in names):
                if importlib.util.find_spec(name) is None:
                    assert name in ("pandas",), f"{name} is not installed"
                    self.left_out.append(name)
                    return
        exec(compile(text, "<block>", "exec"), {"__name__": "block"})

    def _command(self, words: list[str]) -> None:
        while re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        program, args = words[0], words[1:]
        if program == "pip":
            extra = re.fullmatch(r"jaxrec\[(\w+)\]", args[-1])
            assert extra is not None
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert extra[1] in project["optional-dependencies"]
        elif program == "curl":
            self._curl(args)
        else:
            assert program == "jaxrec", f"{program} is no command that is run"
            self.jaxrec(args)

    def jaxrec(self, args: list[str]) -> None:
        """Run a command in its fast form, and check that it succeeds.

        The doctor may also end with the status of a finding.
        """
        command = args[0]
        needed = NEEDS.get(command)
        if needed is not None and importlib.util.find_spec(needed) is None:
            self.left_out.append(needed)
            return
        if command == "serve":
            self._serve(args[1:])
            return
        args = small(args)
        folder, rest = _taken_out(args, "--run")
        before = self.trained.get(shlex.join(rest)) if command in ("train", "refit") else None
        if folder is not None and before is not None:  # pages repeat commands of other pages
            shutil.copytree(before, folder)
            return
        status = cli._run(args)
        assert status in ((0, 3) if command == "doctor" else (0,)), args
        if folder is not None and command in ("train", "refit"):
            self.trained[shlex.join(rest)] = Path(folder).resolve()

    def _serve(self, args: list[str]) -> None:
        from jaxrec.serving.app import create

        asked = parse(Serve, args, "jaxrec serve")
        self.app = create(Path(asked.run), titles=asked.titles and Path(asked.titles))

    def _curl(self, args: list[str]) -> None:
        if self.app is None:
            return  # the server was not started
        httpx = pytest.importorskip("httpx", reason="asks the server without a socket")
        import asyncio

        url = urllib.parse.urlsplit(f"http://{args[0]}")
        target = f"{url.path}?{url.query}" if url.query else url.path

        async def ask() -> Any:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                if "--json" in args:
                    return await client.post(target, json=json.loads(args[-1]))
                return await client.get(target)

        answer = asyncio.run(ask())
        assert answer.status_code == 200, answer.text
        assert answer.json()["items"]

    def close(self) -> None:
        if self.app is not None:
            self.app.state.current.close()


def _taken_out(args: list[str], option: str) -> tuple[str | None, list[str]]:
    """Return the value of an option, and the arguments without the option."""
    if option not in args:
        return None, args
    at = args.index(option)
    return args[at + 1], args[:at] + args[at + 2 :]


def small(args: list[str]) -> list[str]:
    """Return the same command with values that make it fast."""
    made = list(args)
    for n, word in enumerate(made[:-1]):
        if word in SMALL:
            made[n + 1] = SMALL[word]
        elif word == "--train.epochs":
            made[n + 1] = str(min(int(made[n + 1]), 2 * EPOCHS))
    plain = made[0] in ("train", "sweep") and made[1:2] != [] and made[1] not in WITHOUT_EPOCHS
    if (made == ["train"] or plain) and "--train.epochs" not in made:
        case = made[1:2] != [] and made[1].startswith("case-")  # whose faults need some steps
        made += ["--train.epochs", str(20 * EPOCHS if case else EPOCHS)]
    return made


@pytest.mark.long_but("README")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.usefixtures("registries")
def test_every_block_of_a_page_runs(
    page: Path, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    blocks = [b for b in documents.blocks(page) if not b.shown and not _of_ci(b)]
    shutil.copytree(home.folder, tmp_path, dirs_exist_ok=True)
    for made in _made_by(blocks):
        shutil.rmtree(tmp_path / made, ignore_errors=True)
    monkeypatch.chdir(tmp_path)
    _own_process(monkeypatch)
    reader = Reader(home.trained)
    said = ""
    try:
        for block in blocks:
            try:
                if block.language == "output":
                    assert unprinted(block.text, said) == []
                    continue
                capfd.readouterr()
                reader.run(block)
                said = capfd.readouterr().out
            except BaseException as e:
                e.add_note(f"{page.name}:{block.line}")
                raise
    finally:
        reader.close()
        sys.modules.pop("own_parts", None)  # what it registered is forgotten too


def unprinted(shown: str, said: str) -> list[str]:
    """Return the lines of an ``output`` block that no command printed.

    Numbers may differ, and so may the doctor's evidence, because data and training are small.
    """
    printed = {_without_numbers(line) for line in said.splitlines()}
    compared = [line for line in shown.splitlines() if not line.startswith("  seen ")]
    return [line for line in compared if _without_numbers(line) not in printed]


def _without_numbers(line: str) -> str:
    return re.sub(r"-?\d[\d,.e-]*", "N", line.rstrip())


def test_a_line_that_was_not_printed_is_found():
    said = "runs/a: 2 findings\n\n  cause   a rate of -1.25e-07\n"
    assert unprinted("runs/a: 4 findings\n\n  seen    x\n  cause   a rate of 31\n", said) == []
    assert unprinted("runs/b: 2 findings\n", said) == ["runs/b: 2 findings"]


def _made_by(blocks: list[Block]) -> set[str]:
    """Return the folders that the commands of a page create."""
    typed = [w for b in blocks if b.language == "bash" for w in documents.commands(b.text)]
    found = {_taken_out(args, option)[0] for args in typed for option in ("--run", "--out")}
    return {name for name in found if name is not None and name != "-"}


def _of_ci(block: Block) -> bool:
    """Return whether .ci/run contains this block literally."""
    return bool(block.text.strip()) and f'"{block.text.strip()}"' in CI.read_text()


def test_the_two_commands_of_the_readme_are_those_of_ci():
    done = [block for block in documents.blocks(PAGES[0]) if _of_ci(block)]
    assert len(done) == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_are_of_kinds_that_are_run_or_say_why_not(page: Path) -> None:
    for block in documents.blocks(page):
        assert block.language in ("bash", "python", "toml", "bibtex", "text", "yaml", "output", "")
        if block.language in ("bash", "python") and not block.shown:
            assert block.text.strip()


@pytest.mark.parametrize(
    "page", [*PAGES, *STUDIES], ids=lambda page: f"{page.parent.name}-{page.stem}"
)
def test_every_figure_is_a_committed_line(page: Path) -> None:
    wrong = [
        f"{figure.place}: {figure.written}, but {figure.case} says {documents.value(figure):.5g}"
        for figure in documents.figures(page)
        if not documents.agrees(figure)
    ]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_figures_without_a_line_say_where_they_are_from(page: Path) -> None:
    assert documents.unmarked(page) == []


def test_readme_is_read_to_the_end():
    text = PAGES[0].read_text()
    assert len(text.splitlines()) <= 200
    for guide in PAGES[1:]:
        assert f"(jaxrec/guides/{guide.name})" in text


def test_a_wrong_figure_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "right 0.401<!-- quickstart L20 -->, [0.401](bench/results/quickstart.jsonl#L20)\n"
        "wrong 0.402<!-- quickstart L20 -->, in 12 s, 0.123\n"
        "| 0.9 s | 0.55<!-- published --> | `0.77` |\n"
    )
    found = documents.figures(page)
    assert [documents.agrees(figure) for figure in found] == [True, True, False]
    assert documents.unmarked(page) == ["page.md:2: 12", "page.md:2: 0.123", "page.md:3: 0.9"]


def test_every_option_that_pages_name_is_one():
    known = {"--debug", "--plugin", "--version", "--check", "--compile"}
    known |= {"--preload", "--json", "--pythons"}  # options of gunicorn, curl and bench
    for one in words(cli.COMMANDS).values():
        known |= set(one.options)
    unknown = []
    for page in PAGES:
        text = page.read_text()
        for block in documents.blocks(page):
            if block.shown.startswith(("theirs", "starts processes")) or _of_ci(block):
                text = text.replace(block.text, "")
        for option in re.findall(r"(?<![\w-])--[a-z][\w.-]*", text):
            if option.replace(".no-", ".").replace("--no-", "--") not in known:
                unknown.append(f"{page.name}: {option}")
    assert unknown == []


def test_pages_name_every_preset_and_every_finding_of_the_doctor():
    text = "".join(page.read_text() for page in PAGES)
    missing = [name for name in presets.PRESETS if f"`{name}`" not in text]
    assert [name for name in missing if not name.startswith("case-")] == []
    page = (PAGES[0].parent / "jaxrec" / "guides" / "doctor.md").read_text()
    source = inspect.getsource(causes) + inspect.getsource(symptoms)
    names = set(re.findall(r"Finding\(\s*\"([a-z-]+)\"", source))
    assert len(names) > 15
    assert {name for name in names if f"`{name}`" not in page} == set()
