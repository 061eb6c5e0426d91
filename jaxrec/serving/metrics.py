"""Metrics of a server for Prometheus."""

import threading
from collections import Counter as Counts
from functools import cache
from typing import Any, get_args

import jax
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from jaxrec.serving.batching import THREAD
from jaxrec.serving.loaded_run import Source

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_COMPILED = "/jax/core/compile/backend_compile_duration"
_compiled: Counts[bool] = Counts()
"""Number of programs compiled in this process, by whether a ranking thread compiled them."""


@cache
def _watch() -> None:
    """Start to count compilations; later calls in the process have no effect."""

    def count(event: str, duration_secs: float, **more: Any) -> None:
        if event == _COMPILED:
            _compiled[threading.current_thread().name == THREAD] += 1

    jax.monitoring.register_event_duration_secs_listener(count)


def compiled_for_requests() -> int:
    """Return how many programs were compiled for requests.

    The count starts when the first :class:`Metrics` is created.
    """
    return _compiled[True]


class Metrics:
    """Metrics of one server, in a separate Prometheus registry."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        _watch()
        self._paths = frozenset(paths)
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "jaxrec_requests", "Requests answered.", ("path", "status"), registry=registry
        )
        self._lists = Counter(
            "jaxrec_lists", "Lists by what they are based on.", ("source",), registry=registry
        )
        self._seconds = Histogram(
            "jaxrec_request_seconds",
            "Time to answer a request.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._blocks = Histogram(
            "jaxrec_block_queries",
            "Queries ranked together in a block.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=registry,
        )
        self._reloads = Counter(
            "jaxrec_reloads", "Runs loaded after the first.", ("result",), registry=registry
        )
        self.pending = Gauge(
            "jaxrec_pending_queries", "Queries waiting to be ranked.", registry=registry
        )
        compiled = Gauge(
            "jaxrec_compilations_for_requests",
            "Programs compiled during requests; should be 0.",
            registry=registry,
        )
        compiled.set_function(compiled_for_requests)
        self._sizes = Gauge(
            "jaxrec_model_rows", "Users and items of the run.", ("side",), registry=registry
        )
        for result in ("loaded", "failed"):
            self._reloads.labels(result)
        for source in get_args(Source):
            self._lists.labels(source)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        path = path if path in self._paths else "other"
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def listed(self, source: Source) -> None:
        """Count a list of recommendations."""
        self._lists.labels(source).inc()

    def block(self, queries: int) -> None:
        """Count a ranked block of queries."""
        self._blocks.observe(queries)

    def reloaded(self, result: str) -> None:
        """Count a reload, whose result is "loaded" or "failed"."""
        self._reloads.labels(result).inc()

    def model(self, users: int, items: int) -> None:
        """Set the size of the run that is served."""
        self._sizes.labels("users").set(users)
        self._sizes.labels("items").set(items)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
