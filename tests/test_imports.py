"""Test the rules on imports between the folders of the package."""

import ast
import functools
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "jaxrec"
FILES = sorted(ROOT.rglob("*.py"))

# The folders of jaxrec that each folder may import; all may import those listed first.
EVERYONE = {
    "errors",
    "config",
    "files",
    "fork_check",
    "host_settings",
    "machine",
    "platforms",
    "registry",
}
MAY = {
    "errors": set(),
    "config": set(),
    "registry": set(),
    "plan": {"plan_arrays"},
    "plan_arrays": set(),
    "processes": set(),
    "files": set(),
    "fork_check": set(),
    "host_settings": set(),
    "machine": set(),
    "platforms": set(),
    "presets": {"losses", "optax_chain"},
    "data": set(),
    "hashed_random": set(),
    "randomness": set(),
    "graph": {"data", "hashed_random"},
    "parted": {"data", "graph"},
    "models": {"graph", "hashed_random"},
    "losses": set(),
    "negatives": {"graph"},
    "optax_chain": set(),
    "rowwise": {"optax_chain"},
    "evaluation": {"models", "graph", "data", "parted", "hashed_random", "randomness", "runfolder"},
    "runfolder": {"data"},
    "compilation": {"runfolder"},
    "log": {"runfolder", "trackers"},
    "trackers": set(),
    "foldin": {"data"},
    "list_files": {"data"},
    "rerank": set(),
    "catalogue": {"data"},
    "added_items": {"data", "runfolder"},
    "recommend": {
        *("data", "evaluation", "graph", "runfolder", "foldin", "rerank", "added_items"),
    },
    "serving": {"catalogue", "data", "evaluation", "recommend"},
    "exports": {"runfolder"},
    "guides": set(),
    "exporting": {"runfolder", "recommend", "exports"},
    "significance": set(),
    "sweep": {"training", "runfolder"},
    "reporting": {
        "significance",
        "catalogue",
        "data",
        "evaluation",
        "runfolder",
        "presets",
        "diagnosis",
    },
    "diagnosis": {"data", "models", "losses", "evaluation", "runfolder"},
    "embedding": {
        "added_items",
        *("training", "data", "graph", "models", "evaluation", "runfolder", "list_files"),
    },
    "estimator": {"training", "data", "recommend", "evaluation"},
    "training": {
        *("plan", "processes", "randomness", "recommend", "trackers"),
        *("data", "graph", "models", "losses", "negatives", "optax_chain", "rowwise", "evaluation"),
        *(
            "parted",
            "log",
            "runfolder",
            "reporting",
            "presets",
            "hashed_random",
            "diagnosis",
            "list_files",
        ),
    },
    "aot": {
        *("training", "graph", "evaluation", "models", "negatives", "presets", "plan", "data"),
        *("plan_arrays", "rowwise"),
    },
    "cli": {
        "aot",
        "embedding",
        "plan",
        *("data", "graph", "evaluation", "log", "presets", "recommend", "exporting", "reporting"),
        *("compilation", "parted", "processes"),
        *("training", "runfolder", "list_files", "diagnosis"),
        *("catalogue", "guides", "rerank", "serving", "sweep"),
    },
}


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


@functools.cache
def statements(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """Return all import statements of a file, including those inside functions."""
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(path: Path) -> set[str]:
    """Return the dotted names of the modules that a file imports."""
    found = set()
    for node in statements(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{path}: relative import"
            if node.module == "jaxrec":
                found |= {f"jaxrec.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    return found


def test_rooms_import_only_what_they_may():
    faults = []
    for path in FILES:
        here, modules = room(path), imported(path)
        if here in ("__init__", "__main__"):
            continue
        ours = {m.split(".")[1] for m in modules if m.startswith("jaxrec.")}
        theirs = {m.split(".")[0] for m in modules}
        refused = ours - {here, "__version__"} - MAY[here] - EVERYONE
        refused |= theirs & ({"jraph"} if here != "graph" else set())
        refused |= theirs & ({"jax", "numpy"} if here in ("config", "errors") else set())
        faults += [f"{path.relative_to(ROOT)} imports {name}" for name in sorted(refused)]
    assert not faults


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


def test_importing_any_submodule_leaves_the_public_names_as_they_are():
    """A submodule with the name of a function would replace that function when imported."""
    program = (
        "import importlib, inspect, random, sys, jaxrec\n"
        "before = {name: getattr(jaxrec, name) for name in jaxrec.__all__}\n"
        "modules = sys.argv[2:]\n"
        "random.Random(int(sys.argv[1])).shuffle(modules)\n"
        "for module in modules:\n"
        "    importlib.import_module(module)\n"
        "changed = [n for n, value in before.items() if getattr(jaxrec, n) is not value]\n"
        "assert not changed, changed\n"
        "for name in ('train', 'resume', 'evaluate', 'report', 'doctor', 'export', 'embed'):\n"
        "    assert inspect.isfunction(before[name]) and inspect.getdoc(before[name])\n"
        "    parameters = inspect.signature(before[name]).parameters.values()\n"
        "    assert not any(p.kind is p.VAR_POSITIONAL for p in parameters), name\n"
    )
    modules = [
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if path.name != "__main__.py" and (room(path) != "serving" or find_spec("fastapi"))
    ]
    for seed in ("0", "1"):
        command = [sys.executable, "-c", program, seed, *modules]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_no_two_modules_import_each_other():
    """Imports inside functions count too, since they would only hide a cycle."""
    names = {
        ".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): p
        for p in FILES
    }

    def target(module: str) -> str | None:
        while module and module not in names:
            module = module.rpartition(".")[0]
        return module if module not in ("", "jaxrec") else None

    def needs(path: Path) -> set[str]:
        found = set()
        for node in statements(path):
            if isinstance(node, ast.ImportFrom):
                found |= {target(f"{node.module}.{alias.name}") for alias in node.names}
        return {name for name in found if name}

    graph = {name: needs(path) - {name} for name, path in names.items() if name != "jaxrec"}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())
