"""Test the cache of compiled programs in real processes with separate cache folders."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import pytest

from jaxrec import compilation

OPTIONS = [
    *("--model.dim", "8", "--train.epochs", "1", "--eval.k", "20", "--train.batch-size", "64"),
    *("--negatives.count", "16"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    from jaxrec.data import synthetic

    folder = tmp_path_factory.mktemp("data") / "prepared"
    synthetic.make(80, 60, 1000, seed=1).save(folder)
    return folder


def train(data: Path, run: Path, home: Path, **more: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_"))}
    env |= {"XDG_CACHE_HOME": str(home), "JAX_PLATFORMS": "cpu", **more}
    env["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # to halve the time to compile
    command = [sys.executable, "-m", "jaxrec", "train", "mf", *OPTIONS]
    command += ["--data", data, "--run", run]
    return subprocess.run(map(str, command), capture_output=True, text=True, env=env, timeout=300)


def entries(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.glob("jaxrec/xla/*/*-cache")}


@pytest.mark.long
def test_a_second_run_compiles_nothing_and_a_broken_entry_is_replaced(
    data, tmp_path, record_property
):
    home = tmp_path / "home"
    first = train(data, tmp_path / "first", home)
    assert first.returncode == 0, first.stderr
    before = entries(home)
    assert before
    assert train(data, tmp_path / "second", home).returncode == 0
    assert entries(home) == before

    folder = next(home.glob("jaxrec/xla/*"))
    names = sorted(before, key=lambda name: len(before[name]))
    largest, other = names[-1], names[0]
    (folder / largest).write_bytes(before[largest][: len(before[largest]) // 2])
    (folder / other).write_bytes(b"")
    third = train(data, tmp_path / "third", home)
    assert third.returncode == 0
    assert "cache" not in third.stderr
    after = entries(home)
    assert set(after) == set(before)
    assert all(compilation._is_whole(content) for content in after.values())
    record_property("happened", "half an entry and an empty one: found, replaced, the same bits")
    for name in ("metrics.jsonl", "eval.json"):
        texts = {(tmp_path / run / name).read_bytes() for run in ("first", "second", "third")}
        assert len(texts) == 1


@pytest.mark.long
def test_jaxs_own_settings_and_folders_without_permission_leave_the_cache_alone(data, tmp_path):
    home = tmp_path / "home"
    off = train(data, tmp_path / "off", home, JAX_ENABLE_COMPILATION_CACHE="false")
    assert off.returncode == 0
    assert not (home / "jaxrec").exists()
    (tmp_path / "file").write_text("no folder")
    nowhere = train(data, tmp_path / "nowhere", tmp_path / "file")
    assert nowhere.returncode == 0, nowhere.stderr


def test_repair_reads_an_entry_once_and_removes_what_is_not_whole(tmp_path, monkeypatch):
    whole = zlib.compress(os.urandom(3000))
    contents = {"a": whole, "b": whole[:-5], "c": b"", "d": b"\x28\xb5\x2f\xfd rubbish", "e": b"x"}
    for name, content in contents.items():
        (tmp_path / f"{name}-cache").write_bytes(content)
    (tmp_path / "other").write_bytes(b"not ours")
    (tmp_path / "checked.json").write_text("{ half")
    assert sorted(compilation.repair(tmp_path)) == ["b-cache", "c-cache", "d-cache", "e-cache"]
    assert {p.name for p in tmp_path.iterdir()} == {"a-cache", "other", "checked.json"}
    assert set(json.loads((tmp_path / "checked.json").read_text())) == {"a-cache"}
    monkeypatch.setattr(compilation, "_is_whole", lambda entry: pytest.fail("read twice"))
    assert compilation.repair(tmp_path) == []


def test_the_oldest_entries_go_where_there_are_too_many(tmp_path, monkeypatch):
    for i in range(4):
        path = tmp_path / f"{i}-cache"
        path.write_bytes(zlib.compress(os.urandom(1000)))
        os.utime(path, (i, i))
    monkeypatch.setattr(compilation, "_MOST_BYTES", 2500)
    compilation.repair(tmp_path)
    assert {p.name for p in tmp_path.glob("*-cache")} == {"2-cache", "3-cache"}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Set JAX's cache options to their defaults, in a separate home, and restore them later."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    jax.config.update(names[0], None)
    jax.config.update(names[1], 1.0)
    compilation.use_cache.cache_clear()
    yield jax.config
    compilation.use_cache.cache_clear()
    for name, value in before.items():
        jax.config.update(name, value)


def filled(folder: Path) -> dict[str, bytes]:
    """Put one valid and one broken entry into a folder, and return the contents."""
    folder.mkdir(parents=True)
    (folder / "whole-cache").write_bytes(zlib.compress(os.urandom(3000)))
    (folder / "broken-cache").write_bytes(b"\x28\xb5\x2f\xfd rubbish")
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("start", ["", "file://"])
def test_a_folder_of_the_users_is_neither_repaired_nor_trimmed(
    start, settings, tmp_path, monkeypatch
):
    monkeypatch.setattr(compilation, "_MOST_BYTES", 10)
    theirs = filled(tmp_path / "theirs")
    settings.update("jax_compilation_cache_dir", f"{start}{tmp_path / 'theirs'}")
    compilation.use_cache()
    assert contents(tmp_path / "theirs") == theirs
    assert settings.jax_compilation_cache_dir == f"{start}{tmp_path / 'theirs'}"
    assert settings.jax_persistent_cache_min_compile_time_secs == 1.0
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("seconds", [None, "7"])
def test_the_folder_of_our_own_is_repaired_and_used(seconds, settings, monkeypatch):
    if seconds is not None:
        monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", seconds)
        settings.update("jax_persistent_cache_min_compile_time_secs", float(seconds))
    ours = compilation.default_folder()
    filled(ours)
    compilation.use_cache()
    assert settings.jax_compilation_cache_dir == str(ours)
    assert settings.jax_persistent_cache_min_compile_time_secs == float(seconds or 0)
    assert set(contents(ours)) == {"whole-cache", "checked.json"}
