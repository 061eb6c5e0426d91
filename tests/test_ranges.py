"""Test that every number of the configuration has a range, and that values in the range start.

JAXREC_EXTREMES is the number of configurations with extreme values that are tried. 1,000 found the
faults that have been fixed; the default keeps the suite short.
"""

import dataclasses
import math
import os
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Annotated, Any

import jax
import numpy as np
import pytest

from jaxrec import config as configs
from jaxrec import presets, train
from jaxrec.config import Config, EvalConfig, ModelConfig, OptimConfig, TrainConfig
from jaxrec.config.checks import Range
from jaxrec.data import synthetic, synthetic_items
from jaxrec.data.dataset import Dataset
from jaxrec.errors import InputError, RunError
from jaxrec.training import loop, pre_run_checks
from jaxrec.training.schedule import Cadence

EXTREMES = int(os.environ.get("JAXREC_EXTREMES", "60"))
MEMORY = 2**29
"""Assumed memory of the machine in bytes, so that all programs stay small."""


class Leaf(typing.NamedTuple):
    """A field that is not a section: its section's name ("" for Config itself), name and type."""

    section: str
    name: str
    kind: Any

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}".lstrip(".")

    @property
    def ranges(self) -> list[Range]:
        return [m for m in getattr(self.kind, "__metadata__", ()) if isinstance(m, Range)]


def plain(kind: Any) -> set[Any]:
    """Return the types that occur in a field's value."""
    args = typing.get_args(kind)
    if typing.get_origin(kind) is Annotated:
        return plain(args[0])
    if typing.get_origin(kind) is typing.Literal or not args:
        return {kind}
    return set().union(*(plain(a) for a in args if a not in (type(None), Ellipsis)))


def leaves(cls: type = Config, section: str = "") -> Iterator[Leaf]:
    for name, kind in typing.get_type_hints(cls, include_extras=True).items():
        if dataclasses.is_dataclass(kind):
            yield from leaves(kind, name)
        else:
            yield Leaf(section, name, kind)


LEAVES = list(leaves())
NUMBERS = [leaf for leaf in LEAVES if plain(leaf.kind) & {int, float}]


def made(leaf: Leaf, value: Any, base: Config | None = None) -> Config:
    """Return a configuration with one value changed, converted as if read from a file."""
    values = configs.to_dict(base or Config())
    (values[leaf.section] if leaf.section else values)[leaf.name] = value
    return configs.from_dict(values)


def test_the_walk_finds_the_fields():
    found = {leaf.path for leaf in NUMBERS}
    assert {"seed", "model.dim", "eval.k", "optim.clip_norm", "walks.p", "mesh.data"} <= found


@pytest.mark.parametrize("leaf", NUMBERS, ids=[leaf.path for leaf in NUMBERS])
def test_every_number_has_a_range_that_is_checked(leaf):
    (kind,) = plain(leaf.kind)
    (of,) = leaf.ranges  # declared beside the field, as Annotated[int, Range(1, 100)]
    assert -math.inf < of.least < of.most < math.inf
    step = 1 if kind is int else abs(of.least) or 1.0
    outside = [of.least - step, of.most + 1 if kind is int else 2 * of.most]
    outside += [of.most] if of.below else []
    outside += [10**400] if kind is int else [math.nan, math.inf, -math.inf, 10**400]
    count = 2 if leaf.name == "hard_ranks" else 1
    for value in outside:
        in_list = isinstance(getattr(_section(leaf), leaf.name), tuple)
        with pytest.raises(InputError) as caught:
            made(leaf, [value] * count if in_list else value)
        message = str(caught.value)
        assert message.startswith(leaf.path), message
        assert len(message.splitlines()) == 1


def _section(leaf: Leaf) -> Any:
    return getattr(Config(), leaf.section) if leaf.section else Config()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": np.array([5, 10]).tolist(), "metric": None}, (5, 10)),
        ({"k": (np.int64(7),)}, (7,)),
    ],
)
def test_numbers_of_numpy_and_lists_become_what_a_file_says(options, said):
    values = {"eval": options}
    found = configs.from_dict(values)
    assert found.eval.k == said
    assert all(type(k) is int for k in found.eval.k)
    assert configs.from_dict(configs.to_dict(found)) == found
    hash(found)


