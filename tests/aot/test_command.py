"""Test ``jaxrec plan --compile`` with a stand-in for the compilers."""

import json
import sys
import types
from importlib.util import find_spec

import pytest

from jaxrec import config as configs
from jaxrec import presets
from jaxrec.aot import hidden_plugins, parent
from jaxrec.aot.targets import target
from jaxrec.cli.plan import plan
from jaxrec.errors import InputError

READING = {
    "kernels": 74,
    "usual_kernels": 60,
    "n_bytes": 24 * 10**9,
    "fast": 0,
    "loops": 3,
    "open_loops": 1,
    "atomics": 0,
    "transfers": 0,
    "float64": False,
    "rows": 10**6,
    "collectives": {"all-gather": 3 * 10**9},
}


@pytest.fixture
def asked(monkeypatch):
    """Replace the compilers, and return a dict of the arguments that they get.

    They report READING as analysis, and the dict's value "says" as memory.
    """
    found = {"says": 61 * 10**9}

    def compile_for(to, config, **how):
        found.update(how, target=to.name, config=config)
        one = {"target": to.name, "seconds": 21.0, "reading": READING, "memory": found["says"]}
        one |= {"alias": 9, "state": 9, "planned": {"all": 60 * 10**9}, "sizes": [20, 10, 50]}
        return [one | {"program": name} for name in how["programs"]]

    monkeypatch.setattr(parent, "compile_for", compile_for)
    return found


def test_what_comes_out_is_said(asked, capsys):
    sizes = ("--users", "20M", "--items", "2M", "--edges", "1B")
    plan(["--compile", "2x8xH200", "lightgcn", *sizes, "--model.dim", "128"])
    out, err = capsys.readouterr()
    assert asked["sizes"] == (20 * 10**6, 2 * 10**6, 10**9)
    assert asked["config"]["model"]["dim"] == 128
    assert asked["config"]["mesh"]["table"] == 16
    assert "mesh.table is set to 16" in err
    for words in ("compiles for 16xH200 in 21 s", "61 GB of 141 GB", "plan: 60 GB", "5 ms"):
        assert words in out
    assert "60 kernels (at most 74); 3 inner loops, 1 with" in out
    assert "all-gather 3 GB" in out


def test_json(asked, capsys):
    asked["says"] = 10**9
    plan(["--compile=v5e", "mf", "--json", "--programs", "step", "rank", "--seed", "3"])
    plan(["--compile=v5e", "mf", "--json"])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert [one["program"] for one in first["programs"]] == ["step", "rank"]
    assert second["smallest"] is None
    assert second["programs"][0]["fits"]


def test_what_does_not_fit_is_refused_with_the_smallest_target_that_would(asked, capsys):
    asked["says"] = 1000 * 10**9
    with pytest.raises(InputError, match=r"fit H200: it needs 1 TB .* 8xH200 would fit if"):
        plan(["--compile", "h200", "mf"])
    assert "709" in capsys.readouterr().out
    asked["says"] = 10**18
    with pytest.raises(InputError, match="no number of v5e up to 256 would fit"):
        plan(["--compile", "v5e", "mf"])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["h20"], "did you mean 'H200'"),
        (
            ["h200", "mf", "--users", "5"],
            "--users, --items and --edges must be given together; add --items",
        ),
        (["h200", "mf", "--users", "5", "--items", "5", "--edges", "x"], "such as 100M"),
        (["8xh200", "ngcf"], "trains on one device, not on a mesh"),
        (["8xh200", "mf", "--mesh.table", "2"], "does not match the 8 devices"),
        (["h200", "mf", "--modl.dim", "5"], "--model.dim"),
        (["h200", "mf", "--keep"], "--keep needs a value"),
    ],
)
def test_mistakes_are_told_before_anything_is_compiled(asked, args, words):
    with pytest.raises(InputError) as caught:
        plan(["--compile", *args])
    assert words in str(caught.value)
    assert "target" not in asked


def test_help_names_the_targets(capsys):
    plan(["--compile", "help"])
    assert "v5e-16" in capsys.readouterr().out


@pytest.mark.parametrize("preset", ["filter", "auto"])
def test_a_preset_without_a_training_step_is_refused_by_name(monkeypatch, preset):
    monkeypatch.setattr(parent, "installed", lambda vendor: True)
    with pytest.raises(InputError, match=f"'{preset}' has no training step"):
        parent.compile_for(target("h200"), configs.to_dict(presets.get(preset)))


def test_a_plugin_that_is_hidden_from_jax_still_counts_as_installed(monkeypatch):
    plugin, library = "jax_plugins.xla_cuda12", "jax_cuda12_plugin"
    monkeypatch.setattr(hidden_plugins, "gpu_here", lambda: False)
    monkeypatch.setattr(hidden_plugins, "find_spec", lambda name: name == library)
    for name in ("jax", plugin, library):
        monkeypatch.setitem(sys.modules, name, None)  # so that they are restored
    del sys.modules["jax"]
    hidden_plugins.leave_out()
    monkeypatch.setitem(sys.modules, "jax_plugins", types.ModuleType("jax_plugins"))
    assert parent.installed("cuda")


@pytest.mark.skipif(find_spec("jax_plugins") is not None, reason="the extra is installed here")
def test_without_the_extra_the_command_says_how_to_install_it():
    with pytest.raises(InputError, match=r"jaxrec\[compile\]"):
        parent.compile_for(target("h200"), {})


def test_the_child_has_an_environment_of_its_own(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    made = parent.environment(4)
    assert "XLA_FLAGS" not in made
    assert made["JAX_PLATFORMS"] == "cpu"
    assert made["JAX_NUM_CPU_DEVICES"] == "4"
