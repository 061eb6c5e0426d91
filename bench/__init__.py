"""Benchmarks, a module a case: ``python -m bench`` lists them, ``python -m bench CASE`` runs one."""
