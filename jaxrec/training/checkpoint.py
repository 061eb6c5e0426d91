"""Atomic Orbax checkpoints, with checksums and retention.

``RUN/checkpoints/<step>/`` is an Orbax checkpoint of the flattened TrainState. Once Orbax has
committed it, ``manifest.json`` is added. It holds the SHA-256 and size of every file, the run's
metadata, and its own SHA-256. Orbax does not notice flipped bits; therefore, a checkpoint that does
not match its manifest is skipped, and the checkpoint before it is used.
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
# Orbax puts this into the name of a folder that it is still writing.
_ORBAX_PARTIAL = ".orbax-checkpoint-tmp"
_FULL = 2**20  # bytes; if a write fails with less free space, the disk is taken to be full


class Damaged(Exception):
    """The error of a damaged checkpoint; its message names the file and the reason."""


class Sealed(NamedTuple):
    """A checkpoint with a manifest: its step and its metadata."""

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
    """Write the manifest of a committed checkpoint, which makes the checkpoint valid."""
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
    """Check every file of a checkpoint against the manifest, and return the run's metadata.

    Raises:
      Damaged: a file is missing, truncated or changed; the message names the file.
    """
    path = folder / MANIFEST
    try:
        body = parse_json(path.read_text(encoding="utf-8"))
        claimed = body.pop("sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as e:
        raise Damaged(f"{path} is missing or unreadable: the save did not finish") from e
    if claimed != _self_digest(body):
        raise Damaged(f"{path} does not match its own checksum")
    for name, facts in body["files"].items():
        file = folder / name
        if not file.is_file():
            raise Damaged(f"{file} is missing")
        if file.stat().st_size != facts["bytes"]:
            raise Damaged(f"{file} has {file.stat().st_size} bytes, not {facts['bytes']}")
        if _sha256(file) != facts["sha256"]:
            raise Damaged(f"{file} does not match its checksum")
    return body["meta"]


def _flatten(state: Any) -> dict[str, Any]:
    """Return a state's leaves by path: {"params/embedding/value": array, ...}."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: RUN/checkpoints; created with the first checkpoint.
      keep: number of latest checkpoints to keep, besides the best.
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
        """Return the steps that have a folder, with or without a manifest, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit())

    def save(self, step: int, state: Any, meta: dict[str, Any], best: int | None = None) -> None:
        """Start to write the state, and return once its arrays may be donated.

        Args:
          meta: JSON metadata, which :meth:`last` and :meth:`meta` return.
          best: step of the best checkpoint so far, which is never deleted.

        Raises:
          RunError: this save or the one before it failed, for instance on a full disk.
        """
        self.wait()
        self.best = best
        path = self.folder / str(step)
        try:
            # Orbax copies the state to host memory before it returns, so the next dispatch may
            # donate it.
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
        """Wait until the current save has its manifest. Raises RunError if the save failed."""
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
            "Earlier checkpoints are intact: free some space, then "
            f"`jaxrec resume {self.folder.parent}`"
        ) from error

    def _drop_partial(self) -> None:
        """Remove the folders of unfinished saves, but no other folders, such as a user's copies."""
        if not processes.first() or not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            unsealed = path.name.isdigit() and not (path / MANIFEST).is_file()
            if unsealed or _ORBAX_PARTIAL in path.name:
                shutil.rmtree(path, ignore_errors=True)

    def last(self, warn: Callable[[str], None]) -> Sealed | None:
        """Return the last intact checkpoint; None if no checkpoint is intact.

        Args:
          warn: called with a message for each damaged checkpoint, which is skipped.
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
        """Read the metadata of a checkpoint without checking its files.

        Raises:
          Damaged: the manifest is missing or unreadable.
        """
        path = self.folder / str(step) / MANIFEST
        try:
            return parse_json(path.read_text(encoding="utf-8"))["meta"]
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise Damaged(f"{path} is missing or unreadable: the save did not finish") from e

    def restore(self, step: int, like: Any) -> Any:
        """Restore the state of a checkpoint.

        Args:
          like: a tree of the same structure, with arrays or ``jax.ShapeDtypeStruct``s as leaves.
            Each leaf gives the shape, dtype and sharding of an array to restore. A leaf without a
            sharding is restored to a NumPy array in host memory. See :func:`placed_at`.

        Raises:
          Damaged: a file is missing or changed.
          RunError: the checkpoint is intact, but its structure differs.
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
                f"{path}: is not a checkpoint of this configuration ({str(e).splitlines()[0]})"
            ) from e
        return jax.tree.unflatten(jax.tree.structure(like), [flat[n] for n in wanted])

    def cut(self, step: int) -> None:
        """Delete all checkpoints after ``step`` (-1: all checkpoints), and all unfinished saves."""
        for later in self.steps() if processes.first() else ():
            if later > step:
                shutil.rmtree(self.folder / str(later), ignore_errors=True)
        self._drop_partial()
        processes.barrier("cut")

    def close(self) -> None:
        """Wait for the current save and stop the thread. Raises RunError if the save failed."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._orbax.close()


def placed_at(sharding: Any, shape: Any) -> Any:
    """Return a ``jax.ShapeDtypeStruct`` for each leaf of a tree, all with the given sharding.

    A sharding of None stands for host memory.
    """
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shape
    )


def release(state: Any, but: Any = None) -> None:
    """Free a state's arrays on the devices, even if they are still referenced.

    Args:
      but: a tree of arrays that are not freed.
    """
    kept = {id(leaf) for leaf in jax.tree.leaves(but)}
    for leaf in jax.tree.leaves(state):
        if isinstance(leaf, jax.Array) and id(leaf) not in kept and not leaf.is_deleted():
            leaf.delete()


def _as_host(leaf: Any) -> Any:
    """Return a NumPy view of an array on one CPU device, and any other leaf unchanged.

    Orbax copies NumPy arrays, but keeps views of JAX arrays, and XLA does not donate an array with
    views.
    """
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
    """Return Orbax's type handlers, set so that one device saves the whole of a replicated array.

    By default, every device saves a piece, which Orbax first copies on that device.
    """
    arrays = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    numpys = ocp.type_handlers.NumpyHandler()
    return ocp.type_handlers.create_type_handler_registry((jax.Array, arrays), (np.ndarray, numpys))
