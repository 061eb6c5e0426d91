"""Test which Pythons continuous integration runs, and which tests it and the benchmarks run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import starts

from bench.reliability import FAULTS, TESTS

PYTHONS = Path(__file__).parents[1] / ".ci" / "pythons"

pytestmark = pytest.mark.skipif(not PYTHONS.is_file(), reason="not a checkout of the repository")


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Return a function that fills PATH with stand-ins that only print a version of Python.

    A version of None makes a shim without a Python behind it.
    """

    def make(**versions: str | None) -> None:
        bins = tmp_path / "bin"
        bins.mkdir()
        for tool in ("bash", "env"):
            found = shutil.which(tool)
            assert found is not None
            (bins / tool).symlink_to(found)
        for name, version in versions.items():
            program = bins / name.replace("_", ".")
            says = "exit 127" if version is None else f"echo {version}"
            program.write_text(f"#!/bin/sh\n{says}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(bins))

    monkeypatch.delenv("CI_PYTHONS", raising=False)
    return make


def chosen() -> tuple[list[str], list[str]]:
    """Return the additional Pythons that are tested, and the lines on stderr."""
    done = subprocess.run([PYTHONS], capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr.splitlines()


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ({"python3": "3.11", "python3_12": "3.12", "python3_13": "3.13"}, ["python3.13"]),
        ({"python3": "3.11", "python3_12": "3.12", "python3_13": None}, ["python3.12"]),
        ({"python3": "3.13", "python3_12": "3.12", "python3_13": "3.13"}, []),
        ({"python3": "3.11", "python3_12": None, "python3_13": None}, []),
        ({"python3": "3.11"}, []),
    ],
)
def test_the_newest_other_python_that_starts_is_tested(path, versions, found):
    path(**versions)
    assert chosen()[0] == found
    assert len(chosen()[1]) == (not found)


def test_named_pythons_are_tested_instead(path, monkeypatch):
    path(python3="3.11", python3_13="3.13", mine="3.12", same="3.11", shim=None)
    monkeypatch.setenv("CI_PYTHONS", "shim same mine python3.13 nowhere")
    assert chosen() == (["mine", "python3.13"], [])
    monkeypatch.setenv("CI_PYTHONS", "shim nowhere")
    names, (line,) = chosen()
    assert names == []
    assert "shim nowhere" in line


@pytest.mark.parametrize("name", [name for names in FAULTS.values() for name in names])
def test_the_tests_that_the_benchmark_of_faults_runs_are_there(name):
    file, _, begins = name.partition("::")
    assert f"def {begins}" in (TESTS / file).read_text()


def _direct():
    subprocess.run(["true"])


def _by_another():
    return [_direct() for _ in range(2)]


def _with_none():
    return [len(os.pathsep) for _ in range(2)]


def test_what_starts_processes_is_found_by_what_its_code_names():
    assert starts.may_start(_direct)
    assert starts.may_start(_by_another)
    assert starts.may_start(lambda: _by_another())
    assert starts.may_start(("a parameter", _by_another))
    assert not starts.may_start(_with_none)


@pytest.fixture
def starting():
    return _by_another


def test_tests_are_marked_by_what_their_fixtures_name(request, starting):
    assert request.node.get_closest_marker("processes") is not None


def test_other_tests_are_not_marked(request, tmp_path):
    assert request.node.get_closest_marker("processes") is None
