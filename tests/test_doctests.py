"""Test the examples in docstrings of public names, and the pages built from them."""

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import jaxrec
from jaxrec.data import synthetic

SUBPACKAGES = ("graph", "losses", "models", "negatives")
NEEDS = {"from_arrow": "pyarrow", "from_pandas": "pandas", "report": "matplotlib"}
WITHOUT_EXAMPLE = {
    "__version__",
    # protocols, and tuples that encoders give and take
    *("Loss", "LocalEncoder", "InductiveEncoder", "HiddenLayers", "ModelSizes", "Nodes"),
    *("NewEdges", "DeviceCsr", "Popularity", "BilinearDecoder", "NeuralScore"),
}


def public() -> dict[str, object]:
    """Return every public name of jaxrec and of its public sub-packages."""
    names = {name: getattr(jaxrec, name) for name in jaxrec.__all__}
    for package in SUBPACKAGES:
        module: ModuleType = getattr(jaxrec, package)
        names |= {f"{package}.{name}": getattr(module, name) for name in module.__all__}
    return names


PUBLIC = public()


def short(name: str) -> str:
    return name.rpartition(".")[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Build the data and the two runs (LightGCN, two towers) with which examples begin."""
    folder = tmp_path_factory.mktemp("trained")
    synthetic.make(60, 50, 700, communities=4, seed=2, features=True).save(folder / "shop")
    options = {"data": str(folder / "shop"), "dim": 4, "epochs": 2, "quiet": True}
    jaxrec.train("quickstart", run=folder / "runs" / "quickstart-1", **options)
    jaxrec.train("two-tower", run=folder / "runs" / "two-tower-1", **options)
    return folder


@pytest.mark.parametrize("name", [name for name in PUBLIC if short(name) not in WITHOUT_EXAMPLE])
def test_the_examples_of_public_names_give_what_they_say(
    name, registries, request, tmp_path, monkeypatch
):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    value = PUBLIC[name]
    begins_with_a_run = "runs/" in (value.__doc__ or "")
    monkeypatch.chdir(request.getfixturevalue("trained") if begins_with_a_run else tmp_path)
    module = importlib.import_module(value.__module__)
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = finder.find(value, short(name), module=module, globs=dict(vars(module)))
    tests = [one for one in tests if one.examples]
    assert tests, f"{name} has no example"
    told: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for one in tests:
        runner.run(one, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_every_public_name_says_what_it_is(name):
    value = PUBLIC[name]
    words = inspect.getdoc(value) or ""
    assert len(words.splitlines()[0]) > 15, name
    assert value.__doc__ != (value.__mro__[1].__doc__ if isinstance(value, type) else None)


def test_the_api_pages_have_every_public_name_and_no_warning(tmp_path, monkeypatch):
    pytest.importorskip("pdoc", reason="the API pages are made by pdoc, of the extra dev")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    assert importlib.import_module("api_pages").write(tmp_path) == []
    pages = [tmp_path / "jaxrec.html", *(tmp_path / "jaxrec" / f"{m}.html" for m in SUBPACKAGES)]
    assert sorted((tmp_path / "jaxrec").rglob("*.html")) == sorted(pages[1:])
    shown = {page.stem: page.read_text() for page in pages}
    for name in PUBLIC:
        package, _, last = name.rpartition(".")
        assert f'id="{last}"' in shown[package or "jaxrec"], name
    assert "SemVer" in shown["jaxrec"]


def test_walks_give_what_their_examples_say():
    found = doctest.testmod(importlib.import_module("jaxrec.graph.walks"))
    assert (found.attempted > 0, found.failed) == (True, 0)
