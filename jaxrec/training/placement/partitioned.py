"""A run on a data set in parts: a process reads those of its own devices, and no others."""

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
    """The parts of ``table`` that devices of this process hold."""
    here = jax.process_index()
    column = enumerate(np.moveaxis(mesh.devices, mesh.axis_names.index(TABLE), 0))
    return tuple(t for t, of in column if any(device.process_index == here for device in of.flat))


def counted_parts(mesh: Mesh) -> tuple[int, ...]:
    """Those of them that no other process counts: the first along ``data`` does."""
    here, first = jax.process_index(), np.take(mesh.devices, 0, mesh.axis_names.index(DATA))
    return tuple(t for t, device in enumerate(first.flat) if device.process_index == here)


@dataclass(frozen=True, kw_only=True)
class PartedProblem(MeshProblem):
    """One phase of a run on a mesh whose parts lie on disk."""

    parted: Parted

    @classmethod
    def of(
        cls,
        config: Config,
        parted: Parted,
        total: int | None,
        tx: optax.GradientTransformation | RowOptimizer | None,
    ) -> "PartedProblem":
        """Put the parts of this process's devices on them.

        Raises:
          InputError: a part is missing or damaged, or what :meth:`MeshProblem.on` refuses.
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
        made = Partition(parted.layout, Shard(graph, send), parted.exchange, parted.traffic)
        place_N: Any = made.layout.place_N
        key, popular = keys(config, phase)[1], popularity(config, train)
        data = MeshData(made.shard, pairs, known, users, key, place_N, popular)
        sizes = Sizes(train.n_edges, train.n_users + 1, int((train.user_counts() > 0).sum()))
        more: dict[str, Any] = {"order": "data", "order_N": None, "partition_seconds": 0.0}
        more["parted"] = parted
        mesh = make_mesh(config.mesh)
        splits = splits_of(parted)
        return cls.on(mesh, config, splits, made, data, sizes, cadence, phase, tx, **more)

    def part(self, split: str) -> tuple[ItemsByUser, ItemsByUser]:
        """As in memory, of the parts of this process."""
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
        """As in memory: a process counts what its parts have."""
        counted = counted_parts(self.mesh)
        liked = [self.parted.rows(split, parts=counted) for split in SPLITS[:2]]

        def count(batch: Batch) -> np.ndarray:
            against = jax.tree.map(jnp.asarray, batch).negatives()
            neg_BN, used_BN = (np.asarray(x) for x in against)
            row_B1 = np.arange(len(neg_BN))[:, None] * self.stepper.n_items
            found = [
                int((np.isin(row_B1 + neg_BN, _keys(of, batch, row_B1)) & used_BN).sum())
                for of in liked
            ]
            known = processes.total(np.array(found, np.int32))
            return np.append(known, used_BN.sum(dtype=np.int32))

        return count

    def write_seen(self, run: Path, dataset: Dataset | Parted) -> None:
        """RUN/seen.npz by blocks of users, from the files of all parts: processes that have
        parts to themselves lay copies of what they have seen beside it meanwhile."""
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
    """What users of a batch have, as numbers of (place in the batch, item)."""
    of_batch = rows.take(np.asarray(batch.positives.user_B))
    return np.repeat(row_B1[:, 0], of_batch.degree) + of_batch.indices


def _items(rows: PartRows) -> Iterator[np.ndarray]:
    """All items by user, a block of users at a time."""
    n_users = len(rows.degree)
    for first in range(0, n_users, _USERS_AT_ONCE):
        yield rows.take(np.arange(first, min(first + _USERS_AT_ONCE, n_users))).indices


def _buckets(parted: Parted) -> Buckets:
    """The kernel's arrays of this process's parts, as large as those of all."""
    filler = buckets.of_sizes(parted.manifest["buckets"])
    here = jax.local_devices(backend="cpu")[0]
    made: dict[int, list[np.ndarray]] = {}
    for part in parted.own:
        n_edges = int(parted.array(part, "n_edge")[0])
        edges = (np.array(parted.array(part, name)[:n_edges]) for name in ("senders", "edges"))
        with jax.default_device(here):
            own = buckets.group_rows(np.array(parted.array(part, "indptr")), *edges)
            both = buckets.stacked([own, filler])
        made[part] = [np.array(x[0]) for x in jax.tree.leaves(both)]
    shapes = [x.shape for x in next(iter(made.values()))]
    stacks = [
        Stack((parted.n_parts, *shape), lambda part, n=n: made[part][n])
        for n, shape in enumerate(shapes)
    ]
    return jax.tree.unflatten(jax.tree.structure(filler), stacks)


def splits_of(parted: Parted) -> Splits:
    """The parts of the split, which have of a Dataset what is counted and no pairs."""
    return Splits(*(cast(Any, parted.of(split)) for split in SPLITS))


@dataclass(frozen=True)
class PartedTask(UserTask):
    """Items for users, from interactions that are never in one memory."""

    @classmethod
    def open(cls, config: Config, folder: str | Path, run: Path | None = None) -> "PartedTask":
        """The parts of this process's devices, each file of them as it was written.

        Args:
          run: what began with this data, where one did.

        Raises:
          InputError: a file is missing or damaged, or something is asked for that needs all pairs.
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
        instead = "partition the data anew, with a higher one or with --split.no-per-user"
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
    """Raise InputError at what a data set in parts cannot do, by its name."""
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
        f"split.name {config.split.name} as it is asked for": config.split != SplitConfig()
        and split != parted.split,
    }
    for name, unfit in asked.items():
        if unfit:
            raise InputError(
                f"{parted.folder}: {name} does not go with data in parts, which are cut, split "
                f"({parted.split.name}) and joined ({parted.exchange}) already; leave it out, or "
                "make the folder anew: `jaxrec data partition`"
            )
