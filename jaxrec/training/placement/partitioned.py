"""Training on a data set partitioned on disk; each process reads the parts of its own devices."""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxrec import processes
from jaxrec.config import Config, FilterConfig, SplitConfig
from jaxrec.data.dataset import Dataset, ItemsByUser
from jaxrec.data.split import Splits
from jaxrec.errors import InputError
from jaxrec.evaluation.cold import View
from jaxrec.evaluation.ranking import Evaluator
from jaxrec.evaluation.sharded_ranking import PartEvaluator
from jaxrec.evaluation.topk import sample
from jaxrec.files import write_npz_by_block
from jaxrec.graph import buckets
from jaxrec.graph.buckets import Buckets
from jaxrec.graph.csr import DeviceCsr
from jaxrec.graph.halo import DATA, TABLE, Stack, make_mesh
from jaxrec.graph.partition import Partition, Shard, graph_of
from jaxrec.parted.layout import SPLITS, part_folder
from jaxrec.parted.stored import Parted, PartRows, refuse_other_parts
from jaxrec.rowwise import RowOptimizer
from jaxrec.runfolder import check_data
from jaxrec.training.batch import Batch, Pairs
from jaxrec.training.device_data import popularity
from jaxrec.training.placement.mesh import MeshProblem, kernel_of
from jaxrec.training.placement.mesh_data import MeshData, Sizes
from jaxrec.training.pre_run_checks import check_limits
from jaxrec.training.problem import TRAIN_USERS, keys
from jaxrec.training.schedule import Cadence
from jaxrec.training.task import UserTask, needs_pairs

_USERS_AT_ONCE = 1 << 16


def own_parts(mesh: Mesh) -> tuple[int, ...]:
    """Return the numbers of the table's parts that devices of this process hold."""
    here = jax.process_index()
    columns = enumerate(np.moveaxis(mesh.devices, mesh.axis_names.index(TABLE), 0))
    return tuple(t for t, devices in columns if any(x.process_index == here for x in devices.flat))


def counted_parts(mesh: Mesh) -> tuple[int, ...]:
    """Return the numbers of the parts that this process counts in sums over all processes.

    Each part is counted once: if several processes hold a part, by the first along ``data``.
    """
    here, first = jax.process_index(), np.take(mesh.devices, 0, mesh.axis_names.index(DATA))
    return tuple(t for t, device in enumerate(first.flat) if device.process_index == here)