@pytest.mark.long
def test_a_text_is_one_that_a_file_could_have():
    for leaf in LEAVES:
        if plain(leaf.kind) != {str}:
            continue
        in_list = isinstance(getattr(_section(leaf), leaf.name), tuple)
        for text in ("", "a\0b", "\ud800", "x" * 100_000):
            with pytest.raises(InputError) as caught:
                made(leaf, [text] if in_list else text)
            assert str(caught.value).startswith(leaf.path)
            assert len(str(caught.value)) < 700


ITEMS = synthetic_items.make(40, 80, communities=4, missing=0.1)


def users() -> Dataset:
    """Return data with ratings and features."""
    data = synthetic.make(40, 30, 300, communities=3, seed=1, features=True)
    rating = (np.arange(data.n_edges) % 5 + 1).astype(np.float32)
    return dataclasses.replace(data, rating=rating)


def bases() -> dict[str, Config]:
    """Return configurations of small runs, by name, for all models and losses."""
    found = {}
    for name in ("mf", "lightgcn", "ngcf", "gcmc", "pinsage", "two-tower", "biased-mf", "skipgram"):
        base = presets.get(name)
        found[name] = dataclasses.replace(
            base,
            train=dataclasses.replace(base.train, epochs=2, batch_size=64, refit=False),
            eval=EvalConfig(k=(5,)),
            log=dataclasses.replace(base.log, doctor=False),
        )
    found["host"] = dataclasses.replace(
        found["mf"], mesh=dataclasses.replace(found["mf"].mesh, memory="host")
    )
    return found


def values_of(leaf: Leaf, random: Random) -> Any:
    """Return an extreme value of a field."""
    (kind, *others) = sorted(plain(leaf.kind), key=str)
    assert not others
    if typing.get_origin(kind) is typing.Literal:
        options: list[Any] = list(typing.get_args(kind))
    elif kind is bool:
        options = [True, False]
    elif kind is str:
        options = ["", "x", "a\0b", "\ud800", "y" * 5000, "é" * 300]
    else:
        of = leaf.ranges[0]
        options = [of.least, of.least, of.most, of.most, 0, 1, 2, -1, 2**31, 2**63, 10**30]
        if kind is int:
            options += [of.least - 1, of.most + 1, of.least + 1, of.most - 1]
        else:
            options += [math.nan, math.inf, -math.inf, 1e-300, 1e300, 1e-45, 1e38, 0.999999, -0.0]
    if isinstance(getattr(_section(leaf), leaf.name), tuple):
        some = [random.choice(options) for _ in range(random.choice((0, 1, 2, 2, 3)))]
        return random.choice((some, some, some * 2, [random.choice(options)] * 5000))
    if type(None) in typing.get_args(leaf.kind) + typing.get_args(typing.get_args(leaf.kind)[0:1]):
        options.append(None)
    return random.choice(options)


class _Started(Exception):
    """Raised when the first step is reached."""


def _stop(self: Any, dispatch: Any, state: Any, step: int) -> Any:
    state, totals = dispatch(state, self.problem.data, self.problem.number(1))
    jax.block_until_ready(totals)
    raise _Started


@pytest.fixture
def small(monkeypatch):
    """Simulate a machine with little memory, and end runs at their first step."""
    monkeypatch.setattr(pre_run_checks, "memory_limit", lambda: MEMORY)
    monkeypatch.setattr(loop, "memory_limit", lambda: MEMORY)
    monkeypatch.setattr(loop.Loop, "_advance", _stop)


