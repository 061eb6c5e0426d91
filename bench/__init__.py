"""Benchmarks, a module a case: ``python -m bench`` lists them; with a CASE, it runs that one."""
