"""Ranking over all items: metrics, baselines, and the evaluation of a finished run."""
