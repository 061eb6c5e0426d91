"""Test that no random key is used twice, by following each key through the traced programs."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from jaxrec import presets, randomness
from jaxrec.config import Config, SplitConfig
from jaxrec.data import synthetic, synthetic_items
from jaxrec.data.pair_split import split_pairs
from jaxrec.data.split import split
from jaxrec.evaluation.scorers import random_scorer
from jaxrec.graph import bipartite
from jaxrec.graph.spectral import spectral_table
from jaxrec.training.items.batch import stretches, windows
from jaxrec.training.items.problem import ItemProblem
from jaxrec.training.problem import Problem, keys

SIZES = {"communities": 4, "seed": 2}
DATA = synthetic.rated(
    synthetic.make(60, 50, 700, features=True, **SIZES), synthetic.truth(60, 50, **SIZES)
)
GRAPH = synthetic_items.make(60, 200, communities=4, seed=3, missing=0.3)


class Use(NamedTuple):
    """The use of a key by a primitive that draws bits from it or derives a child key."""

    key: tuple
    child: Any  # None if bits are drawn


class _Keys:
    """A walk over a jaxpr that names every key by the folds that derive it from an argument.

    ``split(key, n)[i]`` equals ``fold_in(key, i)``, so it gets the same name. A number that is
    unknown when the program is traced gets a new name.
    """

    def __init__(self) -> None:
        self.uses: list[Use] = []
        self._fresh = itertools.count()

    def new(self, what: str) -> tuple:
        return ((what, next(self._fresh)),)

    def walk(self, jaxpr: core.Jaxpr, inputs: list[Any], consts: list[Any]) -> list[Any]:
        names: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        names |= dict(zip(jaxpr.invars, inputs, strict=True))

        def of(atom: Any) -> Any:
            return ("literal", atom.val) if isinstance(atom, core.Literal) else names[atom]

        for eqn in jaxpr.eqns:
            for var, name in zip(
                eqn.outvars, self._made(eqn, [of(v) for v in eqn.invars]), strict=True
            ):
                names[var] = name
        return [of(v) for v in jaxpr.outvars]

    def _made(self, eqn: Any, given: list[Any]) -> list[Any]:
        kind = eqn.primitive.name
        if kind == "random_bits":
            self.uses.append(Use(given[0], None))
        if kind == "random_fold_in":
            number = given[1]
            if isinstance(number, tuple) and number[0] == "literal":
                number = int(number[1])
            self.uses.append(Use(given[0], number))
            return [(*given[0], number)]
        if kind == "random_split":
            count = int(np.prod(eqn.params["shape"]))
            self.uses += [Use(given[0], i) for i in range(count)]
            return [("of", given[0], tuple(range(count)))]
        if given and isinstance(given[0], tuple) and given[0][:1] == ("of",):
            _, parent, which = given[0]
            if kind == "unstack":  # a primitive since jax 0.12
                return [(*parent, i) for i in which]
            return [self._taken(eqn, parent, which)]
        if kind in _PASSED_ON or self._is_number(eqn, given):
            return given[:1]
        inner = list(_inner(eqn, given))
        made = [
            self.walk(closed.jaxpr, args, [("const", id(c)) for c in closed.consts])
            for closed, args in inner
        ]
        if kind in ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"):
            return made[0]
        return [self.new(kind) for _ in eqn.outvars]

    def _taken(self, eqn: Any, parent: tuple, which: tuple[int, ...]) -> Any:
        """Return some of a split's keys, or the key itself if only one remains."""
        kind, params = eqn.primitive.name, eqn.params
        if kind == "slice":
            which = which[params["start_indices"][0] : params["limit_indices"][0]]
            return ("of", parent, which)
        if kind in ("squeeze", "reshape") and len(which) == 1:
            return (*parent, which[0])
        assert kind not in ("gather", "dynamic_slice"), "a split is taken apart by static indices"
        return ("of", parent, which)

    def _is_number(self, eqn: Any, given: list[Any]) -> bool:
        """Return whether an equation only converts a known number to another type."""
        known = bool(given) and isinstance(given[0], tuple) and given[0][:1] == ("literal",)
        return known and eqn.primitive.name == "convert_element_type"


_PASSED_ON = ("broadcast_in_dim", "squeeze", "reshape", "copy", "random_wrap", "random_unwrap")


def _inner(eqn: Any, given: list[Any]) -> Iterator[tuple[core.ClosedJaxpr, list[Any]]]:
    """Yield the inner programs of an equation, with the inputs of each.

    A loop's inputs are those of its first iteration.
    """
    params, kind = eqn.params, eqn.primitive.name
    if kind == "while":
        n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
        carry = given[n_cond + n_body :]
        yield params["cond_jaxpr"], given[:n_cond] + carry
        yield params["body_jaxpr"], given[n_cond : n_cond + n_body] + carry
    elif kind == "cond":
        for branch in params["branches"][:1]:
            yield branch, given[1:]
    else:
        for name in ("jaxpr", "call_jaxpr"):
            if name in params:
                inner = params[name]
                if not isinstance(inner, core.ClosedJaxpr):
                    inner = core.ClosedJaxpr(inner, ())
                yield inner, given
                return


