"""Ranking over all items: metrics, baselines, and the evaluation of a run."""

from jaxrec._packages import make_callable

make_callable(__name__, "jaxrec.evaluate.run", "evaluate")
