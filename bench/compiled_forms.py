"""Forms of the product with the adjacency matrix, compiled for accelerators that are not here.

Needs the extra `compile`. Each form computes y = A x for a graph of Gowalla's size with exponential
degrees and D = 64. Nothing is timed: the figures are read from the compiled programs
(jaxrec/aot/hlo.py says how bytes are counted).
"""

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from bench import compiled
from bench.common import RESULTS, record
from jaxrec import presets
from jaxrec.aot import parent, shapes
from jaxrec.aot.targets import target
from jaxrec.graph.bipartite import Bipartite
from jaxrec.graph.buckets import Buckets
from jaxrec.graph.spmm import product
from jaxrec.platforms import compiled_for
from jaxrec.training.memory import Counts

GOWALLA = Counts(*compiled.GOWALLA)
DIM = 64


def cumulative_sum(graph: Bipartite, x_ND: jax.Array) -> jax.Array:
    """Sum all edges cumulatively, and subtract the sums at the ends of each row."""
    message_ED = graph.weights[:, None] * x_ND[graph.senders]
    total_ED = jnp.cumsum(jnp.pad(message_ED, ((1, 0), (0, 0))), axis=0)
    return total_ED[graph.indptr[1:]] - total_ED[graph.indptr[:-1]]


def gather_a_bucket(graph: Bipartite, x_ND: jax.Array) -> jax.Array:
    """Gather all edges of a bucket at once, and sum them by a product with the weights."""

    def of(buckets: Buckets, x_ND: jax.Array) -> jax.Array:
        def total(bucket: Any) -> jax.Array:
            return jnp.einsum("rw,rwd->rd", bucket.weight_RW, x_ND[bucket.sender_RW])

        parts = [total(bucket) for bucket in buckets.short]
        if buckets.pieces is not None and buckets.long is not None:
            parts.append(of(buckets.long, total(buckets.pieces)))
        return jnp.concatenate(parts)[buckets.place_R]

    assert graph.buckets is not None
    return of(graph.buckets, x_ND)


FORMS: dict[str, Callable[[Bipartite, jax.Array], jax.Array]] = {
    "segment_sum": partial(product, "segment_sum"),
    "buckets": partial(product, "buckets"),
    "one gather a bucket": gather_a_bucket,
    "cumulative sum": cumulative_sum,
}


def arguments() -> tuple[Bipartite, Any]:
    """Return the shapes of the graph and of the table."""
    config = presets.get("lightgcn")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, kernel="buckets"))
    graph = shapes.train_data(config, GOWALLA).graph
    n_nodes = GOWALLA.n_users + GOWALLA.n_items
    return graph, shapes.array(n_nodes, DIM, kind=jnp.float32)


def compile_forms(name: str, forms: list[str]) -> None:
    """Compile the forms for a target in this process, and record a line for each."""
    from jaxrec.aot import compiler, programs

    to = target(name)
    devices = compiler.devices_of(to)
    floor = 2 * GOWALLA.n_edges * DIM * 4
    for form in forms:
        with compiled_for(to.device.platform):
            program = programs.on_one_device(
                programs.Program(form, FORMS[form], arguments()), devices
            )
            made = compiler.compiled(program, to)
        read = made.reading
        record(
            "compiled-forms",
            form,
            [read["n_bytes"] - read["fast"]],
            "B",
            f"python -m bench compiled-forms --targets {name} --forms '{form}'",
            device=to.name,
            versions=compiled.plugins(),
            what=f"one product, {2 * GOWALLA.n_edges:,} edges, D = {DIM}: bytes of main memory",
            target=to.name,
            all_bytes=read["n_bytes"],
            floor_of_gathered_rows=floor,
            temporary=made.temporary,
            **{key: read[key] for key in ("kernels", "atomics", "gathers", "scatters", "loops")},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["v5e", "h200"])
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=[*FORMS])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in args.targets:
        if args.here:
            compile_forms(name, args.forms)
        else:
            own = ["--targets", name, "--forms", *args.forms, "--here"]
            command = [sys.executable, "-m", "bench.compiled_forms", *own]
            subprocess.run(command, env=parent.environment(), cwd=RESULTS.parents[1], check=True)


if __name__ == "__main__":
    main()
