"""Orbax checkpoints that are whole or not there: checksums, order and retention are our own.

``RUN/checkpoints/<step>/`` is an Orbax checkpoint of the flattened TrainState. When Orbax has
committed it, ``manifest.json`` is added inside: the SHA-256 and size of every file, what the run
needs to know besides arrays, and a SHA-256 of itself. A folder without a manifest that fits is
no checkpoint (Orbax restores a flipped bit silently), and the one before it is used.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxrec import processes
from jaxrec.errors import RunError
from jaxrec.files import parse_json

MANIFEST = "manifest.json"
_ORBAX_PARTIAL = ".orbax-checkpoint-tmp"  # in the names of folders that Orbax still writes
_FULL = 2**20  # bytes free under which a failed write needs no other reason


class Damaged(Exception):
    """A checkpoint that must not be used; says which file and why."""


class Sealed(NamedTuple):
    """A whole checkpoint: its step and the run's own notes."""

    step: int
    meta: dict[str, Any]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _self_digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)


def write_manifest(folder: Path, meta: dict[str, Any]) -> None:
    """Seal a committed checkpoint: after this, and only after it, it counts."""
    files = {
        str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": _sha256(p)}
        for p in _files(folder)
    }
    body = {"meta": meta, "files": files}
    partial = folder / f".{MANIFEST}.partial"
    with partial.open("w", encoding="utf-8") as file:
        json.dump(body | {"sha256": _self_digest(body)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The ``meta`` of a sealed checkpoint, every file of it checked.

    Raises:
      Damaged: naming the first file that is missing, cut or changed.
    """
    path = folder / MANIFEST
    try:
        body = parse_json(path.read_text(encoding="utf-8"))
        claimed = body.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
        raise Damaged(f"{path} is missing or unreadable: the save never ended") from e
    if claimed != _self_digest(body):
        raise Damaged(f"{path} does not fit its own checksum")
    for name, facts in body["files"].items():
        file = folder / name
        if not file.is_file():
            raise Damaged(f"{file} is missing")
        if file.stat().st_size != facts["bytes"]:
            raise Damaged(f"{file} has {file.stat().st_size} bytes, not {facts['bytes']}")
        if _sha256(file) != facts["sha256"]:
            raise Damaged(f"{file} does not fit its checksum")
    return body["meta"]


def _flatten(state: Any) -> dict[str, Any]:
    """Leaves by path: {"params/embedding/value": array, ...}."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: RUN/checkpoints; made when the first checkpoint is written.
      keep: how many of the last ones stay, besides the best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder.absolute()
        self.keep = keep
        self.best: int | None = None
        self._orbax = ocp.AsyncCheckpointer(
            ocp.PyTreeCheckpointHandler(type_handler_registry=_registry())
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._sealing: Future[None] | None = None

    def steps(self) -> list[int]:
        """Steps that have a folder, sealed or not, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit())

    def save(self, step: int, state: Any, meta: dict[str, Any], best: int | None = None) -> None:
        """Begin to write the state; returns when the arrays may be donated again.

        Args:
          meta: JSON-ready notes that :meth:`restore` gives back.
          best: step of the best checkpoint so far, which retention spares from now on.

        Raises:
          RunError: an earlier save failed (a full disk, a folder that went away).
        """
        self.wait()
        self.best = best
        path = self.folder / str(step)
        try:
            # Orbax copies all of it to the host's memory before it returns, so that the next
            # dispatch may donate the state; nothing is copied on the device.
            on_host = {name: _as_host(leaf) for name, leaf in _flatten(state).items()}
            self._orbax.save(path, args=ocp.args.PyTreeSave(on_host), force=True)
        except (OSError, ValueError) as e:
            self._fail(path, e)
        self._sealing = self._thread.submit(self._seal, path, meta)

    def _seal(self, path: Path, meta: dict[str, Any]) -> None:
        self._orbax.wait_until_finished()
        if not processes.first():
            return
        write_manifest(path, meta)
        sealed = [s for s in self.steps() if (self.folder / str(s) / MANIFEST).is_file()]
        for step in sealed[: -self.keep]:
            if step != self.best:
                shutil.rmtree(self.folder / str(step), ignore_errors=True)

    def wait(self) -> None:
        """Until the save under way is sealed. Raises RunError if it failed."""
        if self._sealing is None:
            return
        sealing, self._sealing = self._sealing, None
        error = sealing.exception()
        if error is not None:
            self._fail(self.folder, error)

    def _fail(self, path: Path, error: BaseException) -> None:
        self._drop_partial()
        lines = str(error).strip().splitlines()
        reason = getattr(error, "strerror", None) or (lines[0][:120] if lines else repr(error))
        if self.folder.is_dir() and shutil.disk_usage(self.folder).free < _FULL:
            reason = "the disk is full"
        raise RunError(
            f"{path}: the checkpoint could not be written ({reason}).\n"
            f"Earlier checkpoints are intact: make room, then `jaxrec resume {self.folder.parent}`"
        ) from error

    def _drop_partial(self) -> None:
        """Remove what saves that never ended left behind; copies that a user made here stay."""
        if not processes.first() or not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            unsealed = path.name.isdigit() and not (path / MANIFEST).is_file()
            if unsealed or _ORBAX_PARTIAL in path.name:
                shutil.rmtree(path, ignore_errors=True)

    def last(self, warn: Callable[[str], None]) -> Sealed | None:
        """The last checkpoint whose every file fits its checksum; None where none is left.

        Args:
          warn: told of each damaged checkpoint, by name, that was passed over.
        """
        found = self._last(warn) if processes.first() else None
        step = processes.from_first(-1 if found is None else found.step)
        return found if processes.first() or step < 0 else Sealed(step, self.meta(step))

    def _last(self, warn: Callable[[str], None]) -> Sealed | None:
        for step in self.steps()[::-1]:
            try:
                return Sealed(step, read_manifest(self.folder / str(step)))
            except Damaged as e:
                warn(f"checkpoint {step} is skipped: {e}")
        return None

    def meta(self, step: int) -> dict[str, Any]:
        """The notes of a checkpoint; its files are not checked. Raises Damaged."""
        path = self.folder / str(step) / MANIFEST
        try:
            return parse_json(path.read_text(encoding="utf-8"))["meta"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise Damaged(f"{path} is missing or unreadable: the save never ended") from e

    def restore(self, step: int, like: Any) -> Any:
        """The state of a checkpoint.

        Args:
          like: has its structure. A leaf is an array, or a ``jax.ShapeDtypeStruct``, and gives the
            shape, the type and the place: its sharding; without one the host's memory, in NumPy.
            No array of it is read, so none needs to be there: see :func:`placed_at`.

        Raises:
          Damaged: a file is missing or changed.
          RunError: it is whole, but not a checkpoint of such a state.
        """
        path, wanted = self.folder / str(step), _flatten(like)
        read_manifest(path)
        how = {name: _restore_args(leaf) for name, leaf in wanted.items()}
        shapes = {n: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for n, leaf in wanted.items()}
        try:
            args = ocp.args.PyTreeRestore(shapes, how)
            flat = self._orbax.restore(path, args=args)
            for name, leaf in wanted.items():
                if flat[name].shape != leaf.shape:
                    raise ValueError(f"{name} has the shape {flat[name].shape}, not {leaf.shape}")
        except (ValueError, OSError, KeyError, TypeError) as e:
            raise RunError(
                f"{path}: is no checkpoint of this configuration ({str(e).splitlines()[0]})"
            ) from e
        return jax.tree.unflatten(jax.tree.structure(like), [flat[n] for n in wanted])

    def cut(self, step: int) -> None:
        """Forget what lies after ``step`` (-1: everything) and what was never sealed."""
        for later in self.steps() if processes.first() else ():
            if later > step:
                shutil.rmtree(self.folder / str(later), ignore_errors=True)
        self._drop_partial()
        processes.barrier("cut")

    def close(self) -> None:
        """Wait for the save under way and stop the thread. Raises RunError if it failed."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._orbax.close()


def placed_at(sharding: Any, shape: Any) -> Any:
    """The shapes and types of a tree's leaves, to be restored to one place: a sharding, or None,
    the host's memory."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shape
    )


def release(state: Any, but: Any = None) -> None:
    """Free the arrays of a state on the devices, whoever still names them.

    Args:
      but: a tree of arrays that stay, though they may be among them.
    """
    kept = {id(leaf) for leaf in jax.tree.leaves(but)}
    for leaf in jax.tree.leaves(state):
        if isinstance(leaf, jax.Array) and id(leaf) not in kept and not leaf.is_deleted():
            leaf.delete()


def _as_host(leaf: Any) -> Any:
    """The leaf; where a CPU has it, a view in NumPy, which Orbax copies: of an array it would keep
    a view of its own, and XLA does not donate what is viewed."""
    if not isinstance(leaf, jax.Array) or leaf.sharding.num_devices > 1:
        return leaf
    (device,) = leaf.devices()
    return np.from_dlpack(jax.block_until_ready(leaf)) if device.platform == "cpu" else leaf


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        return ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
    shape = tuple(leaf.shape)
    return ocp.ArrayRestoreArgs(sharding=sharding, global_shape=shape, dtype=leaf.dtype)


def _registry() -> Any:
    """What saves arrays. Of an array that several devices have, one saves the whole: to share the
    work, Orbax would make copies of the shares on the devices."""
    arrays = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    numpys = ocp.type_handlers.NumpyHandler()
    return ocp.type_handlers.create_type_handler_registry((jax.Array, arrays), (np.ndarray, numpys))
