import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrec.errors import RunError
from jaxrec.training.checkpoint import Checkpoints, Damaged, read_manifest


def state(value: float) -> dict:
    params = {"table": jnp.full((6, 3), value), "scale": jnp.float32(value)}
    return {"params": params, "opt": optax.adam(0.1).init(params), "step": jnp.int32(value)}


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints", keep=2)
    yield made
    made.close()


def equal(a, b) -> bool:
    same = jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b)
    return jax.tree.all(same)


def test_what_is_saved_comes_back_to_the_bit_with_its_notes(checkpoints):
    checkpoints.save(7, state(1.5), {"phase": "search"})
    checkpoints.wait()
    last = checkpoints.last(print)
    assert last == (7, {"phase": "search"})
    assert equal(checkpoints.restore(7, state(0.0)), state(1.5))


def test_the_arrays_may_be_donated_as_soon_as_save_returns(checkpoints):
    current = state(2.0)
    bump = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    for step in range(4):
        checkpoints.save(step, current, {})
        current = bump(current)
    checkpoints.wait()
    assert equal(checkpoints.restore(3, state(0.0))["params"], state(5.0)["params"])


def test_the_best_and_the_last_n_stay(checkpoints):
    for step in range(6):
        checkpoints.save(step, state(step), {}, best=1 if step >= 1 else None)
    checkpoints.wait()
    assert checkpoints.steps() == [1, 4, 5]


def test_every_file_is_watched(checkpoints):
    checkpoints.save(1, state(1.0), {})
    checkpoints.save(2, state(2.0), {})
    checkpoints.wait()
    folder = checkpoints.folder / "2"
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert len(files) > 3
    for file in files:
        before = file.read_bytes()
        changes = [before + b"x"]
        if before:
            changes += [before[:-1], bytes([before[0] ^ 1]) + before[1:]]
        for content in changes:
            file.write_bytes(content)
            warned: list[str] = []
            last = checkpoints.last(warned.append)
            if file.name == "manifest.json" and content == before + b"x":
                assert last is None or last.step in (1, 2)
            else:
                assert last is not None
                assert last.step == 1, file
                assert str(file) in warned[0]
            with pytest.raises(Damaged) if last and last.step == 1 else _nothing():
                checkpoints.restore(2, state(0.0))
        file.unlink()
        assert checkpoints.last(print).step == 1
        file.write_bytes(before)
    assert checkpoints.last(print).step == 2


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def test_a_checkpoint_without_its_manifest_was_never_saved(checkpoints):
    checkpoints.save(1, state(1.0), {})
    checkpoints.save(2, state(2.0), {})
    checkpoints.wait()
    manifest = checkpoints.folder / "2" / "manifest.json"
    for content in ("[1]", "[" * 100_000, '{"sha256": ""}'):
        manifest.write_text(content)
        assert checkpoints.last(print).step == 1
    manifest.unlink()
    assert checkpoints.last(print).step == 1
    checkpoints.cut(1)
    assert checkpoints.steps() == [1]


def test_another_shape_is_refused_in_plain_words(checkpoints):
    checkpoints.save(1, state(1.0), {})
    checkpoints.wait()
    other = state(0.0)
    other["params"]["more"] = jnp.zeros(2)
    with pytest.raises(RunError, match="not a checkpoint of this configuration"):
        checkpoints.restore(1, other)


def test_a_save_that_fails_is_told_by_the_next_call_and_leaves_nothing(checkpoints, monkeypatch):
    checkpoints.save(1, state(1.0), {})
    checkpoints.wait()

    def full(folder: Path, meta: dict) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("jaxrec.training.checkpoint.write_manifest", full)
    checkpoints.save(2, state(2.0), {})
    with pytest.raises(RunError, match="No space left on device") as caught:
        checkpoints.wait()
    assert len(str(caught.value).splitlines()) == 2
    assert checkpoints.steps() == [1]
    assert read_manifest(checkpoints.folder / "1") == {}


def test_arrays_of_the_host_may_change_as_soon_as_save_returns(checkpoints):
    current = {"host": np.full((2**20, 4), 1.0, np.float32), "device": jnp.float32(1)}
    for step in range(3):
        checkpoints.save(step, current, {})
        current["host"] += 1
    checkpoints.wait()
    for where in (np.zeros((2**20, 4), np.float32), jnp.zeros((2**20, 4))):
        found = checkpoints.restore(2, {"host": where, "device": jnp.float32(0)})
        assert isinstance(found["host"], type(where))
        assert (np.asarray(found["host"]) == 3).all()
    assert isinstance(found["device"], jax.Array)


def test_what_a_user_keeps_beside_the_checkpoints_stays(checkpoints):
    checkpoints.save(3, state(1.0), {})
    checkpoints.wait()
    shutil.copytree(checkpoints.folder / "3", checkpoints.folder / "3-before-the-upgrade")
    for name in ("notes", "4", "5.orbax-checkpoint-tmp-1700000000"):
        (checkpoints.folder / name).mkdir()
        (checkpoints.folder / name / "file").write_text("text")
    checkpoints.cut(3)
    left = {path.name for path in checkpoints.folder.iterdir()}
    assert left == {"3", "3-before-the-upgrade", "notes"}