@dataclass(frozen=True, kw_only=True)
class PartedProblem(MeshProblem):
    """One phase of a run on a mesh, from a data set that is partitioned on disk."""

    parted: Parted

    @classmethod
    def of(
        cls,
        config: Config,
        parted: Parted,
        total: int | None,
        tx: optax.GradientTransformation | RowOptimizer | None,
    ) -> "PartedProblem":
        """Build the problem: put the stored parts of this process's devices on the mesh.

        Raises:
          InputError: a part is missing or damaged; also as in :meth:`MeshProblem.on`.
        """
        train, phase = parted.of("train"), "search"
        cadence = Cadence.checked(config, train, total)
        arrays = parted.device_arrays
        send = tuple(arrays[f"send_{n}"] for n in range(len(arrays)) if f"send_{n}" in arrays)
        graph = graph_of(arrays)
        if kernel_of(config) == "buckets":
            graph = graph._replace(buckets=_buckets(parted))
        named: dict[str, Any] = {
            f"{name}_E": arrays.get(f"pairs_{name}") for name in ("user", "item", "weight")
        }
        pairs = Pairs(**named, indptr=arrays["pairs_indptr"], active=arrays["pairs_active"])  # type: ignore[arg-type]
        known: Any = DeviceCsr(arrays["known_indptr"], arrays["known_items"])  # type: ignore[arg-type]
        users: Any = arrays["known_users"]
        partition = Partition(parted.layout, Shard(graph, send), parted.exchange, parted.traffic)
        place_N: Any = partition.layout.place_N
        key, popular = keys(config, phase)[1], popularity(config, train)
        data = MeshData(partition.shard, pairs, known, users, key, place_N, popular)
        sizes = Sizes(train.n_edges, train.n_users + 1, int((train.user_counts() > 0).sum()))
        more: dict[str, Any] = {"order": "data", "order_N": None, "partition_seconds": 0.0}
        more["parted"] = parted
        mesh = make_mesh(config.mesh)
        splits = splits_of(parted)
        return cls.on(mesh, config, splits, partition, data, sizes, cadence, phase, tx, **more)

    def part(self, split: str) -> tuple[ItemsByUser, ItemsByUser]:
        """Return the relevant and the masked items of a split, from this process's parts only."""
        relevant, seen = self.parted.rows(split), SPLITS[: SPLITS.index(split)]
        if split == "train":
            users = sample(relevant.degree, TRAIN_USERS, self.config.seed)
            relevant = relevant.of_users(users)
        return relevant, self.parted.rows(*(() if self.config.eval.repeatable else seen))

    def _without(self, view: View) -> View:
        return view.without(self._met, counted_parts(self.mesh), processes.total)

    def _ranking(self, view: View, seen: ItemsByUser) -> Evaluator:
        relevant = view.relevant
        assert isinstance(relevant, PartRows)
        assert isinstance(seen, PartRows)
        return PartEvaluator(
            self.mesh,
            self.partition.layout,
            relevant,
            seen,
            self.config.eval.k,
            self.stepper.n_items,
            agree=processes.greatest,
            allowed=view.allowed,
            block=self.config.eval.block,
        )

    @cached_property
    def count_known(self) -> Any:
        """The function that counts a batch's negatives, as :attr:`Problem.count_known` does.

        Each process counts known items in its own parts, and the counts are summed over processes.
        """
        counted = counted_parts(self.mesh)
        liked = [self.parted.rows(split, parts=counted) for split in SPLITS[:2]]

        def count(batch: Batch) -> np.ndarray:
            against = jax.tree.map(jnp.asarray, batch).negatives()
            neg_BN, used_BN = (np.asarray(x) for x in against)
            row_B1 = np.arange(len(neg_BN))[:, None] * self.stepper.n_items
            counts = [
                int((np.isin(row_B1 + neg_BN, _keys(rows, batch, row_B1)) & used_BN).sum())
                for rows in liked
            ]
            counts = processes.total(np.array(counts, np.int32))
            return np.append(counts, used_BN.sum(dtype=np.int32))

        return count

    def write_seen(self, run: Path, dataset: Dataset | Parted) -> None:
        """Write RUN/seen.npz from the files of all parts, one block of users at a time.

        If there are several processes, each process first copies the files of its parts into the
        run folder; the copies are removed afterwards.
        """
        parted, beside = self.parted, run / ".seen"
        if processes.several():
            names = [f"{split}_{name}.npy" for split in SPLITS for name in ("indptr", "items")]
            for part in counted_parts(self.mesh):
                folder = part_folder(part)
                (beside / folder).mkdir(parents=True, exist_ok=True)
                for name in names:
                    shutil.copyfile(parted.folder / folder / name, beside / folder / name)
            processes.barrier("seen")
        if processes.first():
            where = beside if processes.several() else None
            every = replace(parted, own=tuple(range(parted.n_parts)), parts_in=where)
            pieces: dict[str, tuple[int, Iterable[np.ndarray], str]] = {}
            for prefix, splits in (("", SPLITS[:2]), ("test_", SPLITS[2:])):
                rows = every.rows(*splits)
                indptr = np.append(0, np.cumsum(rows.degree))
                pieces[f"{prefix}indptr"] = len(indptr), [indptr], "int32"
                pieces[f"{prefix}indices"] = int(indptr[-1]), _items(rows), "int32"
            for name, has in zip(("learnt_user", "learnt_item"), self.learnt(), strict=True):
                pieces[name] = len(has), [has], "bool"
            write_npz_by_block(run / "seen.npz", pieces)
            shutil.rmtree(beside, ignore_errors=True)


def _keys(rows: PartRows, batch: Batch, row_B1: np.ndarray) -> np.ndarray:
    """Return the items of a batch's users, encoded as (position in batch) · n_items + item."""
    of_batch = rows.take(np.asarray(batch.positives.user_B))
    return np.repeat(row_B1[:, 0], of_batch.degree) + of_batch.indices