def reused(program: Any, *args: Any) -> list[tuple]:
    """Return the keys of a program that are used twice.

    Such a key draws twice, draws and has children, or has the same child twice.
    """
    closed = jax.make_jaxpr(program)(*args)
    keys = _Keys()
    names = [(("argument", i),) for i in range(len(closed.jaxpr.invars))]
    keys.walk(closed.jaxpr, names, [(("const", id(c)),) for c in closed.consts])
    assert keys.uses, "nothing was drawn"
    drawn = Counter(use.key for use in keys.uses if use.child is None)
    parents = {use.key for use in keys.uses if use.child is not None}
    twice = [key for key, times in drawn.items() if times > 1 or key in parents]
    children = Counter((*use.key, use.child) for use in keys.uses if use.child is not None)
    return twice + [key for key, times in children.items() if times > 1]


def test_the_walk_finds_what_is_used_twice():
    key = jax.random.key(0)

    def folds_what_it_split(key):
        first, second = jax.random.split(key)
        return jax.random.bits(jax.random.fold_in(key, 1)), jax.random.normal(second), first

    def draws_and_folds(key):
        return jax.random.randint(key, (3,), 0, 5), jax.random.bits(jax.random.fold_in(key, 1))

    def within_a_loop(key):
        def step(i, x):
            return x + jax.random.normal(key)

        return jax.lax.fori_loop(0, 3, step, jnp.float32(0)) + jax.random.uniform(key)

    def sound(key, step):
        first, second = jax.random.split(key)
        again = jax.vmap(lambda i: jax.random.fold_in(second, i))(jnp.arange(3) + step)
        return jax.random.normal(first), jax.vmap(jax.random.bits)(again)

    assert reused(lambda key: (jax.random.normal(key), jax.random.uniform(key)), key)
    for program in (folds_what_it_split, draws_and_folds, within_a_loop):
        assert reused(program, key), program.__name__
    assert not reused(sound, key, jnp.int32(3))


def small(name: str, **negatives: Any) -> Config:
    """Return a preset's configuration with narrow embeddings."""
    config = presets.get(name)
    model = dataclasses.replace(config.model, dim=8)
    train = dataclasses.replace(config.train, batch_size=64)
    more = {"negatives": dataclasses.replace(config.negatives, **negatives)} if negatives else {}
    return dataclasses.replace(config, model=model, train=train, **more)


def built(config: Config) -> Problem | ItemProblem:
    if not config.objective.users:
        return ItemProblem.build(config, split_pairs(GRAPH, config.pairs, 0))
    return Problem.build(config, split(DATA, SplitConfig(), 0))


def batch_of(of: Any) -> Any:
    """Return the function that draws the batch of a step."""
    if not isinstance(of, ItemProblem):
        return of.stepper.feed

    def drawn(data: Any, step: Any) -> Any:
        some = stretches(of.config, data, step[None])
        return windows(of.config, data, jax.tree.map(lambda x: x[0], some))

    return drawn


def check(of: Problem | ItemProblem) -> None:
    """Check that neither a step's batch nor the initial state uses a key twice."""
    batch = batch_of(of)
    assert reused(batch, of.data, jnp.int32(0)) == []
    with jax.debug_key_reuse(True):  # jax's check, which misses folded keys
        jax.make_jaxpr(batch)(of.data, jnp.int32(0))

    def begin(key: Any) -> Any:
        return dataclasses.replace(of, init_key=key).initial_state()

    # Tables of zeros and of frozen vectors need no random numbers.
    assert reused(begin, of.init_key) == []


def draws(name: str) -> bool:
    """Return whether a preset trains its own model, unlike a filter or the search `auto`."""
    config = presets.get(name)
    return config.model.name != "filter" and config.minutes is None


@pytest.mark.long_but("lightgcn", "biased-mf", "gcmc-ratings", "ngcf")
@pytest.mark.parametrize("name", [*filter(draws, presets.PRESETS)])
def test_no_preset_uses_a_key_twice(name):
    check(built(small(name)))


def test_negatives_that_were_shown_have_a_key_of_their_own():
    of = built(small("lightgcn", count=2))
    check(dataclasses.replace(of, data=of.data._replace(shown=of.data.known)))


def test_the_noise_of_a_spectral_table_is_not_its_start():
    graph = bipartite.build(DATA)
    assert reused(lambda key: spectral_table(graph, 60, 64, 1, 0.1, key), jax.random.key(0)) == []


def test_the_children_of_a_seed_are_told_apart():
    config = small("quickstart")
    bits = [
        jax.random.key_data(key) for phase in ("search", "refit") for key in keys(config, phase)
    ]
    chance = random_scorer(config.seed, 5).params[0]
    of_users = [jax.random.fold_in(chance, user) for user in range(4)]
    bits += map(jax.random.key_data, [chance, *of_users, jax.random.key(config.seed)])
    assert len({tuple(np.asarray(x).tolist()) for x in bits}) == len(bits)
    for purposes in (randomness.OfSeed, randomness.OfData, randomness.OfItems):
        assert len(set(map(int, purposes))) == len(purposes.__members__)
