"""A training step of an embedding table that grows: row-sparse optimizers beside dense Adam.

Each step reads and updates 8,192 random rows of D = 64: drawing them, finding the distinct ones
and summing their gradients is in the figures of all.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bench.common import device, record, seconds
from jaxrec import rowwise

BATCH, DIM = 8192, 64
Draw = tuple[jax.Array, jax.Array]


def draw(step: jax.Array, n_rows: int) -> Draw:
    """Return random rows and random gradients for them."""
    row_key, grad_key = jax.random.split(jax.random.fold_in(jax.random.key(0), step))
    row_B = jax.random.randint(row_key, (BATCH,), 0, n_rows)
    return row_B, 1e-3 * jax.random.normal(grad_key, (BATCH, DIM))


def sparse(optimizer: rowwise.RowOptimizer, n_rows: int) -> tuple[Callable, Any]:
    """Return one step of a row-sparse optimizer, and its initial state."""

    def step(i: jax.Array, carry: tuple[jax.Array, rowwise.RowState]) -> tuple:
        row_B, grad_BD = draw(i, n_rows)
        row_R, slot_B = rowwise.distinct(row_B, n_rows)
        grad_RD = jnp.zeros((BATCH, DIM)).at[slot_B].add(grad_BD)
        return optimizer.write(*carry, row_R, optimizer.read(*carry, row_R), grad_RD)

    table = jnp.zeros((n_rows, DIM))
    return step, (table, optimizer.init(table))


def dense(n_rows: int) -> tuple[Callable, Any]:
    """Return one step of optax's Adam on the whole table."""
    tx = optax.adam(1e-3)

    def step(i: jax.Array, carry: tuple[jax.Array, optax.OptState]) -> tuple:
        row_B, grad_BD = draw(i, n_rows)
        table, state = carry
        update, state = tx.update(jnp.zeros_like(table).at[row_B].add(grad_BD), state)
        return optax.apply_updates(table, update), state

    table = jnp.zeros((n_rows, DIM))
    return step, (table, tx.init(table))


def measure(made: tuple[Callable, Any], steps: int, rounds: int) -> list[float]:
    """Measure milliseconds per step, in dispatches of several steps."""
    step, carry = made

    def run(start: jax.Array, carry: Any) -> Any:
        return jax.lax.fori_loop(start, start + steps, step, carry)

    compiled, begun = jax.jit(run, donate_argnums=1), 0

    def call() -> None:
        nonlocal carry, begun
        carry = jax.block_until_ready(compiled(jnp.int32(begun), carry))
        begun += steps

    return [1e3 * value / steps for value in seconds(call, repeats=rounds, warmup=2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[100_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    rate = optax.constant_schedule(1e-3)
    optimizers = {
        "sgd": rowwise.sgd(rate),
        "adagrad": rowwise.adagrad(rate),
        "rowwise_adagrad": rowwise.adagrad(rate, rowwise=True),
        "adam": rowwise.adam(rate, 100_000),
    }

    def line(impl: str, values: list[float], rows: int) -> None:
        extra = {"what": f"step of a table of {rows:,} rows", "rows": rows, "batch": BATCH}
        extra |= {"dim": DIM, "device": device()}
        record("tables", impl, values, "ms", "python -m bench tables", **extra)

    for rows in args.rows:
        for name, optimizer in optimizers.items():
            line(f"jaxrec {name}", measure(sparse(optimizer, rows), 20, args.rounds), rows)
        line("optax adam, dense", measure(dense(rows), 2, args.rounds), rows)


if __name__ == "__main__":
    main()