def _items(rows: PartRows) -> Iterator[np.ndarray]:
    """Yield the items of all users in the users' order, one block of users at a time."""
    n_users = len(rows.degree)
    for first in range(0, n_users, _USERS_AT_ONCE):
        yield rows.take(np.arange(first, min(first + _USERS_AT_ONCE, n_users))).indices


def _buckets(parted: Parted) -> Buckets:
    """Return the arrays of the kernel `buckets` for this process's parts, padded to equal sizes."""
    filler = buckets.of_sizes(parted.manifest["buckets"])
    here = jax.local_devices(backend="cpu")[0]
    arrays: dict[int, list[np.ndarray]] = {}
    for part in parted.own:
        n_edges = int(parted.array(part, "n_edge")[0])
        edges = (np.array(parted.array(part, name)[:n_edges]) for name in ("senders", "edges"))
        with jax.default_device(here):
            local = buckets.group_rows(np.array(parted.array(part, "indptr")), *edges)
            both = buckets.stacked([local, filler])
        arrays[part] = [np.array(x[0]) for x in jax.tree.leaves(both)]
    shapes = [x.shape for x in next(iter(arrays.values()))]
    stacks = [
        Stack((parted.n_parts, *shape), lambda part, n=n: arrays[part][n])
        for n, shape in enumerate(shapes)
    ]
    return jax.tree.unflatten(jax.tree.structure(filler), stacks)


def splits_of(parted: Parted) -> Splits:
    """Return the splits, which hold counts in memory and pairs on disk."""
    return Splits(*(cast(Any, parted.of(split)) for split in SPLITS))


@dataclass(frozen=True)
class PartedTask(UserTask):
    """The task of recommending items to users, from a data set partitioned on disk."""

    @classmethod
    def open(cls, config: Config, folder: str | Path, run: Path | None = None) -> "PartedTask":
        """Open the parts of this process's devices and check their files against the manifest.

        Args:
          run: the folder of the run, if it has begun; its data must be the same.

        Raises:
          InputError: a file is missing or damaged, a setting needs all pairs in memory, or ``run``
            began with other data.
        """
        parted = Parted.open(folder)
        refuse_other_parts(parted, config.mesh.table)
        _refuse(config, parted)
        if run is not None:
            check_data(run, parted)
        parted = replace(parted, own=own_parts(make_mesh(config.mesh)))
        parted.check()
        part = config.eval.select_on
        share = f"split.{part} is {getattr(parted.split, part, 0):g}"
        instead = "partition the data again with a higher one, or with --split.no-per-user"
        needs_pairs(config, parted.manifest["pairs"], share, instead)
        return cls(config, parted, splits_of(parted))

    @cached_property
    def _frozen(self) -> None:
        return None

    def check(self) -> None:
        train = self.splits.train
        check_limits(self.config, train.n_users, train.n_items, train.n_edges)

    def problem(
        self, phase: str, total: int | None, tx: optax.GradientTransformation | None
    ) -> PartedProblem:
        assert isinstance(self.dataset, Parted)
        return PartedProblem.of(self.config, self.dataset, total, tx)


def _refuse(config: Config, parted: Parted) -> None:
    """Raise InputError for a setting that cannot be used with a partitioned data set."""
    split = config.split
    if split.name == "auto":
        split = replace(split, name=parted.split.name)
    asked = {
        "filter": config.filter != FilterConfig(),
        "train.refit": config.train.refit,
        "mesh.memory host": config.mesh.memory == "host",
        "mesh.order locality": config.mesh.order == "locality",
        f"mesh.exchange {config.mesh.exchange}": config.mesh.exchange
        not in ("auto", parted.exchange),
        f"split.name {config.split.name} with these settings": config.split != SplitConfig()
        and split != parted.split,
    }
    for name, is_set in asked.items():
        if is_set:
            raise InputError(
                f"{parted.folder}: {name} cannot be used with data in parts, which are already "
                f"split ({parted.split.name}) and partitioned ({parted.exchange}); leave it out, "
                "or write the folder again with `jaxrec data partition`"
            )