@pytest.mark.long
def test_what_is_not_refused_when_it_is_made_starts(tmp_path, monkeypatch, small):
    """Refuse each configuration in a plain line, or let its run take a step or fail plainly."""
    monkeypatch.chdir(tmp_path)
    every, of_users = bases(), users()
    ends = [tried(number, every, of_users, tmp_path / str(number)) for number in range(EXTREMES)]
    wrong = [end for end in ends if end not in ("refused", "failed", "started")]
    assert not wrong, "\n".join(wrong)
    assert min(ends.count("refused"), ends.count("started")) > EXTREMES / 20


def tried(number: int, every: dict[str, Config], of_users: Dataset, run: Path) -> str:
    """Return how a configuration of extreme values ends: in a word, or with a fault described."""
    random = Random(number)
    name = random.choice(list(every))
    leaf = LEAVES[number % len(LEAVES)] if number % 2 else random.choice(NUMBERS)
    changed = {leaf.path: values_of(leaf, random)}
    if random.random() < 0.3:
        other = random.choice(NUMBERS)
        changed[other.path] = values_of(other, random)
    values = configs.to_dict(every[name])
    for path, value in changed.items():
        section, _, field = path.rpartition(".")
        (values[section] if section else values)[field] = value
    what = f"number {number}: {name} with {str(changed)[:300]}"
    try:
        return _begun(values, of_users, run)
    except (InputError, RunError) as e:
        if len(str(e).splitlines()) > 2:
            return f"{what}: {e}"
        if isinstance(e, RunError):
            return "failed"
        return f"{what}: refused ({e}) once there was a folder" if run.exists() else "refused"
    except Exception as e:
        return f"{what}: {type(e).__name__}: {str(e)[:500]}"


def _begun(values: dict[str, Any], of_users: Dataset, run: Path) -> str:
    config = configs.from_dict(values)
    data: Any = of_users if config.objective.users else ITEMS
    if config.data not in ("synthetic", "synthetic-features", "synthetic-ratings"):
        data = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # extreme values overflow
            train(config, data=data, run=run, quiet=True)
    except _Started:
        pass
    return "started"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"eval": EvalConfig(k=(5, 1000))}, "eval.k 1000: lists hold at most 50 items, and there"),
        ({"optim": OptimConfig(warmup_steps=500)}, "optim.warmup_steps 500 exceed the 10"),
        (
            {"optim": OptimConfig(schedule="cosine", cycles=11)},
            "optim.cycles 11 exceed the 10 steps",
        ),
        (
            {"train": TrainConfig(epochs=2**31 - 1, batch_size=8)},
            "train.epochs 2,147,483,647 with .* steps, but a run has at most 2,147,483,647",
        ),
        (
            {"train": TrainConfig(batch_size=2**24)},
            "at least .* of memory .*of it for a batch.* smaller train.batch_size",
        ),
        (
            {
                "model": ModelConfig("mf", dim=2**16, layers=0),
                "train": TrainConfig(steps=10, batch_size=2),
            },
            "for tables of nodes",
        ),
    ],
)
def test_what_the_data_and_the_machine_have_no_room_for_leaves_no_folder(
    changed, said, tmp_path, monkeypatch
):
    monkeypatch.setattr(pre_run_checks, "memory_limit", lambda: 2**26)
    base = Config(model=ModelConfig("mf", dim=4, layers=0), train=TrainConfig(steps=10))
    config = dataclasses.replace(base, **changed)
    with pytest.raises(InputError, match=said):
        train(config, data=users(), run=tmp_path / "run", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_step_that_does_not_fit_is_no_out_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "memory_limit", lambda: 1000)
    config = Config(model=ModelConfig("mf", dim=4, layers=0), train=TrainConfig(steps=2))
    with pytest.raises(RunError, match=r"a step needs .* of memory, but only 1 kB are available"):
        train(config, data=users(), run=tmp_path / "run", quiet=True)


def test_a_cadence_of_the_largest_numbers_is_arithmetic():
    config = Config(train=TrainConfig(steps=2**31 - 1))
    made = Cadence.of(config, 300)
    assert made.next_boundary(2**31 - 2) == 2**31 - 1
