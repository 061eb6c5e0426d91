"""Evaluation: rankings over all items, their metrics and baselines, and finished runs."""
