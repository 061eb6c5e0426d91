"""The house rules that a walk over the import statements can hold."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "jaxrec"
FILES = sorted(ROOT.rglob("*.py"))

# What each room may import of ours; the rooms that everyone may use come first.
EVERYONE = {"errors", "config", "files", "forks", "machine", "_packages"}
MAY = {
    "errors": set(),
    "config": set(),
    "plan": set(),
    "hosts": set(),
    "files": set(),
    "forks": set(),
    "machine": set(),
    "_packages": set(),
    "presets": set(),
    "data": set(),
    "hashing": set(),
    "randomness": set(),
    "graph": {"data", "hashing"},
    "parted": {"data", "graph"},
    "models": {"graph", "hashing"},
    "losses": set(),
    "negatives": {"graph"},
    "optim": set(),
    "rowwise": {"optim"},
    "evaluate": {"models", "graph", "data", "parted", "hashing", "randomness", "runfolder"},
    "runfolder": {"data"},
    "compilation": {"runfolder"},
    "log": {"runfolder"},
    "foldin": {"data"},
    "lists": {"data"},
    "recommend": {"data", "evaluate", "runfolder", "foldin"},
    "export": {"runfolder", "recommend"},
    "report": {"data", "evaluate", "runfolder", "presets", "doctor"},
    "doctor": {"data", "models", "losses", "evaluate", "runfolder"},
    "train": {
        *("plan", "hosts", "randomness"),
        *("data", "graph", "models", "losses", "negatives", "optim", "rowwise", "evaluate"),
        *("parted", "log", "runfolder", "report", "presets", "hashing", "doctor", "lists"),
    },
    "cli": {
        "plan",
        *("data", "graph", "evaluate", "log", "presets", "recommend", "export", "report"),
        *("compilation", "parted"),
        *("train", "runfolder", "lists", "doctor"),
    },
}


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imported(path: Path) -> set[str]:
    """Dotted modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "jaxrec":
                found |= {f"jaxrec.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_only_what_they_may(path):
    here = room(path)
    if here in ("__init__", "__main__"):
        return
    ours = {m.split(".")[1] for m in imported(path) if m.startswith("jaxrec.")}
    ours -= {here, "__version__"}
    assert ours <= MAY[here] | EVERYONE, f"{path} imports {ours - MAY[here] - EVERYONE}"
    if here != "graph":
        assert "jraph" not in {m.split(".")[0] for m in imported(path)}
    if here in ("config", "errors"):
        assert not {"jax", "numpy"} & {m.split(".")[0] for m in imported(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_outgrows_its_room(path):
    assert len(path.read_text().splitlines()) <= 600


@pytest.mark.parametrize(
    "program",
    [
        "import jaxrec",
        "import sys; sys.argv = ['jaxrec', '--help']; from jaxrec.cli import main; main()",
        "import sys; sys.argv = ['jaxrec', 'train', '--help']; from jaxrec.cli import main; main()",
        "import jaxrec.data.dataset, jaxrec.data.split, jaxrec.data.formats",
    ],
)
def test_start_up_loads_no_jax(program):
    watch = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write('LOADED ' * ('jax' in sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watch + program], capture_output=True, text=True, check=True
    )
    assert "LOADED" not in done.stderr


def test_public_names_are_there_and_nothing_else():
    import jaxrec

    for name in jaxrec.__all__:
        assert getattr(jaxrec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = jaxrec.nonsense


def test_modules_that_are_called_stay_modules_whatever_is_imported_first():
    import jaxrec
    import jaxrec.export as export
    import jaxrec.train.loop as loop

    assert loop.Loop.__module__ == "jaxrec.train.loop"
    assert export.Format is not None
    for module in (jaxrec.train, jaxrec.evaluate, jaxrec.export, jaxrec.report, jaxrec.doctor):
        assert callable(module)
    with pytest.raises(jaxrec.InputError, match="no preset 'nope'"):
        jaxrec.train(preset="nope")


POSIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "curses", "posix"}


@pytest.mark.parametrize("hidden", ["fcntl", "resource"])
def test_other_systems_are_refused_in_a_line(hidden, monkeypatch):
    monkeypatch.setitem(sys.modules, hidden, None)
    spec = importlib.util.spec_from_file_location("jaxrec_elsewhere", ROOT / "__init__.py")
    with pytest.raises(ImportError) as raised:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert str(raised.value).startswith("jaxrec runs on Linux and macOS")
    assert hidden in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_every_module_of_posix_systems_is_looked_for_at_the_start():
    import jaxrec

    used = {name for path in FILES for name in imported(path)} & POSIX_ONLY
    assert used == set(jaxrec._POSIX)
